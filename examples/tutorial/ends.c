/* The heat in a rod: each process keeps its part to itself, and shares the two cells at its ends. */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CELLS 200
#define STEPS 50

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "ends: %s\n", dsm_last_error());
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
  int first = CELLS * rank / processes, own_cells = CELLS * (rank + 1) / processes - first;

  /* Memory of its own: the part, and a cell of each neighbour. Loads and stores here cost what they always cost. */
  double rods[2][CELLS + 2] = {0}, *now = rods[0], *next = rods[1];
  if (rank == 0) now[1] = next[1] = 100;

  /* Shared: two ends of each process; two sets, so that one barrier a step is enough. */
  struct { double left, right; } *ends;
  double *result;
  check(dsm_named(session, "ends", 2 * processes * sizeof *ends, (void **)&ends));
  check(dsm_named(session, "result", CELLS * sizeof *result, (void **)&result));

  check(dsm_barrier_wait(session));
  double began = milliseconds();
  for (int step = 0; step < STEPS; step++) {
    int set = step % 2 * processes;
    ends[set + rank].left = now[1];
    ends[set + rank].right = now[own_cells];
    check(dsm_barrier_wait(session));
    if (rank > 0) now[0] = ends[set + rank - 1].right;
    if (rank < processes - 1) now[own_cells + 1] = ends[set + rank + 1].left;
    int from = rank == 0 ? 2 : 1, to = rank == processes - 1 ? own_cells : own_cells + 1; /* the rod's ends stay */
    for (int i = from; i < to; i++) next[i] = now[i] + 0.25 * (now[i - 1] - 2 * now[i] + now[i + 1]);
    double *old = now;
    now = next;
    next = old;
  }
  memcpy(result + first, now + 1, own_cells * sizeof *now);
  check(dsm_barrier_wait(session));
  double took = milliseconds() - began;

  if (rank == 0) printf("ends: cell 10 has %.6f degrees, after %.1f ms\n", result[10], took);
  check(dsm_close(session));
  return 0;
}
