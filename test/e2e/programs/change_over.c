/* An elastic session that begins in direct mode and changes over when another node comes.
 *
 *   change_over write WRITERS         stores without end, in two threads: a counter and a log of their own, atomic additions
 *                                     that all share, holes; until the late one says stop, and then checks
 *   change_over late WRITERS [DEAD]   joins, sees all go on, adds, says stop, and checks; the writer DEAD was killed
 *
 * test/e2e/programs/change_over.ts writes the same. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

#define PAGE 4096u
#define LATE_ADDS 1000u
#define LOG_WORDS (64u << 10)

struct writer {
  volatile uint64_t counter;
  volatile uint64_t adds;  /* done, of the atomic ones */
  volatile uint64_t round; /* of the hole that was filled last */
  volatile uint64_t last;  /* counter, when it has stopped */
};

static dsm_session *session;
static uint8_t *map;
static unsigned writers;
static int dead = -1;
static volatile int stopping;

static uint64_t *sum(void) {
  return (uint64_t *)map;
}
static volatile uint32_t *stop(void) {
  return (volatile uint32_t *)(map + PAGE);
}
static struct writer *writer(unsigned rank) {
  return (struct writer *)(map + (2 + rank) * PAGE);
}
/* Neither its beginning nor its end is that of a page. */
static volatile uint32_t *hole(unsigned rank, unsigned *words) {
  *words = 6 * PAGE / 4 + 33;
  return (volatile uint32_t *)(map + (32 + 8 * rank) * PAGE + 256);
}
static volatile uint64_t *diary(unsigned rank) {
  return (volatile uint64_t *)(map + (1u << 20) + rank * LOG_WORDS * 8);
}

static void *add(void *unused) {
  (void)unused;
  unsigned rank = (unsigned)dsm_rank(session), words;
  struct writer *mine = writer(rank);
  volatile uint32_t *area = hole(rank, &words);
  uint64_t adds = 0;
  for (uint32_t round = 1; !stopping; round++) {
    for (unsigned i = 0; i < 20; i++) {
      __atomic_fetch_add(sum(), 1, __ATOMIC_SEQ_CST);
      mine->adds = ++adds;
    }
    int id;
    CHECK_OK(dsm_hole_dig(session, (void *)area, words * 4, &id));
    for (unsigned i = 0; i < words; i++)
      area[i] = round;
    CHECK_OK(dsm_hole_fill(session, id));
    mine->round = round;
  }
  return NULL;
}

/* Also while all that store wait. */
static void *look(void *unused) {
  (void)unused;
  while (dsm_is_direct(session))
    usleep(1000);
  puts("traps");
  return NULL;
}

static void write_on(void) {
  unsigned rank = (unsigned)dsm_rank(session);
  struct writer *mine = writer(rank);
  volatile uint64_t *log = diary(rank);
  pthread_t others[2];
  uint64_t i;
  CHECK(dsm_is_direct(session));
  CHECK(pthread_create(&others[0], NULL, look, NULL) == 0);
  CHECK(pthread_create(&others[1], NULL, add, NULL) == 0);
  for (i = 1; *stop() == 0; i++) {
    log[i % LOG_WORDS] = i;
    mine->counter = i;
    if (i % 64 == 0)
      CHECK_OK(dsm_fence(session));
    if (i == 1000)
      puts("writes");
  }
  CHECK(!dsm_is_direct(session));
  mine->last = i - 1;
  stopping = 1;
  for (int j = 0; j < 2; j++)
    CHECK(pthread_join(others[j], NULL) == 0);
}

static void join_late(void) {
  CHECK(!dsm_is_direct(session));
  for (unsigned rank = 0; rank < writers; rank++) {
    uint64_t seen = writer(rank)->counter;
    CHECK(seen > 0);
    while ((int)rank != dead && writer(rank)->counter < seen + 200)
      usleep(1000);
  }
  for (unsigned i = 0; i < LATE_ADDS; i++)
    __atomic_fetch_add(sum(), 1, __ATOMIC_SEQ_CST);
  *stop() = 1;
  CHECK_OK(dsm_fence(session));
}

/* Behind the barrier, on every node. */
static void check(void) {
  uint64_t adds = LATE_ADDS;
  for (unsigned rank = 0; rank < writers; rank++) {
    struct writer *one = writer(rank);
    unsigned words;
    volatile uint32_t *area = hole(rank, &words);
    adds += one->adds;
    if ((int)rank == dead)
      continue;
    CHECK(one->counter == one->last);
    for (uint64_t i = one->last > LOG_WORDS ? one->last - LOG_WORDS + 1 : 1; i <= one->last; i++)
      CHECK(diary(rank)[i % LOG_WORDS] == i);
    for (unsigned i = 0; i < words; i++)
      CHECK(area[i] == one->round);
  }
  /* A killed process may have added 1 without reporting it. */
  CHECK(*sum() == adds || (dead >= 0 && *sum() == adds + 1));
}

int main(int count, char **words) {
  CHECK(count >= 3);
  writers = (unsigned)atoi(words[2]);
  if (count > 3)
    dead = atoi(words[3]);
  setvbuf(stdout, NULL, _IOLBF, 0);
  CHECK_OK(dsm_open(NULL, &session));
  map = dsm_address(session);
  if (strcmp(words[1], "write") == 0)
    write_on();
  else
    join_late();
  CHECK_OK(dsm_barrier_wait(session));
  check();
  CHECK_OK(dsm_barrier_wait(session));
  CHECK_OK(dsm_close(session));
  puts("done");
  return 0;
}
