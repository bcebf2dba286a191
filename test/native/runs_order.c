/* A thread reads a map while one plain run is applied to it, again and again: words change in ascending order, as the
 * stores that the run stands for. Argument: how often at least. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pages/runs.h"

#define FROM 24u
#define WORDS 1000u
/* Changes that the reader is to have seen, however seldom it runs. */
#define CHANGES_MIN 1000u

static _Alignas(4096) uint8_t map[FROM + 8 * WORDS];
static uint8_t runs[16 + 8 * WORDS];
static atomic_int done;
static atomic_ulong seen;

static uint64_t word(unsigned i) {
  return __atomic_load_n((uint64_t *)(void *)(map + FROM + 8 * i), __ATOMIC_ACQUIRE);
}

/* All words of the n-th change are n. */
static void *read_words(void *unused) {
  uint64_t before = 0;
  for (unsigned i = 0; !atomic_load_explicit(&done, memory_order_relaxed); i = (i + 7) % (WORDS - 1)) {
    uint64_t later = word(WORDS - 1), earlier = word(i);
    if (earlier < later) {
      fprintf(stderr, "word %u is of change %lu when the last one is of %lu\n", i, earlier, later);
      exit(1);
    }
    if (later != before) atomic_fetch_add_explicit(&seen, 1, memory_order_relaxed);
    before = later;
  }
  return unused;
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  uint64_t times = strtoull(argv[1], NULL, 10);
  pthread_t reader;
  if (pthread_create(&reader, NULL, read_words, NULL) != 0) return 1;
  for (uint64_t i = 1; i <= times || atomic_load_explicit(&seen, memory_order_relaxed) < CHANGES_MIN; i++) {
    static uint64_t words[WORDS];
    for (unsigned n = 0; n < WORDS; n++) words[n] = i;
    struct run_writer writer = {.bytes = runs, .room = sizeof runs, .joins = RUNS_JOIN_NONE};
    if (runs_add_bytes(&writer, FROM, (const uint8_t *)words, sizeof words) != sizeof words) return 1;
    dsm_apply_runs(map, runs, writer.length);
  }
  atomic_store(&done, 1);
  pthread_join(reader, NULL);
  printf("%lu\n", atomic_load(&seen));
  return 0;
}
