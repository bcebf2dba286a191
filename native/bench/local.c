/* What a store, a load, an atomic or a lock costs where nothing traps: local store|load|atomic|lock COUNT SLICES. Joins the
 * session in the environment. Rank 0 does COUNT operations SLICES times, in turns on plain shared memory and on the map, and prints
 * the nanoseconds of both, one slice a line. The other ranks wait in a barrier. Stores and atomics need direct mode. lock: takes a free lock and gives it back; beside
 * it does so with a robust mutex that processes share. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "session.h"

/* Two pages: what is compared is memory that is shared with memory that is shared, not caches. */
#define WORDS 1024u

/* One copy of each loop for both memories, so that its alignment is the same. */
static __attribute__((noinline)) void store(volatile uint64_t *words, long count) {
  for (long i = 0; i < count; i++)
    words[i % WORDS] = (uint64_t)i;
}
static __attribute__((noinline)) void load(volatile uint64_t *words, long count) {
  for (long i = 0; i < count; i++)
    (void)words[i % WORDS];
}
static __attribute__((noinline)) void atomic(volatile uint64_t *words, long count) {
  for (long i = 0; i < count; i++)
    __atomic_fetch_add(&words[i % WORDS], 1, __ATOMIC_SEQ_CST);
}

static dsm_session *session;
static pthread_mutex_t *mutex;

static void lock_of_session(volatile uint64_t *words, long count) {
  (void)words;
  for (long i = 0; i < count; i++) {
    check(dsm_lock(session, "local"));
    check(dsm_unlock(session, "local"));
  }
}
static void lock_of_plain(volatile uint64_t *words, long count) {
  (void)words;
  for (long i = 0; i < count; i++) {
    pthread_mutex_lock(mutex);
    pthread_mutex_unlock(mutex);
  }
}

/* In the memory behind the plain words. */
static void make_mutex(volatile uint64_t *words) {
  mutex = (pthread_mutex_t *)(uintptr_t)(words + WORDS);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(mutex, &attributes);
}

static long long time_of(void (*run)(volatile uint64_t *, long), volatile uint64_t *words, long count) {
  long long start = now_ns();
  run(words, count);
  return now_ns() - start;
}

int main(int argc, char **argv) {
  void (*run)(volatile uint64_t *, long) = NULL;
  if (argc == 4)
    run = strcmp(argv[1], "store") == 0   ? store
          : strcmp(argv[1], "load") == 0 ? load
          : strcmp(argv[1], "lock") == 0 ? lock_of_session
                                         : atomic;
  if (run == NULL || atol(argv[2]) < 1 || atol(argv[3]) < 1) {
    fprintf(stderr, "usage: local store|load|atomic|lock COUNT SLICES\n");
    return 2;
  }
  long count = atol(argv[2]), slices = atol(argv[3]);
  volatile uint64_t *plain = mmap(NULL, WORDS * sizeof *plain + sizeof *mutex, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (plain == MAP_FAILED) {
    perror("mmap");
    return 1;
  }
  check(dsm_open(NULL, &session));
  make_mutex(plain);
  void (*run_plain)(volatile uint64_t *, long) = run == lock_of_session ? lock_of_plain : run;
  volatile uint64_t *map = dsm_address(session);
  if (run != load && run != lock_of_session && !dsm_is_direct(session)) {
    fprintf(stderr, "local: the session is not in direct mode\n");
    return 1;
  }
  check(dsm_barrier_wait(session));
  if (dsm_rank(session) == 0) {
    /* Every page is there before the clock runs. */
    run_plain(plain, WORDS), run(map, WORDS);
    for (long i = 0; i < slices; i++) {
      /* Who comes first takes turns too. */
      long long first = time_of(i % 2 == 0 ? run_plain : run, i % 2 == 0 ? plain : map, count);
      long long second = time_of(i % 2 == 0 ? run : run_plain, i % 2 == 0 ? map : plain, count);
      printf("%lld %lld\n", i % 2 == 0 ? first : second, i % 2 == 0 ? second : first);
    }
  }
  check(dsm_barrier_wait(session));
  check(dsm_close(session));
  return 0;
}
