/* Kernels without dsm, on one machine: forked processes with shared memory, robust mutexes, and semaphores and a barrier that
 * processes share. The process that forks them waits for them: when one fails, it ends the others. */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "parallel.h"

#define PROCESSES_MAX 64u
#define PAGE_BYTES 4096u

static pthread_barrier_t *meeting;
static pthread_mutex_t *mutexes;
static sem_t *semaphore_objects;

static void check(int error) {
  if (error != 0) fail("%s", strerror(error));
}

static void *map(size_t bytes) {
  void *memory = mmap(NULL, bytes > 0 ? bytes : 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("mmap of %zu bytes: %m", bytes);
  return memory;
}

static void make_objects(unsigned processes, unsigned locks, unsigned semaphores) {
  meeting = map(sizeof *meeting);
  pthread_barrierattr_t barriers;
  check(pthread_barrierattr_init(&barriers));
  check(pthread_barrierattr_setpshared(&barriers, PTHREAD_PROCESS_SHARED));
  check(pthread_barrier_init(meeting, &barriers, processes));
  mutexes = map(locks * sizeof *mutexes);
  pthread_mutexattr_t robust;
  check(pthread_mutexattr_init(&robust));
  check(pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED));
  check(pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST));
  for (unsigned i = 0; i < locks; i++) check(pthread_mutex_init(&mutexes[i], &robust));
  semaphore_objects = map(semaphores * sizeof *semaphore_objects);
  for (unsigned i = 0; i < semaphores; i++)
    if (sem_init(&semaphore_objects[i], 1, 0) != 0) fail("sem_init: %m");
}

/* Ends with the processes: well if all did. */
static _Noreturn void supervise(pid_t *pids, unsigned count) {
  int status, failed = 0;
  for (pid_t pid; (pid = wait(&status)) > 0;) {
    bool is_first = status != 0 && failed == 0;
    if (is_first) failed = status;
    for (unsigned i = 0; i < count; i++) {
      if (pids[i] == pid)
        pids[i] = 0; /* the number may be another process's now */
      else if (is_first && pids[i] != 0)
        kill(pids[i], SIGKILL);
    }
  }
  if (WIFSIGNALED(failed)) fail("signal %d ended a process", WTERMSIG(failed));
  exit(failed == 0 ? 0 : 1);
}

static unsigned wanted_processes(void) {
  const char *wanted = getenv("KERNEL_PROCESSES");
  if (wanted == NULL) return 2;
  char *end;
  unsigned long processes = strtoul(wanted, &end, 10);
  if (processes < 1 || processes > PROCESSES_MAX || *end != '\0')
    fail("KERNEL_PROCESSES must be a number from 1 to %u, and is \"%s\"", PROCESSES_MAX, wanted);
  return (unsigned)processes;
}

struct team team_start(size_t bytes, unsigned locks, unsigned semaphores) {
  unsigned processes = wanted_processes();
  uint8_t *memory = map(bytes);
  make_objects(processes, locks, semaphores);
  pid_t supervisor = getpid(), pids[PROCESSES_MAX];
  for (unsigned rank = 0; rank < processes; rank++) {
    pids[rank] = fork();
    if (pids[rank] < 0) fail("fork: %m");
    if (pids[rank] > 0) continue;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != supervisor)
      fail("the process that started this one has ended");
    return (struct team){rank, processes, memory};
  }
  supervise(pids, processes);
}

void team_lock(unsigned i) {
  check(pthread_mutex_lock(&mutexes[i]));
}

void team_unlock(unsigned i) {
  check(pthread_mutex_unlock(&mutexes[i]));
}

void team_semaphore_wait(unsigned i) {
  while (sem_wait(&semaphore_objects[i]) != 0); /* a signal interrupted it */
}

void team_semaphore_post(unsigned i) {
  if (sem_post(&semaphore_objects[i]) != 0) fail("sem_post: %m");
}

void team_barrier(void) {
  int error = pthread_barrier_wait(meeting);
  if (error != PTHREAD_BARRIER_SERIAL_THREAD) check(error);
}

void team_finish(void) {
}
