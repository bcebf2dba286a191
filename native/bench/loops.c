/* What loops of stores cost their process, as bursts: loops WORDS ROUNDS. Joins the session in the environment. Rank 0
 * prints for every round the nanoseconds per word of `for (i) m[i] = i` in private memory and in the map, and of the same
 * loop with vectors in both. Under `pipelined` that the stores are in place is waited for outside the timing, so they are
 * to fit the ring. The other ranks wait in a barrier, so that their nodes follow the order. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "session.h"

/* Lets the arbiters and the server finish what the last loop gave them. */
static void settle(void) {
  struct timespec pause = {.tv_nsec = 2000000};
  nanosleep(&pause, NULL);
}

static __attribute__((noinline)) void scalar(volatile uint64_t *words, uint64_t count, uint64_t value) {
  for (uint64_t i = 0; i < count; i++)
    words[i] = value + i;
}

static __attribute__((noinline, optimize("O3"))) void vectors(uint64_t *words, uint64_t count, uint64_t value) {
  for (uint64_t i = 0; i < count; i++)
    words[i] = value + i;
}

static void check_words(const volatile uint64_t *words, uint64_t count, uint64_t value) {
  for (uint64_t i = 0; i < count; i++) {
    if (words[i] == value + i)
      continue;
    fprintf(stderr, "loops: word %llu is wrong\n", (unsigned long long)i);
    exit(1);
  }
}

int main(int argc, char **argv) {
  if (argc != 3 || atoi(argv[1]) < 1 || atoi(argv[2]) < 1) {
    fprintf(stderr, "usage: loops WORDS ROUNDS\n");
    return 2;
  }
  uint64_t count = (uint64_t)atoi(argv[1]);
  int rounds = atoi(argv[2]);
  uint64_t *own = malloc(count * sizeof *own);
  if (own == NULL) {
    perror("malloc");
    return 1;
  }
  memset(own, 1, count * sizeof *own);
  dsm_session *session;
  check(dsm_open(NULL, &session));
  uint64_t *map = dsm_address(session);
  int is_pipelined = strcmp(dsm_order(session), "pipelined") == 0;
  check(dsm_barrier_wait(session));
  for (int round = 0; round < rounds && dsm_rank(session) == 0; round++) {
    long long took[4];
    for (int way = 0; way < 4; way++) {
      uint64_t *words = way % 2 == 0 ? own : map, value = (uint64_t)(4 * round + way) << 32;
      settle();
      long long start = now_ns();
      if (way < 2)
        scalar(words, count, value);
      else
        vectors(words, count, value);
      took[way] = now_ns() - start;
      if (is_pipelined)
        check(dsm_fence(session));
      check_words(words, count, value);
    }
    for (int way = 0; way < 4; way++)
      printf("%.2f ", (double)took[way] / (double)count);
    puts("");
  }
  check(dsm_barrier_wait(session));
  check(dsm_close(session));
  free(own);
  return 0;
}
