/* dsm-guard: ends the processes of a `dsm run` that was itself killed, and could end nothing any more.
 *
 * `dsm run` starts it before the first rank and holds the only other end of its descriptor 3, on which it says, a line
 * each (src/cli/run/run-guard.ts):
 *
 *   starts TEXT  a rank is being started, which has TEXT in its environment
 *   rank PID     the rank has been started; it leads a process session
 *   gone PID     the rank, and all processes of its session, have ended
 *   role PID     a daemon or server of this run alone
 *   groups       /proc counts processes in another PID namespace: only process groups can be found
 *   done         the run has ended: nothing is to be done
 *
 * The end of input without "done" means that `dsm run` is dead. Then each process of each rank's session gets SIGTERM,
 * and SIGKILL after END_TIMEOUT_MS, and a line on standard error says so; after that each role gets SIGTERM. Not covered are processes that have left their
 * rank's session (setsid), as at any other end of a run. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <dsm/dsm.h>

#define INPUT 3
/* A daemon and a server. */
#define ROLES_MAX 2
#define LINE_BYTES 256
#define ENVIRONMENT_BYTES (1u << 20)

/* As in src/cli/run/hosts/node.ts: between SIGTERM and SIGKILL. */
#define END_TIMEOUT_MS 2000
/* A process in a system call that cannot be interrupted outlives SIGKILL; it ends by itself when the call does. */
#define KILL_TIMEOUT_MS 10000
/* How long a rank that is being started may take until its program runs. */
#define START_TIMEOUT_MS 1000
#define PAUSE_MS 20

static pid_t ranks[DSM_PROCESSES_MAX];
static unsigned rank_count;
static pid_t roles[ROLES_MAX];
static unsigned role_count;
static int only_groups;
/* The mark of the rank that is being started; empty: none is. */
static char starting[LINE_BYTES];

