#define _GNU_SOURCE
#include "link/find_arbiter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptor.h"
#include "base/quiet.h"
#include "base/status.h"
#include "link/channel.h"
#include "link/find_binary.h"
#include "link/interrupts.h"
#include "link/launch.h"
#include "link/stale.h"

/* The most time that a started arbiter may take until it listens. */
#define ARBITER_TIMEOUT_MS 30000
/* The pause between two attempts to take the lock file, of a thread whose interrupts may end the wait. */
#define LOCK_PAUSE_NS 10000000
/* How long to look for an arbiter elsewhere once ours was refused, and the pause between two looks. */
#define ELSEWHERE_TIMEOUT_MS 3000
#define ELSEWHERE_PAUSE_NS 10000000

/* Handles "START ERRNO" or "RUN ERRNO", from launch(). */
static int launch_failed(const char *text, const char *path) {
  int running = strncmp(text, "RUN ", 4) == 0, error = atoi(strchr(text, ' ') != NULL ? strchr(text, ' ') : "");
  if (running && error == ENOENT)
    return dsm_fail(DSM_SYSTEM, "cannot run %s: it, or the loader it names, is not there", path);
  if (running && error == EACCES)
    return dsm_fail(DSM_SYSTEM, "cannot run %s: %s; make it executable, and its file system not noexec", path,
                    strerror(error));
  if (running) return dsm_fail(dsm_status_of(error, DSM_SYSTEM), "cannot run %s: %s", path, strerror(error));
  if (error == EAGAIN)
    return dsm_fail(
        DSM_LIMIT, "cannot start the arbiter: no further process is allowed; raise ulimit -u, or the pids limit of the "
                   "container");
  return dsm_fail(dsm_status_of(error, DSM_SYSTEM), "cannot start the arbiter: %s", strerror(error));
}

/* Arbiters run in less, but not by much: they reserve addresses, and have 8 threads. */
#define ADDRESSES_MIN (8ull << 30)
#define DATA_MIN (1ull << 30)
#define TASKS_MIN 64

/* Returns whether the limit of this process, which the arbiter inherits, is below `least`. */
static int is_below(__rlimit_resource_t resource, uint64_t least, unsigned long long *limit) {
  struct rlimit found;
  if (getrlimit(resource, &found) != 0 || found.rlim_cur == RLIM_INFINITY) return 0;
  *limit = found.rlim_cur;
  return found.rlim_cur < least;
}

/* Handles the end of an arbiter that has said nothing: it could not even begin, or was killed. */
static int ended_early(const char *path) {
  unsigned long long limit;
  char why[120] = "memory may have run out";
  /* Its runtime cannot begin without, and neither can dsm doctor. */
  if (access("/proc/self/exe", F_OK) != 0)
    return dsm_fail(
        DSM_SYSTEM,
        "the arbiter (%s arbiter) ended before it was ready: /proc is not mounted here; mount it with mount "
        "-t proc proc /proc",
        path);
  if (is_below(RLIMIT_AS, ADDRESSES_MIN, &limit))
    snprintf(why, sizeof why, "its address space is limited to %llu KiB; lift that with ulimit -v unlimited",
             limit >> 10);
  else if (is_below(RLIMIT_DATA, DATA_MIN, &limit))
    snprintf(why, sizeof why, "its data is limited to %llu KiB; lift that with ulimit -d unlimited", limit >> 10);
  else if (geteuid() != 0 && is_below(RLIMIT_NPROC, TASKS_MIN, &limit))
    snprintf(why, sizeof why, "this user may have %llu processes and threads; raise ulimit -u", limit);
  return dsm_fail(DSM_SYSTEM,
                  "the arbiter (%s arbiter) ended before it was ready: %s; \"dsm doctor\" checks this machine", path,
                  why);
}

/* Handles one line of output of the arbiter. Returns DSM_OK for "ready", -1 to read on, or the status of an "error"
 * line. */
