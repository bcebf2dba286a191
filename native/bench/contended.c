/* What processes pay that compete, in direct mode: contended lock COUNT SLICES PAUSES. Joins the session in the environment.
 * All ranks do COUNT operations SLICES times, in turns with dsm and with what the C library has for processes that share
 * memory, with PAUSES pauses of the processor between two operations. Rank 0 prints the nanoseconds from the first start to
 * the last end, of the C library's and of dsm's, one slice a line.
 *
 * lock: takes one lock, adds to a word, gives it back; beside it a robust mutex does so. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

/* In the map, which all share. */
struct shared {
  pthread_mutex_t mutex;
  volatile uint64_t sum;
  volatile long long from[DSM_PROCESSES_MAX], to[DSM_PROCESSES_MAX];
};

static dsm_session *session;
static struct shared *shared;

static void rest(long pauses) {
  for (long i = 0; i < pauses; i++)
    __builtin_ia32_pause();
}

static void lock_of_session(long count, long pauses) {
  for (long i = 0; i < count; i++) {
    check(dsm_lock(session, "contended"));
    shared->sum++;
    check(dsm_unlock(session, "contended"));
    rest(pauses);
  }
}

static void lock_of_library(long count, long pauses) {
  for (long i = 0; i < count; i++) {
    pthread_mutex_lock(&shared->mutex);
    shared->sum++;
    pthread_mutex_unlock(&shared->mutex);
    rest(pauses);
  }
}

static void make_mutex(void) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&shared->mutex, &attributes);
}

/* Returns the time that all ranks together took, on rank 0. */
static long long time_of(void (*run)(long, long), long count, long pauses) {
  int rank = dsm_rank(session), processes = dsm_processes(session);
  check(dsm_barrier_wait(session));
  shared->from[rank] = now_ns();
  run(count, pauses);
  shared->to[rank] = now_ns();
  check(dsm_barrier_wait(session));
  long long from = shared->from[0], to = shared->to[0];
  for (int i = 1; i < processes; i++) {
    if (shared->from[i] < from) from = shared->from[i];
    if (shared->to[i] > to) to = shared->to[i];
  }
  return to - from;
}

int main(int argc, char **argv) {
  if (argc != 5 || strcmp(argv[1], "lock") != 0 || atol(argv[2]) < 1 || atol(argv[3]) < 1 || atol(argv[4]) < 0) {
    fprintf(stderr, "usage: contended lock COUNT SLICES PAUSES\n");
    return 2;
  }
  long count = atol(argv[2]), slices = atol(argv[3]), pauses = atol(argv[4]);
  check(dsm_open(NULL, &session));
  shared = dsm_address(session);
  if (!dsm_is_direct(session)) {
    fprintf(stderr, "contended: the session is not in direct mode\n");
    return 1;
  }
  if (dsm_rank(session) == 0) make_mutex();
  for (long i = 0; i < slices; i++) {
    /* Who comes first takes turns too. */
    void (*first)(long, long) = i % 2 == 0 ? lock_of_library : lock_of_session;
    void (*second)(long, long) = i % 2 == 0 ? lock_of_session : lock_of_library;
    long long a = time_of(first, count, pauses), b = time_of(second, count, pauses);
    if (dsm_rank(session) == 0) printf("%lld %lld\n", i % 2 == 0 ? a : b, i % 2 == 0 ? b : a);
  }
  uint64_t expected = 2 * (uint64_t)(count * slices) * (uint64_t)dsm_processes(session);
  if (shared->sum != expected) {
    fprintf(stderr, "contended: the sum is %llu, not %llu\n", (unsigned long long)shared->sum, (unsigned long long)expected);
    return 1;
  }
  check(dsm_barrier_wait(session));
  check(dsm_close(session));
  return 0;
}
