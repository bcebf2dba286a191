/* What a store, a load or an atomic costs where nothing traps: local store|load|atomic COUNT SLICES. Joins the session in
 * the environment. Rank 0 does COUNT operations SLICES times, in turns on plain shared memory and on the map, and prints
 * the nanoseconds of both, one slice a line. The other ranks wait in a barrier. Stores need direct mode. */
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

static long long time_of(void (*run)(volatile uint64_t *, long), volatile uint64_t *words, long count) {
  long long start = now_ns();
  run(words, count);
  return now_ns() - start;
}

int main(int argc, char **argv) {
  void (*run)(volatile uint64_t *, long) = NULL;
  if (argc == 4)
    run = strcmp(argv[1], "store") == 0 ? store : strcmp(argv[1], "load") == 0 ? load : atomic;
  if (run == NULL || atol(argv[2]) < 1 || atol(argv[3]) < 1) {
    fprintf(stderr, "usage: local store|load|atomic COUNT SLICES\n");
    return 2;
  }
  long count = atol(argv[2]), slices = atol(argv[3]);
  volatile uint64_t *plain = mmap(NULL, WORDS * sizeof *plain, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (plain == MAP_FAILED) {
    perror("mmap");
    return 1;
  }
  dsm_session *session;
  check(dsm_open(NULL, &session));
  volatile uint64_t *map = dsm_address(session);
  if (run != load && !dsm_is_direct(session)) {
    fprintf(stderr, "local: the session is not in direct mode\n");
    return 1;
  }
  check(dsm_barrier_wait(session));
  if (dsm_rank(session) == 0) {
    /* Every page is there before the clock runs. */
    run(plain, WORDS), run(map, WORDS);
    for (long i = 0; i < slices; i++) {
      /* Who comes first takes turns too. */
      long long first = time_of(run, i % 2 == 0 ? plain : map, count);
      long long second = time_of(run, i % 2 == 0 ? map : plain, count);
      printf("%lld %lld\n", i % 2 == 0 ? first : second, i % 2 == 0 ? second : first);
    }
  }
  check(dsm_barrier_wait(session));
  check(dsm_close(session));
  return 0;
}
