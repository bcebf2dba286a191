/* Arrays that are filled again and again under the order release, and atomics beside them: fills CASE. Two processes, a
 * node each. It counts its own traps: an assembly routine stands before libdsm's handler. */
#include <dsm/dsm.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

#define PAGE 4096u
#define PAGES 48u /* that each process fills */
#define WORDS (PAGE / sizeof(uint64_t))
#define INTERVALS 8u
#define TASKS 48u /* one on each page */

struct kernel_action {
  void *handler;
  unsigned long flags;
  void *restorer;
  uint64_t mask;
};

volatile uint64_t traps;
void *traps_next;
void traps_count(void);
__asm__(".text\n"
        "traps_count:\n"
        "  lock incq traps(%rip)\n"
        "  jmp *traps_next(%rip)\n");

/* Counts SIGSEGV of this process, by a system call that libdsm does not see. */
static void count_traps(void) {
  struct kernel_action action;
  CHECK(syscall(SYS_rt_sigaction, SIGSEGV, NULL, &action, sizeof action.mask) == 0);
  traps_next = action.handler;
  action.handler = (void *)traps_count;
  CHECK(syscall(SYS_rt_sigaction, SIGSEGV, &action, NULL, sizeof action.mask) == 0);
}

static uint64_t take_traps(void) {
  uint64_t count = traps;
  traps = 0;
  return count;
}

/* Writes a word of every page, then the next word of every page: no page is filled at once. */
static __attribute__((noinline)) void fill(volatile uint64_t *pages, uint64_t value) {
  for (unsigned word = 0; word < WORDS; word++)
    for (unsigned page = 0; page < PAGES; page++) pages[page * WORDS + word] = value + page + word;
}

/* Writes one page after the other. */
static __attribute__((noinline)) void set(volatile uint64_t *pages, uint64_t value, unsigned count) {
  for (unsigned word = 0; word < count * WORDS; word++) pages[word] = value;
}

/* Each process fills its own pages and reads those of the other. */
static void strides(dsm_session *session, uint8_t *map, int rank) {
  volatile uint64_t *all = (volatile uint64_t *)map;
  for (uint64_t interval = 0; interval < INTERVALS; interval++) {
    take_traps();
    fill(all + (uint64_t)rank * PAGES * WORDS, interval * 100000 + (uint64_t)rank * 50000);
    uint64_t mine = take_traps();
    printf("traps %d %llu %llu\n", rank, (unsigned long long)interval, (unsigned long long)mine);
    CHECK_OK(dsm_barrier_wait(session));
    for (unsigned page = 0; page < 2 * PAGES; page++)
      for (unsigned word = 0; word < WORDS; word++)
        CHECK(all[page * WORDS + word] ==
              interval * 100000 + page / PAGES * 50000 + page % PAGES + word);
    CHECK_OK(dsm_barrier_wait(session));
  }
}

struct task {
  uint64_t state;
  uint64_t users;
  uint64_t more[WORDS - 2];
};

/* Adds 1. It must trap: on a page that is open the operation would not be seen by others. */
static void add(uint64_t *counter) {
  take_traps();
  __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
  CHECK(take_traps() > 0);
}

static __attribute__((noinline)) void finish(struct task *task, uint64_t value) {
  *(volatile uint64_t *)&task->state = value;
  add(&task->users);
}

/* Tasks are initialised like an array, several times; then each has an atomic counter that both processes add to. */
static void tasks(dsm_session *session, uint8_t *map, int rank) {
  struct task *all = (struct task *)map;
  for (int time = 0; time < 2; time++) {
    if (rank == 0) set((uint64_t *)all, time == 0, TASKS);
    CHECK_OK(dsm_barrier_wait(session));
  }
  for (int time = 0; time < 3; time++)
    for (unsigned i = 0; i < TASKS; i++) finish(&all[i], 7);
  CHECK_OK(dsm_barrier_wait(session));
  for (unsigned i = 0; i < TASKS; i++) {
    CHECK(all[i].state == 7);
    CHECK(all[i].users == 6);
  }
}

/* An array and, on the page behind it, a counter, which was initialised with the array. Each interval sets the array
 * again and then adds to the counter. */
static void beside(dsm_session *session, uint8_t *map, int rank) {
  uint64_t *array = (uint64_t *)(map + (uint64_t)rank * 16 * PAGE);
  uint64_t *counter = (uint64_t *)(map + 8 * PAGE);
  set(array, ~0ull, 9);
  CHECK_OK(dsm_barrier_wait(session));
  for (int interval = 0; interval < 6; interval++) {
    set(array, (uint64_t)interval + 1, 8);
    add(counter);
    CHECK_OK(dsm_barrier_wait(session));
    CHECK(*counter == 2 * (uint64_t)(interval + 1) - 1);
    CHECK_OK(dsm_barrier_wait(session));
  }
}

/* A store that opens a page is still published as it was made: two processes store to the same words at the same time,
 * and no word becomes a mix. */
static __attribute__((noinline)) void store(volatile uint64_t *word, uint64_t value) {
  *word = value;
}

static void whole(dsm_session *session, uint8_t *map, int rank) {
  volatile uint64_t *words = (volatile uint64_t *)map;
  const uint64_t values[2] = {0x00ff00ff00ff00ffu, 0xff00ff00ff00ff00u};
  for (int interval = 0; interval < 40; interval++) {
    /* Each process fills a page of its own, so that its next store there opens it. */
    for (unsigned word = 0; word < WORDS; word++) store(&words[word + (1 + (unsigned)rank) * WORDS], (uint64_t)interval);
    CHECK_OK(dsm_barrier_wait(session));
    store(&words[(1 + (unsigned)interval % 2) * WORDS], values[rank]);
    CHECK_OK(dsm_barrier_wait(session));
    uint64_t now = words[(1 + (unsigned)interval % 2) * WORDS];
    CHECK(now == values[0] || now == values[1]);
    CHECK_OK(dsm_barrier_wait(session));
  }
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  dsm_session *session;
  CHECK_OK(dsm_open(NULL, &session));
  uint8_t *map = dsm_address(session);
  int rank = dsm_rank(session);
  count_traps();
  if (strcmp(argv[1], "strides") == 0) strides(session, map, rank);
  if (strcmp(argv[1], "tasks") == 0) tasks(session, map, rank);
  if (strcmp(argv[1], "beside") == 0) beside(session, map, rank);
  if (strcmp(argv[1], "whole") == 0) whole(session, map, rank);
  CHECK_OK(dsm_close(session));
  printf("ok\n");
  return 0;
}
