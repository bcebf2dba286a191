/* Programs about the shared memory that check themselves; the first argument says which one. All processes of the
 * session run the same. */
#include "check.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static dsm_session *session;
static int rank, processes;
static uint8_t *map;

static void barrier(void) {
  CHECK_OK(dsm_barrier_wait(session));
}

/* ---- counter TIMES: all processes add to one counter ---- */

static void counter(unsigned long times) {
  uint64_t *value = (uint64_t *)map;
  for (unsigned long i = 0; i < times; i++) __atomic_fetch_add(value, 1, __ATOMIC_SEQ_CST);
  barrier();
  printf("%llu\n", (unsigned long long)*value);
}

/* ---- atomics: every operation and width, all processes at once ---- */

static void atomics(void) {
  enum { TIMES = 100 };
  struct {
    uint8_t sum8;
    uint16_t sum16;
    uint32_t sum32;
    uint64_t sum64, bits, flips, swapped, claimed, lock, guarded;
  } *shared = (void *)map;
  uint64_t exchanged = 0;
  for (int i = 0; i < TIMES; i++) {
    __atomic_fetch_add(&shared->sum8, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&shared->sum16, 3, __ATOMIC_SEQ_CST);
    __atomic_fetch_sub(&shared->sum32, 5, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&shared->sum64, 1ull << 40, __ATOMIC_SEQ_CST);
    __atomic_fetch_xor(&shared->flips, 1ull << rank, __ATOMIC_SEQ_CST);
    __atomic_fetch_or(&shared->bits, 1ull << rank, __ATOMIC_SEQ_CST);
    /* Whatever is put in comes out once: the sum of what goes in is that of what came out and what is left. */
    exchanged += __atomic_exchange_n(&shared->swapped, (uint64_t)(rank * TIMES + i + 1), __ATOMIC_SEQ_CST);
    /* A spin lock over a plain counter. */
    uint64_t open = 0;
    while (!__atomic_compare_exchange_n(&shared->lock, &open, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) open = 0;
    *(volatile uint64_t *)&shared->guarded += 1;
    __atomic_store_n(&shared->lock, 0, __ATOMIC_SEQ_CST);
  }
  __atomic_fetch_add(&shared->claimed, exchanged, __ATOMIC_SEQ_CST);
  barrier();
  unsigned total = (unsigned)(processes * TIMES);
  CHECK(shared->sum8 == (uint8_t)total);
  CHECK(shared->sum16 == (uint16_t)(3 * total));
  CHECK(shared->sum32 == 0u - 5 * total);
  CHECK(shared->sum64 == (uint64_t)total << 40);
  CHECK(shared->flips == 0);
  CHECK(shared->bits == (1ull << processes) - 1);
  CHECK(shared->claimed + shared->swapped == (uint64_t)total * (total + 1) / 2);
  CHECK(shared->guarded == total);
}

/* ---- threads: several in every process store, add and use semaphores at once ---- */

enum { THREADS = 6, ROUNDS = 60 };

struct shared_by_threads {
  uint64_t added;
  uint64_t guarded; /* by a semaphore of value 1 */
  uint64_t slots[]; /* one for each thread of each process */
};

static void *work(void *argument) {
  int thread = (int)(intptr_t)argument;
  struct shared_by_threads *shared = (void *)map;
  volatile uint64_t *mine = &shared->slots[rank * THREADS + thread];
  for (uint64_t i = 1; i <= ROUNDS; i++) {
    *mine = i;
    CHECK(*mine == i); /* own writes are in place at once */
    __atomic_fetch_add(&shared->added, 1, __ATOMIC_SEQ_CST);
    if (i % 4 == 0) {
      CHECK_OK(dsm_sem_wait(session, "guard", 1));
      *(volatile uint64_t *)&shared->guarded += 1;
      CHECK_OK(dsm_sem_post(session, "guard", 1));
    }
  }
  return NULL;
}

static void threads(void) {
  pthread_t others[THREADS];
  for (intptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&others[i], NULL, work, (void *)i) == 0);
  for (int i = 0; i < THREADS; i++) pthread_join(others[i], NULL);
  barrier();
  struct shared_by_threads *shared = (void *)map;
  CHECK(shared->added == (uint64_t)(processes * THREADS * ROUNDS));
  CHECK(shared->guarded == (uint64_t)(processes * THREADS * (ROUNDS / 4)));
  for (int i = 0; i < processes * THREADS; i++) CHECK(shared->slots[i] == ROUNDS);
}

