/* Processes write bytes that lie between each other's: in the same words of the same pages, and in holes that share pages.
 * After every round all bytes are right in every process.
 *
 *   false_sharing bytes|holes ROUNDS STORES
 *
 * `bytes`: every byte has an owner, the next one another. `holes`: a round divides the pages at random places; each
 * process has two adjoining holes, and the bytes between its holes and the next one's belong to a process that writes
 * them without a hole. Rank 0 writes by several threads and fills its holes while they write. In all processes another
 * thread fences and does atomic operations on another page all the time, several times while the others write. Each
 * thread makes STORES stores a round. */
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { PAGE = 4096, BYTES = 4 * PAGE, PROCESSES = 4, WRITERS_MAX = 4, GAP = 5, TURNS = 8 };

static dsm_session *session;
static int rank;
static uint8_t *map;
static uint8_t expected[BYTES];
static uint32_t stores, cuts[PROCESSES + 1], round_number;
static bool in_holes;
static atomic_bool stop;
static atomic_uint turns; /* of the thread that fences, in this round */
static pthread_barrier_t begin;
/* The bytes of each thread of each process in this round. */
static struct {
  uint16_t bytes[BYTES];
  uint32_t count;
} parts[PROCESSES][WRITERS_MAX];

static uint32_t mix(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t x = a * 0x9e3779b1u ^ b * 0x85ebca77u ^ c * 0xc2b2ae3du;
  x = (x ^ x >> 15) * 0x2c1b3c6du;
  x = (x ^ x >> 12) * 0x297a2d39u;
  return x ^ x >> 15;
}

static int writers_of(int process) {
  return process == 0 ? WRITERS_MAX : 1;
}

/* Which process writes the byte in this round, -1: none; and whether in a hole: process p has [cuts[p], cuts[p + 1] - GAP). */
static int owner_of(uint32_t byte) {
  if (!in_holes) return (int)(byte % PROCESSES);
  if (byte >= cuts[PROCESSES]) return -1;
  int p = 0;
  while (byte >= cuts[p + 1]) p++;
  return byte < cuts[p + 1] - GAP ? p : (p + 2) % PROCESSES;
}

static void divide(void) {
  memset(parts, 0, sizeof parts);
  for (uint32_t byte = 0; byte < BYTES; byte++) {
    int process = owner_of(byte);
    if (process < 0) continue;
    int thread = (int)(byte / 7 % (uint32_t)writers_of(process));
    parts[process][thread].bytes[parts[process][thread].count++] = (uint16_t)byte;
  }
}

/* The stores of one thread in one round, the same sequence in every process. */
static void each_store(int process, int thread, void (*visit)(uint32_t i, uint32_t byte, uint8_t value)) {
  for (uint32_t i = 0; i < stores; i++) {
    uint32_t any = mix(round_number, (uint32_t)(process * WRITERS_MAX + thread), i);
    uint32_t byte = parts[process][thread].bytes[any % parts[process][thread].count];
    visit(i, byte, (uint8_t)mix(byte, round_number, i));
  }
}

static void make_store(uint32_t i, uint32_t byte, uint8_t value) {
  while (atomic_load(&turns) < i * TURNS / stores) sched_yield();
  *(volatile uint8_t *)(map + byte) = value;
}

static void note_store(uint32_t i, uint32_t byte, uint8_t value) {
  (void)i;
  expected[byte] = value;
}

/* Every so many stores it waits until there was a fence meanwhile. */
static void *write_bytes(void *thread) {
  pthread_barrier_wait(&begin);
  each_store(rank, (int)(intptr_t)thread, make_store);
  return NULL;
}

static void *disturb(void *unused) {
  (void)unused;
  uint64_t before = 0;
  while (!atomic_load(&stop)) {
    CHECK_OK(dsm_fence(session));
    uint64_t now = __atomic_fetch_add((uint64_t *)(map + BYTES), 1, __ATOMIC_SEQ_CST);
    CHECK(now >= before);
    before = now + 1;
    atomic_fetch_add(&turns, 1);
  }
  return NULL;
}

static void cut(void) {
  /* Sometimes all of it is in one page, or in two. */
  uint32_t span = (round_number % 3 == 0) ? PAGE : (round_number % 3 == 1) ? 2 * PAGE - 100 : BYTES;
  cuts[0] = 0;
  for (uint32_t p = 1; p < PROCESSES; p++) {
    uint32_t share = span / PROCESSES;
    cuts[p] = p * share + mix(round_number, p, 77) % (share / 2);
  }
  cuts[PROCESSES] = span;
}

static void run_round(void) {
  pthread_t ids[WRITERS_MAX], other;
  int holes[2], writers = writers_of(rank);
  if (in_holes) {
    uint32_t from = cuts[rank], to = cuts[rank + 1] - GAP, middle = from + 1 + mix(round_number, 5, 5) % (to - from - 1);
    CHECK_OK(dsm_hole_dig(session, map + from, middle - from, &holes[0]));
    CHECK_OK(dsm_hole_dig(session, map + middle, to - middle, &holes[1]));
  }
  atomic_store(&stop, false);
  atomic_store(&turns, 0);
  CHECK(pthread_barrier_init(&begin, NULL, (unsigned)writers + 1) == 0);
  CHECK(pthread_create(&other, NULL, disturb, NULL) == 0);
  for (int t = 0; t < writers; t++) CHECK(pthread_create(&ids[t], NULL, write_bytes, (void *)(intptr_t)t) == 0);
  pthread_barrier_wait(&begin);
  if (in_holes && rank == 0) {
    for (int i = 0; i < 2; i++) CHECK_OK(dsm_hole_fill(session, holes[i]));
  }
  for (int t = 0; t < writers; t++) pthread_join(ids[t], NULL);
  if (in_holes && rank != 0) {
    for (int i = 1; i >= 0; i--) CHECK_OK(dsm_hole_fill(session, holes[i]));
  }
  atomic_store(&stop, true);
  pthread_join(other, NULL);
  pthread_barrier_destroy(&begin);
  CHECK(atomic_load(&turns) >= TURNS - 1);
}

int main(int argc, char **argv) {
  CHECK(argc == 4);
  in_holes = strcmp(argv[1], "holes") == 0;
  uint32_t rounds = (uint32_t)strtoul(argv[2], NULL, 10);
  stores = (uint32_t)strtoul(argv[3], NULL, 10);
  CHECK_OK(dsm_open(NULL, &session));
  CHECK(dsm_processes(session) == PROCESSES && dsm_size(session) >= BYTES + PAGE);
  rank = dsm_rank(session);
  map = dsm_address(session);
  for (round_number = 1; round_number <= rounds; round_number++) {
    cuts[PROCESSES] = BYTES;
    if (in_holes) cut();
    divide();
    run_round();
    CHECK_OK(dsm_barrier_wait(session));
    for (int p = 0; p < PROCESSES; p++) {
      for (int t = 0; t < writers_of(p); t++) each_store(p, t, note_store);
    }
    for (uint32_t i = 0; i < BYTES; i++) {
      if (map[i] == expected[i]) continue;
      fprintf(stderr, "rank %d, round %u: byte %u of process %d is %u and should be %u\n", rank, round_number, i,
              owner_of(i), map[i], expected[i]);
      return 1;
    }
    CHECK_OK(dsm_barrier_wait(session));
  }
  CHECK_OK(dsm_close(session));
  return 0;
}
