/* The heat in a rod, the plain way: the rod is shared, and every cell of it is stored there at every step. */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CELLS 200
#define STEPS 50

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "rod: %s\n", dsm_last_error());
  exit(1);
}

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

int main(void) {
  dsm_session *session;
  check(dsm_open(NULL, &session));
  int rank = dsm_rank(session), processes = dsm_processes(session);
  double *even, *odd;
  check(dsm_named(session, "even", CELLS * sizeof *even, (void **)&even));
  check(dsm_named(session, "odd", CELLS * sizeof *odd, (void **)&odd));
  if (rank == 0) even[0] = odd[0] = 100; /* the left end is hot */
  check(dsm_barrier_wait(session));

  int first = CELLS * rank / processes, end = CELLS * (rank + 1) / processes;
  if (rank == 0) first = 1;
  if (rank == processes - 1) end = CELLS - 1;
  double began = milliseconds();
  for (int step = 0; step < STEPS; step++) {
    double *now = step % 2 == 0 ? even : odd, *next = step % 2 == 0 ? odd : even;
    for (int i = first; i < end; i++) next[i] = now[i] + 0.25 * (now[i - 1] - 2 * now[i] + now[i + 1]);
    check(dsm_barrier_wait(session)); /* the next rod is complete, and the old one is no longer needed */
  }
  double took = milliseconds() - began;

  if (rank == 0) printf("rod: cell 10 has %.6f degrees, after %.1f ms\n", even[10], took);
  check(dsm_close(session));
  return 0;
}
