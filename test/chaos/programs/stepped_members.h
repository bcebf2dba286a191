/* The three processes of stepped.c, which do what their parent tells them, and the words by which they synchronise. */
#ifndef STEPPED_MEMBERS_H
#define STEPPED_MEMBERS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../../e2e/programs/check.h"
#include "link/wire.h"

/* A process that has not done within this time what it must do never does. */
#define LIVENESS_MS 60000
enum { VICTIM, FIRST, SECOND, MEMBERS };

struct member {
  pid_t pid;
  int rank;
  int commands, answers;
};

static struct member members[MEMBERS];
static struct member *const victim = &members[VICTIM], *const first = &members[FIRST], *const second = &members[SECOND];
/* Shared with the children. */
static struct {
  atomic_int is_over;
} *shared;
static const uint8_t *cells;

/* ---- what the processes of the session do ---- */

static dsm_session *session;

static int execute(char command) {
  switch (command) {
    case 'l': return dsm_lock(session, "m");
    case 'u': return dsm_unlock(session, "m");
    case 'w': return dsm_sem_wait(session, "s", 0);
    case 't': return dsm_sem_trywait(session, "s", 0);
    case 'p': return dsm_sem_post(session, "s", 0);
    case 'b': return dsm_barrier_wait(session);
    case 'q': return dsm_close(session);
    default: return -1;
  }
}

/* Does what it is told. After 's' the next operation is executed step by step. */
static void obey(int commands, int answers) {
  CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
  CHECK_OK(dsm_open(NULL, &session));
  CHECK(dsm_is_direct(session) == 1);
  int answer = dsm_rank(session), is_stepped = 0;
  char command = 0;
  while (write(answers, &answer, sizeof answer) == sizeof answer && command != 'q' && read(commands, &command, 1) == 1) {
    if (command == 's') {
      is_stepped = 1;
      answer = 0;
    } else if (is_stepped) {
      CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
      raise(SIGSTOP);
      int status = execute(command);
      atomic_store(&shared->is_over, 1 + status);
      raise(SIGSTOP);
      exit(1);
    } else {
      answer = execute(command);
    }
  }
  exit(command == 'q' ? 0 : 1);
}

static void start(struct member *member) {
  int commands[2], answers[2];
  CHECK(pipe2(commands, O_CLOEXEC) == 0 && pipe2(answers, O_CLOEXEC) == 0);
  member->pid = fork();
  CHECK(member->pid >= 0);
  if (member->pid == 0) {
    close(commands[1]);
    close(answers[0]);
    for (int i = 0; i < MEMBERS; i++)
      if (members[i].commands > 0) close(members[i].commands), close(members[i].answers);
    obey(commands[0], answers[1]);
  }
  close(commands[0]);
  close(answers[1]);
  member->commands = commands[1];
  member->answers = answers[0];
}

/* ---- what the parent has them do ---- */

static void tell(const struct member *member, char command) {
  CHECK(write(member->commands, &command, 1) == 1);
}

static int has_answered(const struct member *member, int timeout_ms) {
  struct pollfd answer = {.fd = member->answers, .events = POLLIN};
  int ready;
  while ((ready = poll(&answer, 1, timeout_ms)) < 0 && errno == EINTR) continue;
  return ready > 0;
}

static int answer_of(const struct member *member) {
  int answer;
  CHECK(has_answered(member, LIVENESS_MS));
  CHECK(read(member->answers, &answer, sizeof answer) == sizeof answer);
  return answer;
}

static int ask(const struct member *member, char command) {
  tell(member, command);
  return answer_of(member);
}

/* Returns whether the process sleeps on a futex. */
static int sleeps(const struct member *member) {
  char path[64], text[16] = "";
  snprintf(path, sizeof path, "/proc/%d/syscall", member->pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  CHECK(fd >= 0);
  CHECK(read(fd, text, sizeof text - 1) > 0);
  close(fd);
  return atoi(text) == SYS_futex;
}

static void await_sleep(const struct member *member) {
  struct timespec pause = {.tv_nsec = 100000};
  while (!sleeps(member) && !has_answered(member, 0)) nanosleep(&pause, NULL);
}

/* ---- the words ---- */

static void map_cells(void) {
  char path[64], line[512], name[256] = "", access[5] = "";
  unsigned long from, to, offset;
  snprintf(path, sizeof path, "/proc/%d/maps", victim->pid);
  FILE *maps = fopen(path, "re");
  CHECK(maps != NULL);
  while (cells == NULL && fgets(line, sizeof line, maps) != NULL) {
    if (sscanf(line, "%lx-%lx %4s %lx %*s %*s %255s", &from, &to, access, &offset, name) != 5) continue;
    if (to - from != WIRE_CELLS_SIZE || strcmp(access, "rw-s") != 0 || strncmp(name, "/dev/shm/dsm", 12) != 0) continue;
    int fd = open(name, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    cells = mmap(NULL, WIRE_CELLS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    CHECK(cells != MAP_FAILED);
    close(fd);
  }
  fclose(maps);
  CHECK(cells != NULL);
}

static _Atomic uint32_t *word_at(uint32_t offset) {
  return (_Atomic uint32_t *)(cells + offset);
}

static _Atomic uint32_t *lock_word(void) {
  return word_at(WIRE_LOCK_CELLS_AT);
}

/* The value of the semaphore, or -1: the arbiter has it. */
static int units(void) {
  uint32_t word = atomic_load(word_at(WIRE_SEMAPHORE_CELLS_AT));
  return (word & WIRE_SEMAPHORE_CELL_GIVEN) == 0 ? -1 : (int)(word / WIRE_SEMAPHORE_CELL_STEP);
}

static uint32_t phase(void) {
  return atomic_load(word_at(WIRE_BARRIER_CELL_AT));
}

/* Whether the victim has the lock; -1: only the arbiter knows. */
static int is_owner(void) {
  uint32_t state = atomic_load(lock_word()) & WIRE_CELL_STATE;
  return state == WIRE_CELL_ARBITER ? -1 : state == WIRE_CELL_OWNED + (uint32_t)victim->rank;
}

#endif
