/* Times one operation of a session: operations KIND ROUNDS, KIND one of store, atomic, barrier. Joins the session in the
 * environment; rank 0 prints the nanoseconds of every round, one a line. For store and atomic the other ranks wait in a
 * barrier, so that their nodes follow the order but ask for nothing. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

int main(int argc, char **argv) {
  if (argc != 3 || atoi(argv[2]) < 1) {
    fprintf(stderr, "usage: operations store|atomic|barrier ROUNDS\n");
    return 2;
  }
  int rounds = atoi(argv[2]);
  int is_barrier = strcmp(argv[1], "barrier") == 0;
  int is_atomic = strcmp(argv[1], "atomic") == 0;
  dsm_session *session;
  check(dsm_open(NULL, &session));
  int64_t *cell = dsm_address(session);
  int first = dsm_rank(session) == 0;
  check(dsm_barrier_wait(session));
  for (int i = 0; i < rounds && (first || is_barrier); i++) {
    long long start = now_ns();
    if (is_barrier)
      check(dsm_barrier_wait(session));
    else if (is_atomic)
      __atomic_fetch_add(cell, 1, __ATOMIC_SEQ_CST);
    else
      *(volatile int64_t *)cell = i;
    if (first)
      printf("%lld\n", now_ns() - start);
  }
  check(dsm_barrier_wait(session));
  check(dsm_close(session));
  return 0;
}