static int status_line(char *line, const char *path) {
  if (strcmp(line, "ready") == 0) return DSM_OK;
  if (strncmp(line, "note ", 5) == 0) {
    if (!is_quiet()) fprintf(stderr, "dsm: %s\n", line + 5);
    return -1;
  }
  if (strncmp(line, "error ", 6) == 0) {
    char *text = strchr(line + 6, ' ');
    if (text != NULL) {
      *text = 0;
      return dsm_fail(dsm_status_by_name(line + 6), "%s", text + 1);
    }
  }
  if (strncmp(line, "failed ", 7) == 0) return launch_failed(line + 7, path);
  return dsm_fail(DSM_PROTOCOL, "the arbiter said \"%.100s\"", line);
}

static int await_ready(int fd, const char *path) {
  long long deadline = now_ms() + ARBITER_TIMEOUT_MS;
  char text[1024];
  size_t have = 0;
  for (;;) {
    char *end;
    while ((end = memchr(text, '\n', have)) != NULL) {
      *end = 0;
      int status = status_line(text, path);
      if (status >= 0) return status;
      have -= (size_t)(end + 1 - text);
      memmove(text, end + 1, have);
    }
    if (have == sizeof text) return dsm_fail(DSM_PROTOCOL, "%s is not the dsm program; set DSM_BIN to its path", path);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    long long left = deadline - now_ms();
    if (left <= 0)
      return dsm_fail(DSM_TIMEOUT, "the arbiter (%s) did not get ready in %d ms", path, ARBITER_TIMEOUT_MS);
    int ready = poll(&poll_fd, 1, interrupts_slice((int)left));
    if (ready <= 0 && interrupts_raised())
      return dsm_fail(DSM_TIMEOUT, "the start of the arbiter (%s) was interrupted", path);
    if (ready <= 0) continue;
    ssize_t got = read(fd, text + have, sizeof text - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return ended_early(path);
    have += (size_t)got;
  }
}

static int start_arbiter(const dsm_config *config, const struct arbiter_place *place) {
  char path[PATH_MAX];
  int status = find_binary(config, path);
  if (status != DSM_OK) return status;
  char processes[16], size[24];
  snprintf(processes, sizeof processes, "%u", config->processes);
  snprintf(size, sizeof size, "%llu", (unsigned long long)config->size);
  char *arguments[32];
  int count = 0;
  arguments[count++] = path;
  arguments[count++] = "arbiter";
  arguments[count++] = "--session";
  arguments[count++] = (char *)config->session;
  arguments[count++] = "--node";
  arguments[count++] = (char *)config->node;
  arguments[count++] = "--daemon";
  arguments[count++] = (char *)config->daemon;
  arguments[count++] = "--socket";
  arguments[count++] = (char *)place->socket;
  arguments[count++] = "--status-fd";
  arguments[count++] = "1";
  if (config->processes != 0) {
    arguments[count++] = "--processes";
    arguments[count++] = processes;
  }
  if (config->size != 0) {
    arguments[count++] = "--size";
    arguments[count++] = size;
  }
  if (config->order != NULL) {
    arguments[count++] = "--order";
    arguments[count++] = (char *)config->order;
  }
  if (config->on_loss != NULL) {
    arguments[count++] = "--on-loss";
    arguments[count++] = (char *)config->on_loss;
  }
  if (config->elastic) arguments[count++] = "--elastic";
  if (!config->autostart) arguments[count++] = "--no-autostart";
  arguments[count] = NULL;

  char **environment = launch_environment();
  if (environment == NULL) return dsm_fail(DSM_NO_MEMORY, "cannot start the arbiter: %s", strerror(ENOMEM));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    int error = errno;
    free(environment);
    return dsm_fail(dsm_status_of(error, DSM_SYSTEM), "cannot start the arbiter: %s", strerror(error));
  }
  int error = launch(path, arguments, environment, ends[1]);
  close(ends[1]);
  free(environment);
  if (error != 0) {
    char text[32];
    close(ends[0]);
    snprintf(text, sizeof text, "START %d", error);
    return launch_failed(text, path);
  }
  status = await_ready(ends[0], path);
  close(ends[0]);
  return status;
}