static void pause_ms(long ms) {
  struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

/* Takes one line. Returns 1 if it was the last: nothing is to be done. */
static int take(const char *line) {
  if (strcmp(line, "done") == 0) return 1;
  if (strcmp(line, "groups") == 0) only_groups = 1;
  if (strncmp(line, "starts ", 7) == 0) snprintf(starting, sizeof starting, "%s", line + 7);
  const char *space = strchr(line, ' ');
  pid_t pid = space == NULL ? 0 : (pid_t)atoi(space + 1);
  /* 0 and 1 would mean other processes than that one. */
  if (pid <= 1) return 0;
  if (strncmp(line, "rank ", 5) == 0) {
    starting[0] = 0;
    if (rank_count < DSM_PROCESSES_MAX) ranks[rank_count++] = pid;
  } else if (strncmp(line, "gone ", 5) == 0) {
    for (unsigned i = 0; i < rank_count; i++)
      if (ranks[i] == pid) ranks[i--] = ranks[--rank_count];
  } else if (strncmp(line, "role ", 5) == 0 && role_count < ROLES_MAX) {
    roles[role_count++] = pid;
  }
  return 0;
}

/* Reads until the other end is closed. Returns 1 if there is nothing to do. */
static int read_all(void) {
  char text[LINE_BYTES];
  size_t have = 0;
  for (;;) {
    ssize_t got = read(INPUT, text + have, sizeof text - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    have += (size_t)got;
    for (char *end; (end = memchr(text, '\n', have)) != NULL;) {
      *end = 0;
      if (take(text)) return 1;
      have -= (size_t)(end + 1 - text);
      memmove(text, end + 1, have);
    }
    /* No line is so long: `dsm run` is not what writes here. */
    if (have == sizeof text) return 1;
  }
}

/* Reads a file of /proc/PID. Returns its length, at most `size`, or -1. */
static ssize_t read_file(const char *pid, const char *name, char *to, size_t size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%.20s/%s", pid, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  size_t have = 0;
  ssize_t got;
  while (have < size && (got = read(fd, to + have, size - have)) > 0) have += (size_t)got;
  close(fd);
  return (ssize_t)have;
}

static int is_session_of_rank(pid_t session) {
  for (unsigned i = 0; i < rank_count; i++)
    if (ranks[i] == session) return 1;
  return 0;
}

/* Sends the signals to the process groups that ranks lead. Returns how many there are, with those of dead processes that
 * were not collected yet. */
static unsigned signal_groups(int first, int second) {
  unsigned living = 0;
  for (unsigned i = 0; i < rank_count; i++) {
    living += kill(-ranks[i], first) == 0;
    if (second != 0) kill(-ranks[i], second);
  }
  return living;
}

/* Sends the signals to all living processes of the ranks' sessions. Returns how many there are. */
static unsigned signal_sessions(int first, int second) {
  if (only_groups) return signal_groups(first, second);
  DIR *all = opendir("/proc");
  if (all == NULL) return 0;
  unsigned living = 0;
  for (struct dirent *entry; (entry = readdir(all)) != NULL;) {
    char stat[512];
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    ssize_t length = read_file(entry->d_name, "stat", stat, sizeof stat - 1);
    if (length <= 0) continue;
    stat[length] = 0;
    /* The second field is the program's name in parentheses, and may hold anything. */
    const char *rest = strrchr(stat, ')');
    char state = 0;
    int session = 0;
    if (rest == NULL || sscanf(rest + 1, " %c %*d %*d %d", &state, &session) != 2) continue;
    if (state == 'Z' || state == 'X' || !is_session_of_rank(session)) continue;
    living++;
    kill((pid_t)atoi(entry->d_name), first);
    if (second != 0) kill((pid_t)atoi(entry->d_name), second);
  }
  closedir(all);
  return living;
}

/* Returns whether the process has the mark of the rank that is being started in its environment. */
static int is_starting(const char *pid, char *environment) {
  ssize_t length = read_file(pid, "environ", environment, ENVIRONMENT_BYTES);
  return length > 0 && memmem(environment, (size_t)length, starting, strlen(starting)) != NULL;
}

/* `dsm run` was killed while it started a rank: finds its process, once it runs its program. */
static void find_starting(void) {
  if (only_groups) return;
  char *environment = malloc(ENVIRONMENT_BYTES);
  for (int left = START_TIMEOUT_MS; environment != NULL && starting[0] != 0 && left > 0; left -= PAUSE_MS) {
    DIR *all = opendir("/proc");
    if (all == NULL) break;
    for (struct dirent *entry; (entry = readdir(all)) != NULL && starting[0] != 0;) {
      if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || !is_starting(entry->d_name, environment)) continue;
      pid_t session = getsid((pid_t)atoi(entry->d_name));
      if (session > 1 && session != getsid(0) && rank_count < DSM_PROCESSES_MAX) {
        ranks[rank_count++] = session;
        starting[0] = 0;
      }
    }
    closedir(all);
    if (starting[0] != 0) pause_ms(PAUSE_MS);
  }
  free(environment);
}

/* Says what happens, if stderr can be written at once: nothing may keep this from its work. */
static void say_killed(void) {
  static const char line[] = "dsm: dsm run was killed; its processes are being ended\n";
  struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
  if (poll(&out, 1, 0) != 1 || (out.revents & POLLOUT) == 0) return;
  if (write(STDERR_FILENO, line, sizeof line - 1) < 0) return; /* it has no reader */
}

static int guard(void) {
  /* What ends `dsm run` must not end this. */
  static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE};
  for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) signal(ignored[i], SIG_IGN);
  if (read_all()) return 0;
  find_starting();
  /* Ranks on other hosts, which end when their connection to `dsm run` does, have as long as those here. */
  if (rank_count == 0) pause_ms(END_TIMEOUT_MS);
  /* A stopped process does not handle SIGTERM before it goes on. */
  unsigned living = signal_sessions(SIGTERM, SIGCONT);
  if (living > 0) say_killed();
  for (int left = END_TIMEOUT_MS; living > 0 && left > 0; left -= PAUSE_MS) {
    pause_ms(PAUSE_MS);
    living = signal_sessions(0, 0);
  }
  for (int left = KILL_TIMEOUT_MS; living > 0 && left > 0; left -= PAUSE_MS) {
    living = signal_sessions(SIGKILL, 0);
    pause_ms(PAUSE_MS);
  }
  for (unsigned i = 0; i < role_count; i++) kill(roles[i], SIGTERM);
  return 0;
}

/* In place of the start files of the C library where this is built, which need that version or a newer one. */
__attribute__((force_align_arg_pointer, noreturn)) void _start(void);
void _start(void) {
  _exit(guard());
}
