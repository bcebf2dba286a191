/* Loops of stores, as bursts.
 *   bursts loops LESS ROUNDS     each process fills its part of the map in many ways, and so many times less of it than it
 *                                could; all see all of it after a barrier
 *   bursts own FILE ROUNDS       processes 0 and 1, of one node: data in the map and a flag in the file, and the reverse
 *   bursts map ROUNDS            processes 0 and 1: data and flag in the map, the flag below the data or above
 *   bursts buffer ROUNDS         processes 0 and 1: each stores to its words and then loads one of the other's; prints how
 *                                often neither saw the other's store
 * The file is mapped by both: memory that dsm knows nothing of. */
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define WORDS 20000u
#define DATA 24u
#define WAIT_S 60

static dsm_session *session;
static uint64_t *map;
static unsigned rank, processes;

static void barrier(void) {
  CHECK_OK(dsm_barrier_wait(session));
}

/* ---- loops ---- */

#define LOOP __attribute__((noinline))

LOOP static void each(volatile uint64_t *to, uint64_t count, uint64_t value) {
  for (uint64_t i = 0; i < count; i++) to[i] = value + i;
}
LOOP __attribute__((optimize("O3"))) static void vectors(uint64_t *to, uint64_t count, uint64_t value) {
  for (uint64_t i = 0; i < count; i++) to[i] = value + i;
}
LOOP static void down(volatile uint64_t *to, uint64_t count, uint64_t value) {
  for (uint64_t i = count; i-- > 0;) to[i] = value + i;
}
LOOP static void bytes(uint64_t *to, uint64_t count, uint64_t value) {
  volatile uint8_t *at = (uint8_t *)to;
  for (uint64_t i = 0; i < 8 * count; i++) at[i] = (uint8_t)((value + i / 8) >> 8 * (i % 8));
}
LOOP static void add(volatile uint64_t *to, uint64_t count, uint64_t value) {
  for (uint64_t i = 0; i < count; i++) to[i] = 0;
  for (uint64_t i = 0; i < count; i++) to[i] += value + i;
}
LOOP static void scattered(volatile uint64_t *to, uint64_t count, uint64_t value) {
  for (uint64_t i = 0, at = 0; i < count; i++) {
    to[at] = value + at;
    at = (at + 7919) % count;
  }
}
LOOP static void branches(volatile uint64_t *to, uint64_t count, uint64_t value) {
  for (uint64_t i = 0; i < count; i++) {
    if ((i * 2654435761u >> 7) % 3 == 0)
      to[i] = value + i;
    else
      *(volatile uint32_t *)&to[i] = (uint32_t)(value + i), ((volatile uint32_t *)&to[i])[1] = (uint32_t)((value + i) >> 32);
  }
}
/* The compiler stores to the stack. */
LOOP static void with_stack(volatile uint64_t *to, uint64_t count, uint64_t value) {
  volatile uint64_t i;
  for (i = 0; i < count; i++) to[i] = value + i;
}
LOOP __attribute__((optimize("O0"))) static void unoptimised(uint64_t *to, uint64_t count, uint64_t value) {
  for (uint64_t i = 0; i < count; i++) to[i] = value + i;
}

static const struct {
  void (*run)(uint64_t *to, uint64_t count, uint64_t value);
  uint64_t count;
} loops[] = {
    {(void (*)(uint64_t *, uint64_t, uint64_t))each, WORDS}, {vectors, WORDS},
    {(void (*)(uint64_t *, uint64_t, uint64_t))down, WORDS}, {bytes, WORDS / 4},
    {(void (*)(uint64_t *, uint64_t, uint64_t))add, 300},    {(void (*)(uint64_t *, uint64_t, uint64_t))scattered, WORDS / 2},
    {(void (*)(uint64_t *, uint64_t, uint64_t))branches, WORDS},
    {(void (*)(uint64_t *, uint64_t, uint64_t))with_stack, 300},
    {unoptimised, 300},
};

