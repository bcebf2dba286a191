/* When advice is due, with a clock of the test's. `advice_cases NAME` prints `ok` and exits 0, or fails; without a name
 * it lists the names. */
#include "session/advice.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

#define SECOND 1000000000ll
#define PAGE 4096u

static struct advice advice;
static struct advice_figures figures;

static void fail(const char *what) {
  fprintf(stderr, "not so: %s\n", what);
  exit(1);
}
#define check(truth, what)   \
  do {                       \
    if (!(truth)) fail(what); \
  } while (0)

/* Stores of `length` to `pages` pages in turn, `each_ns` apart, until advice is due or so many are made; how many. */
static uint32_t run(uint32_t stores, uint32_t pages, uint32_t length, long long *now, long long each_ns) {
  for (uint32_t i = 0; i < stores; i++) {
    *now += each_ns;
    uint64_t offset = (uint64_t)(i % pages) * PAGE + i % 512 * 8;
    if (advice_note(&advice, offset, length) && advice_due(&advice, *now, &figures)) return i + 1;
  }
  return 0;
}

static void fast_stores(void) {
  long long now = 5 * SECOND;
  advice_begin(&advice, 0, now);
  check(run(10000, 3, 8, &now, 50000) == ADVICE_STORES + 3, "it is due when the window is full");
  check(figures.stores == ADVICE_STORES && figures.pages == 3, "with the figures of the window");
  check(figures.ns == (ADVICE_STORES + 3) * 50000ll, "and its time");
  check(run(100000, 3, 8, &now, 50000) == 0, "and never again");
}

static void slow_stores(void) {
  long long now = SECOND;
  advice_begin(&advice, 0, now);
  check(run(40000, 1, 8, &now, 1000000) == 0, "a thousand a second are not worth a word");
  /* What is left of the slow window ends first. */
  uint32_t needed = run(20000, 1, 8, &now, 50000);
  check(needed > 0 && needed <= 2 * ADVICE_STORES + 2, "but if it gets faster, they are");
}

static void after_a_pause(void) {
  long long now = SECOND;
  advice_begin(&advice, 0, now);
  now += 60 * SECOND;
  check(run(20000, 1, 8, &now, 50000) == 2 * ADVICE_STORES + 2, "the window that the pause is in does not count");
}

static void scattered(void) {
  long long now = 0;
  advice_begin(&advice, 0, now);
  check(run(200000, 1000, 8, &now, 1000) == 0, "stores all over the map are no reason for a hole");
}

static void long_stores(void) {
  long long now = 0;
  advice_begin(&advice, 0, now);
  check(run(200000, 1, ADVICE_STORE_BYTES_MAX + 1, &now, 1000) == 0, "long ones are no single stores");
  check(run(20000, 1, ADVICE_STORE_BYTES_MAX, &now, 1000) != 0, "a vector register is");
}

static void silenced(void) {
  long long now = 0;
  advice_begin(&advice, 1, now);
  check(run(200000, 1, 8, &now, 1000) == 0, "advice that is turned off is not given");
}

static _Atomic int said;
static void *storm(void *start) {
  pthread_barrier_wait(start);
  struct advice_figures own;
  for (long long i = 0; i < 200000; i++) {
    if (advice_note(&advice, (uint64_t)i % 512 * 8, 8) && advice_due(&advice, i * 1000, &own)) {
      check(own.stores >= ADVICE_STORES && own.pages <= 1, "figures that can be");
      said++;
    }
  }
  return NULL;
}

static void threads(void) {
  for (int round = 0; round < 20; round++) {
    pthread_t ids[4];
    pthread_barrier_t start;
    advice_begin(&advice, 0, 0);
    said = 0;
    pthread_barrier_init(&start, NULL, 4);
    for (int i = 0; i < 4; i++) check(pthread_create(&ids[i], NULL, storm, &start) == 0, "a thread");
    for (int i = 0; i < 4; i++) pthread_join(ids[i], NULL);
    pthread_barrier_destroy(&start);
    check(said == 1, "of several threads one says it");
  }
}

static void text(void) {
  char line[400];
  struct advice_figures some = {.stores = 4096, .pages = 3, .ns = 195000000};
  size_t length = advice_text(line, sizeof line, 12, &some);
  const char *begins = "dsm: rank 12 makes 21005 single stores a second to 3 pages (4096 in 195 ms), each of them a trap; ";
  check(strncmp(line, begins, strlen(begins)) == 0, "the figures");
  const char *ends = "(DSM_QUIET=1: say nothing)\n";
  check(length < sizeof line && strncmp(line + length - strlen(ends), ends, strlen(ends)) == 0, "it fits");
  some = (struct advice_figures){.stores = UINT32_MAX, .pages = 1, .ns = 1};
  check(advice_text(line, sizeof line, UINT32_MAX, &some) < sizeof line, "whatever the figures");
  memset(line, 'x', sizeof line);
  check(advice_text(line, 10, 1, &some) == 10 && line[9] == '\n' && line[10] == 'x', "it is cut where there is no room");
  check(advice_text(line, 0, 1, &some) == 0 && line[0] == 'd', "or left out");
}

static const struct test_case cases[] = {
    {"fast stores to few pages are worth a word, once", fast_stores},
    {"slow ones are not", slow_stores},
    {"a pause does not count", after_a_pause},
    {"stores all over the map are not", scattered},
    {"long stores are not", long_stores},
    {"it can be silenced", silenced},
    {"several threads are told once", threads},
    {"the line has the figures", text},
};

int main(int argc, char **argv) {
  return run_cases(argc, argv, cases, sizeof cases / sizeof cases[0], NULL);
}
