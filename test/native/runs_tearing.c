/* A thread reads words of a map while runs are applied to it, again and again: each word has always been written whole.
 * Arguments: how often at least, and whether with AVX-512 VBMI2. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runs.h"

/* From a place that is no multiple of 64, so that every other store crosses a line of the cache. */
#define FROM 24u
#define WORDS 200u
/* Changes that the reader is to have seen, however seldom it runs. */
#define CHANGES_MIN 1000u

static _Alignas(4096) uint8_t map[RUNS_PAGE_BYTES], twin[RUNS_PAGE_BYTES], page[RUNS_PAGE_BYTES];
static uint8_t runs[RUNS_PAGE_MAX];
static atomic_int done;
static atomic_ulong seen;

/* All 8 bytes of a word are the same, but for the lowest, which never changes. */
static void *read_words(void *unused) {
  uint64_t before = 0;
  for (unsigned word = 0; !atomic_load_explicit(&done, memory_order_relaxed); word = (word + 7) % WORDS) {
    uint64_t now = __atomic_load_n((uint64_t *)(void *)(map + FROM + 8 * word), __ATOMIC_RELAXED);
    uint64_t byte = now >> 56;
    if (now != ((byte * 0x0101010101010100ull) | 0x5a)) {
      fprintf(stderr, "a word is torn: %016llx\n", (unsigned long long)now);
      exit(1);
    }
    if (byte != before)
      atomic_fetch_add_explicit(&seen, 1, memory_order_relaxed);
    before = byte;
  }
  return unused;
}

int main(int argc, char **argv) {
  if (argc != 3)
    return 2;
  long times = atol(argv[1]);
  int vbmi2 = atoi(argv[2]);
  pthread_t reader;
  memset(twin, 0, sizeof twin);
  for (unsigned word = 0; word < WORDS; word++)
    map[FROM + 8 * word] = twin[FROM + 8 * word] = 0x5a;
  if (pthread_create(&reader, NULL, read_words, NULL) != 0)
    return 1;
  for (long i = 0; i < times || atomic_load_explicit(&seen, memory_order_relaxed) < CHANGES_MIN; i++) {
    memcpy(page, twin, sizeof page);
    for (unsigned word = 0; word < WORDS; word++)
      memset(page + FROM + 8 * word + 1, 1 + (int)(i % 255), 7);
    struct run_writer writer = {.bytes = runs, .room = sizeof runs, .joins = RUNS_JOIN_NONE};
    if (!runs_add(&writer, page, twin, NULL, 0, RUNS_PAGE_BYTES))
      return 1;
    runs_apply(map, runs, writer.length, vbmi2);
  }
  atomic_store(&done, 1);
  pthread_join(reader, NULL);
  printf("%lu\n", atomic_load(&seen));
  return 0;
}