/* Waits for the lock of the file. A thread with interrupts looks again and again, since a signal may come just before it
 * would sleep. Returns 0, or -1 with errno; EINTR: the interrupts end the wait. */
static int await_lock(int fd) {
  const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
  while (flock(fd, interrupts_are_on() ? LOCK_EX | LOCK_NB : LOCK_EX) != 0) {
    if (errno != EINTR && errno != EWOULDBLOCK) return -1;
    if (interrupts_raised()) {
      errno = EINTR;
      return -1;
    }
    if (interrupts_are_on()) nanosleep(&pause, NULL);
  }
  return 0;
}

/* Takes the lock file. Its holder removes the file, so a lock on a file that no longer has the name does not count. */
static int take_lock(const char *path) {
  for (;;) {
    int fd = descriptor_above_stdio(open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd < 0) return -1;
    struct stat held, named;
    if (await_lock(fd) != 0) {
      int error = errno;
      close(fd);
      errno = error;
      return -1;
    }
    if (syscall(SYS_fstat, fd, &held) == 0 && syscall(SYS_stat, path, &named) == 0 && held.st_ino == named.st_ino &&
        held.st_dev == named.st_dev)
      return fd;
    close(fd);
  }
}

/* Connects to the arbiter that listens at this path. Returns a descriptor, or -1 with errno. */
static int connect_at(struct arbiter_place *place, const char *path) {
  int fd = channel_connect(path);
  if (fd >= 0) memcpy(place->connected, path, strlen(path) + 1);
  return fd;
}

/* Connects to the arbiter in a run-time directory of other processes of this user. Returns a descriptor, or -1; *places:
 * how many such directories there are. */
static int connect_elsewhere(struct arbiter_place *place, int *places) {
  int fd = -1;
  *places = 0;
  for (int i = 0; i < OTHER_DIRECTORIES_MAX && fd < 0; i++) {
    if (place->others[i][0] == 0 || !arbiter_is_own_directory(place->others[i])) continue;
    ++*places;
    fd = connect_at(place, place->others[i]);
  }
  return fd;
}

/* Waits for an arbiter that was started elsewhere at the same moment as ours, which the session has refused. */
static int await_elsewhere(struct arbiter_place *place) {
  long long deadline = now_ms() + ELSEWHERE_TIMEOUT_MS;
  int fd, places;
  while ((fd = connect_elsewhere(place, &places)) < 0 && places > 0 && now_ms() < deadline)
    nanosleep(&(struct timespec){.tv_nsec = ELSEWHERE_PAUSE_NS}, NULL);
  return fd;
}

int arbiter_connect(const dsm_config *config, struct arbiter_place *place, int *fd) {
  *fd = connect_at(place, place->socket);
  if (*fd >= 0) return DSM_OK;
  if (errno == EPERM) return dsm_fail(DSM_REFUSED, "the socket %s is another user's; remove it", place->socket);
  int places;
  if ((*fd = connect_elsewhere(place, &places)) >= 0) return DSM_OK;
  int lock = take_lock(place->lock);
  if (lock < 0 && errno == EINTR)
    return dsm_fail(DSM_TIMEOUT, "joining session \"%s\" was interrupted", config->session);
  if (lock < 0)
    return dsm_fail(dsm_status_of(errno, DSM_SYSTEM), "cannot lock %s: %s%s", place->lock, strerror(errno),
                    dsm_status_of(errno, DSM_SYSTEM) == DSM_SYSTEM ? "; set XDG_RUNTIME_DIR to another directory" : "");
  int status = DSM_OK;
  *fd = connect_at(place, place->socket);
  if (*fd < 0) {
    stale_remove(place->socket);
    status = start_arbiter(config, place);
    if (status == DSM_OK) {
      *fd = connect_at(place, place->socket);
      if (*fd < 0) /* The arbiter got no connection in time and has exited: the caller retries. */
        status = DSM_ENDED;
    } else if ((status == DSM_REFUSED || status == DSM_AGAIN) && (*fd = await_elsewhere(place)) >= 0) {
      status = DSM_OK;
    }
  }
  unlink(place->lock);
  close(lock);
  return status;
}
