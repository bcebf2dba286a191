/* What locks made for threads do when they lie in the shared memory: dsm run -n 2 -- ./in_map spinlock|mutex */
#define _GNU_SOURCE
#include <dsm/dsm.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TURNS 300
#define PATIENCE_S 3

static struct shared {
  pthread_spinlock_t spinlock;
  pthread_mutex_t mutex;
  int turns;
} *shared;
static dsm_session *session;
static long sleeper; /* the kernel's number of a thread */

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "in_map: %s\n", dsm_last_error());
  exit(1);
}

static void use_spinlock(void) {
  for (int i = 0; i < TURNS; i++) {
    pthread_spin_lock(&shared->spinlock);
    shared->turns += 1;
    pthread_spin_unlock(&shared->spinlock);
  }
  check(dsm_barrier_wait(session));
  if (dsm_rank(session) == 0) printf("spinlock: %d of %d turns\n", shared->turns, dsm_processes(session) * TURNS);
}

/* Tells the other process when the sleeper sleeps in the kernel, at the mutex. */
static void *watch(void *unused) {
  char path[64], line[256] = "", expected[64];
  snprintf(path, sizeof path, "/proc/self/task/%ld/syscall", sleeper);
  snprintf(expected, sizeof expected, "%d %p ", SYS_futex, (void *)&shared->mutex);
  while (strncmp(line, expected, strlen(expected)) != 0) {
    FILE *file = fopen(path, "r");
    if (!file || !fgets(line, sizeof line, file)) exit(1);
    fclose(file);
  }
  check(dsm_sem_post(session, "asleep", 0));
  return unused;
}

/* Rank 0 has the mutex, and unlocks it when rank 1 sleeps. */
static void use_mutex(void) {
  int rank = dsm_rank(session);
  if (rank == 0) pthread_mutex_lock(&shared->mutex);
  check(dsm_barrier_wait(session));
  if (rank == 0) {
    check(dsm_sem_wait(session, "asleep", 0));
    pthread_mutex_unlock(&shared->mutex);
  } else if (rank == 1) {
    pthread_t watcher;
    sleeper = syscall(SYS_gettid);
    pthread_create(&watcher, NULL, watch, NULL);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    int outcome = pthread_mutex_timedlock(&shared->mutex, &until);
    pthread_join(watcher, NULL);
    if (outcome == 0) printf("mutex: rank 1 has it\n");
    else if (pthread_mutex_trylock(&shared->mutex) == 0) printf("mutex: it is free, and rank 1 slept on\n");
    else printf("mutex: %s\n", strerror(outcome));
  }
}

int main(int argc, char **argv) {
  check(dsm_open(NULL, &session));
  shared = dsm_address(session);
  if (dsm_rank(session) == 0) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->mutex, &attributes);
    pthread_spin_init(&shared->spinlock, PTHREAD_PROCESS_SHARED);
  }
  check(dsm_barrier_wait(session));
  if (argc > 1 && strcmp(argv[1], "mutex") == 0) use_mutex();
  else use_spinlock();
  check(dsm_close(session));
  return 0;
}
