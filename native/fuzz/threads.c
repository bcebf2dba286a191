/* The whole library with several threads, under ThreadSanitizer: stores, atomic operations, holes, requests, and leaving
 * while others are at it; the arbiter is arbiter.c, in this process.
 *
 * What ThreadSanitizer sees: all that threads of this process share in the library, that is the pool of channels, the
 * table of regions, the state and lock of the holes, the slots of steps, the decoder's cache; handlers included, for it
 * hands on a fault's signal at once. That futexes are system calls does not matter: what they order is ordered by
 * atomics as well.
 *
 * What it cannot see: the map itself. A page is reached at several addresses (the map's, the shadow's, the arbiter's),
 * and the same byte at another address is another byte to it; pages that are mapped anew under its feet, and what the
 * arbiter's process writes, are no accesses at all. The order of those is what litmus tests and histories are for. Nor
 * does it know fences, with which the decoder's cache orders its (atomic) words. And the map must lie where it has room for its own (0x7e80... and up), not where real sessions have it. */
#include <pthread.h>
#include <unistd.h>

#include "arbiter.h"
#include "fuzz.h"

enum { THREADS = 4, ROUNDS = 40, SIZE = 64 * 4096, HOLE_BYTES = 6000 };

static struct arbiter arbiter = {.base = 0x7ea000000000, .size = SIZE};
static dsm_session *session;
static uint8_t *map;

static void must(int status) {
  if (status != DSM_OK) fprintf(stderr, "%s\n", dsm_last_error());
  CHECK(status == DSM_OK);
}

/* Loads and stores of a program's in the map, which ThreadSanitizer does not see: to it a page that is mapped anew, with
 * the bytes it had, is a page that was written. */
#define UNSEEN __attribute__((noinline, no_sanitize("thread")))

UNSEEN static void fill(volatile uint8_t *at, unsigned byte, size_t size) {
  for (size_t i = 0; i < size; i++) at[i] = (uint8_t)byte;
}

UNSEEN static void write_and_read(volatile uint64_t *at, unsigned round) {
  for (unsigned i = 0; i < 8; i++) at[i] = round * 8 + i;
  for (unsigned i = 0; i < 8; i++) CHECK(at[i] == round * 8 + i);
}

UNSEEN static void add(uint64_t *at) { __atomic_fetch_add(at, 1, __ATOMIC_SEQ_CST); }

/* Each its own pages, but for the counters (page 0) and the edges of the holes. */
static void *work(void *argument) {
  uintptr_t me = (uintptr_t)argument;
  uint8_t *own = map + 4096 * (2 + 4 * me), *hole_at = map + 4096 * 32 + me * HOLE_BYTES;
  for (unsigned round = 0; round < ROUNDS; round++) {
    write_and_read((uint64_t *)(void *)own, round);
    fill(own + 4096, round, 200);
    add((uint64_t *)(void *)map + round % 4);
    must(dsm_sem_post(session, "s", 0));
    if (round % 4 == 0) {
      int hole;
      must(dsm_hole_dig(session, hole_at, HOLE_BYTES, &hole));
      fill(hole_at, (unsigned)(round + me), HOLE_BYTES);
      must(dsm_hole_fill(session, hole));
    }
    if (round % 8 == 0) must(dsm_fence(session));
  }
  return NULL;
}

static void *post_until_left(void *count) {
  int status;
  do status = dsm_sem_post(session, "s", 0);
  while (status == DSM_OK && ++*(unsigned *)count > 0);
  CHECK(status == DSM_LEFT);
  return NULL;
}

static void play(dsm_config *config, enum session_order order) {
  arbiter_reset(order);
  must(dsm_open(config, &session));
  map = dsm_address(session);
  CHECK((uintptr_t)map == arbiter.base);
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  must(dsm_fence(session));
  arbiter_lock();
  uint64_t total = 0;
  for (int i = 0; i < 4; i++) total += ((uint64_t *)(void *)arbiter.map)[i];
  CHECK(total == THREADS * ROUNDS);
  for (unsigned i = 0; i < THREADS * HOLE_BYTES; i++) CHECK(arbiter.map[4096 * 32 + i] == (ROUNDS - 4 + i / HOLE_BYTES));
  arbiter_unlock();
  unsigned counts[THREADS] = {0};
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, post_until_left, &counts[i]) == 0);
  usleep(20000);
  must(dsm_close(session));
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(void) {
  dsm_config config;
  must(dsm_config_init(&config));
  config.session = "threads";
  config.node = "n";
  config.daemon = "127.0.0.1:1"; /* never asked */
  config.autostart = 0;
  arbiter_start(&arbiter, &config);
  play(&config, ORDER_SEQUENTIAL);
  play(&config, ORDER_RELEASE);
  puts("ok");
  return 0;
}
