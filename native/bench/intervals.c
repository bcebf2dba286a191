/* Times programs that write the same pages in each interval between two barriers: intervals KIND ROUNDS. Joins the
 * session in the environment. Each process writes its own pages and reads a word of each page of the next process.
 * For every round rank 0 prints nanoseconds on one line.
 *
 * strides: 256 pages a process; a word of every page, then the next word of every page: like the transposition in an FFT.
 * sweeps: 100 barriers a round, and 4 pages before each: like a solver on a grid.
 * sections: 100 sections under one lock a round, with a store in each: like molecules that interact. */
#include <stdint.h>
#include <string.h>

#include "session.h"

#define PAGE_WORDS 512u
#define STRIDED_PAGES 256u
#define SWEPT_PAGES 4u
#define BARRIERS 100u
#define SECTIONS 100u

static dsm_session *session;
static volatile uint64_t *map;
static unsigned rank, processes;

static void read_of_next(unsigned pages, uint64_t expected) {
  const volatile uint64_t *next = map + (uint64_t)((rank + 1) % processes) * pages * PAGE_WORDS;
  for (unsigned page = 0; page < pages; page++) {
    if (next[page * PAGE_WORDS + 7] == expected)
      continue;
    fprintf(stderr, "intervals: page %u is wrong\n", page);
    exit(1);
  }
}

static void strides(uint64_t round) {
  volatile uint64_t *own = map + (uint64_t)rank * STRIDED_PAGES * PAGE_WORDS;
  for (unsigned word = 0; word < PAGE_WORDS; word++)
    for (unsigned page = 0; page < STRIDED_PAGES; page++)
      own[page * PAGE_WORDS + word] = round + 1;
  check(dsm_barrier_wait(session));
  read_of_next(STRIDED_PAGES, round + 1);
  check(dsm_barrier_wait(session));
}

static void sweeps(uint64_t round) {
  volatile uint64_t *own = map + (uint64_t)rank * SWEPT_PAGES * PAGE_WORDS;
  for (unsigned sweep = 0; sweep < BARRIERS / 2; sweep++) {
    uint64_t value = round * BARRIERS + sweep + 1;
    for (unsigned word = 0; word < SWEPT_PAGES * PAGE_WORDS; word++)
      own[word] = value;
    check(dsm_barrier_wait(session));
    read_of_next(SWEPT_PAGES, value);
    check(dsm_barrier_wait(session));
  }
}

static void sections(uint64_t round) {
  (void)round;
  for (unsigned section = 0; section < SECTIONS; section++) {
    check(dsm_lock(session, "sum"));
    map[0] += 1;
    check(dsm_unlock(session, "sum"));
  }
  check(dsm_barrier_wait(session));
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(uint64_t round);
  } kinds[] = {{"strides", strides}, {"sweeps", sweeps}, {"sections", sections}};
  void (*run)(uint64_t round) = NULL;
  for (unsigned i = 0; argc == 3 && i < sizeof kinds / sizeof *kinds; i++)
    if (strcmp(argv[1], kinds[i].name) == 0)
      run = kinds[i].run;
  if (run == NULL || atoi(argv[2]) < 1) {
    fprintf(stderr, "usage: intervals strides|sweeps|sections ROUNDS\n");
    return 2;
  }
  check(dsm_open(NULL, &session));
  map = dsm_address(session);
  rank = (unsigned)dsm_rank(session);
  processes = (unsigned)dsm_processes(session);
  check(dsm_barrier_wait(session));
  for (uint64_t round = 0; round < (uint64_t)atoi(argv[2]); round++) {
    long long begin = now_ns();
    run(round);
    if (rank == 0)
      printf("%lld\n", now_ns() - begin);
  }
  if (run == sections && map[0] != (uint64_t)atoi(argv[2]) * SECTIONS * processes) {
    fprintf(stderr, "intervals: the sum is wrong\n");
    return 1;
  }
  check(dsm_close(session));
  return 0;
}