static void run_loops(unsigned less, unsigned rounds) {
  for (unsigned round = 0; round < rounds; round++) {
    for (unsigned i = 0; i < sizeof loops / sizeof loops[0]; i++) {
      uint64_t value = (uint64_t)round << 40 | i << 20;
      uint64_t *mine = map + rank * WORDS, count = loops[i].count / less;
      loops[i].run(mine, count, value + rank);
      for (uint64_t word = 0; word < count; word++) CHECK(mine[word] == value + rank + word);
      barrier();
      for (unsigned of = 0; of < processes; of++)
        for (uint64_t word = 0; word < count; word++) CHECK(map[of * WORDS + word] == value + of + word);
      barrier();
    }
  }
}

/* ---- messages ---- */

/* Straight stores, then the flag: no fence. */
LOOP static void tell(volatile uint64_t *data, volatile uint64_t *flag, uint64_t value) {
  for (unsigned i = 0; i < DATA; i++) data[i] = value;
  *flag = value;
}

static uint64_t await_flag(volatile uint64_t *flag, uint64_t value) {
  struct timespec begin, now;
  uint64_t seen;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  while ((seen = __atomic_load_n(flag, __ATOMIC_ACQUIRE)) < value) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    CHECK(now.tv_sec - begin.tv_sec < WAIT_S);
  }
  return seen;
}

/* The reader never sees a flag before its data, from the last word to the first. */
static void messages(volatile uint64_t *data, volatile uint64_t *flag, unsigned rounds) {
  uint64_t seen = 0;
  if (rank == 0)
    for (uint64_t value = 1; value <= rounds; value++) tell(data, flag, value);
  while (rank == 1 && seen < rounds) {
    seen = await_flag(flag, seen + 1);
    for (unsigned i = DATA; i-- > 0;) CHECK(__atomic_load_n(&data[i], __ATOMIC_ACQUIRE) >= seen);
  }
  barrier();
  if (rank == 0) tell(data, flag, 0);
  barrier();
  await_flag(flag, 0);
  barrier();
}

/* Straight stores, then a load, all in one piece of code. */
LOOP static uint64_t store_and_look(volatile uint64_t *mine, const volatile uint64_t *others, uint64_t value) {
  for (unsigned i = 0; i < DATA; i++) mine[i] = value;
  return *others;
}

static void buffer(unsigned rounds) {
  unsigned neither = 0;
  volatile uint64_t *seen = map + 100;
  for (uint64_t value = 1; value <= rounds; value++) {
    barrier();
    if (rank < 2) {
      uint64_t others = store_and_look(map + 200 * rank, map + 200 * (1 - rank) + DATA - 1, value);
      CHECK(others == value || others == value - 1);
      seen[200 * rank] = others;
    }
    barrier();
    neither += seen[0] != value && seen[200] != value;
  }
  if (rank == 0) printf("%u\n", neither);
}

static uint64_t *own_memory(const char *file) {
  int fd = open(file, O_RDWR | O_CREAT, 0600);
  CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
  void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(memory != MAP_FAILED);
  close(fd);
  return memory;
}

int main(int argc, char **argv) {
  CHECK(argc >= 3);
  CHECK_OK(dsm_open(NULL, &session));
  map = dsm_address(session);
  rank = (unsigned)dsm_rank(session);
  processes = (unsigned)dsm_processes(session);
  unsigned rounds = (unsigned)atoi(argv[argc - 1]);
  if (strcmp(argv[1], "loops") == 0) {
    CHECK(argc == 4 && atoi(argv[2]) > 0);
    run_loops((unsigned)atoi(argv[2]), rounds);
  } else if (strcmp(argv[1], "own") == 0) {
    uint64_t *own = own_memory(argv[2]);
    barrier();
    messages(map + 3, own + 100, rounds);
    messages(own + 3, map + 100, rounds);
  } else if (strcmp(argv[1], "buffer") == 0) {
    buffer(rounds);
  } else {
    barrier();
    messages(map + 600, map + 3, rounds);
    messages(map + 3, map + 600, rounds);
    messages(map + 1, map, rounds);
    messages(map, map + DATA, rounds);
  }
  barrier();
  CHECK_OK(dsm_close(session));
  puts("ok");
  return 0;
}