/* ---- pointers: all ranks follow a list that rank 0 links ---- */

struct node {
  struct node *next;
  const char *word;
};

static void pointers(void) {
  enum { NODES = 20 };
  struct node *nodes = (struct node *)map;
  char *words = (char *)(nodes + NODES);
  if (rank == 0) {
    for (int i = 0; i < NODES; i++) {
      char *word = words + i * 16;
      sprintf(word, "word %d", i);
      nodes[i].word = word;
      nodes[i].next = i + 1 < NODES ? &nodes[i + 1] : NULL;
    }
  }
  barrier();
  int seen = 0;
  for (const struct node *at = nodes; at != NULL; at = at->next) {
    char expected[16];
    sprintf(expected, "word %d", seen++);
    CHECK(strcmp(at->word, expected) == 0);
  }
  CHECK(seen == NODES);
  printf("%p\n", (void *)map);
}

/* ---- torn: no process sees half of an aligned store of 1, 2, 4 or 8 bytes ---- */

static void torn(void) {
  enum { TIMES = 2000 };
  volatile uint64_t *wide = (volatile uint64_t *)map;
  volatile uint32_t *middle = (volatile uint32_t *)(map + 8);
  volatile uint16_t *narrow = (volatile uint16_t *)(map + 12);
  if (rank == 0) {
    for (uint64_t i = 1; i <= TIMES; i++) {
      uint64_t byte = i == TIMES ? 255 : i % 255;
      *wide = byte * 0x0101010101010101ull;
      *middle = (uint32_t)byte * 0x01010101u;
      *narrow = (uint16_t)(byte * 0x0101u);
    }
  } else {
    for (;;) {
      uint64_t a = *wide;
      uint32_t b = *middle;
      uint16_t c = *narrow;
      CHECK(a == (a & 255) * 0x0101010101010101ull);
      CHECK(b == (b & 255) * 0x01010101u);
      CHECK(c == (c & 255) * 0x0101u);
      if (c == 0xffff) break;
    }
  }
  barrier();
}

/* ---- order: what sequential consistency rules out is not seen ---- */

static void order(void) {
  enum { TIMES = 150 };
  volatile uint64_t *x = (volatile uint64_t *)map;
  volatile uint64_t *y = (volatile uint64_t *)(map + 512);
  volatile uint64_t *seen = (volatile uint64_t *)(map + 1024);
  CHECK(processes == 4);
  for (uint64_t i = 1; i <= TIMES; i++) {
    barrier();
    /* Store buffering: ranks 0 and 1 each write one and read the other; one of them sees the other's write. */
    if (rank == 0) {
      *x = i;
      seen[0] = *y;
    } else if (rank == 1) {
      *y = i;
      seen[1] = *x;
    } else {
      /* Independent reads: ranks 2 and 3 do not see the two writes in different orders. */
      uint64_t first, second;
      const volatile uint64_t *from = rank == 2 ? x : y, *then = rank == 2 ? y : x;
      do first = *from;
      while (first != i && *then != i);
      second = *then;
      seen[rank] = first == i && second != i;
    }
    barrier();
    CHECK(seen[0] == i || seen[1] == i);
    CHECK(!(seen[2] && seen[3]));
  }
}

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  CHECK_OK(dsm_open(NULL, &session));
  rank = dsm_rank(session);
  processes = dsm_processes(session);
  map = dsm_address(session);
  if (strcmp(argv[1], "counter") == 0) counter(strtoul(argv[2], NULL, 10));
  else if (strcmp(argv[1], "atomics") == 0) atomics();
  else if (strcmp(argv[1], "threads") == 0) threads();
  else if (strcmp(argv[1], "pointers") == 0) pointers();
  else if (strcmp(argv[1], "torn") == 0) torn();
  else if (strcmp(argv[1], "order") == 0) order();
  else CHECK(!"a known program");
  CHECK_OK(dsm_close(session));
  return 0;
}
