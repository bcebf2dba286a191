/* The barrier, passed without the arbiter, in direct mode, by its cell: a phase, how many have arrived in it, and how many
 * must. A process changes the cell by compare-and-swap while the arbiter gives it to the processes.
 * src/core/replica/cells/barrier-cell.ts has the invariants. */
#ifndef DSM_BARRIER_CELL_H
#define DSM_BARRIER_CELL_H

#include "session/cells.h"

/* How this process uses the cell. */
struct barrier_cell {
  atomic_uint is_inside; /* a thread waits by the cell */
  /* Hints. As in struct channel_polling, for spinning: waits that do not spin after the last failure, and the rest. */
  atomic_uint pause, rest;
};

/* One wait. */
struct barrier_wait {
  long long deadline_ns; /* of now_ns(), or -1: none */
  uint64_t processes; /* in the barrier that was passed */
  int is_marked; /* the arbiter sees that this process is in the barrier */
};

enum barrier_by_cell {
  BARRIER_PASSED,
  BARRIER_IS_ARBITERS, /* it was not passed: the arbiter must be asked */
  BARRIER_IS_BUSY, /* another thread of this process is in it */
};

#pragma GCC visibility push(hidden)

/* Arrives, and waits for the others, at most until the deadline and never for long. */
enum barrier_by_cell barrier_cell_wait(struct barrier_cell *barrier, struct cells *cells, struct barrier_wait *wait);

/* The process is not in the barrier any more, however the arbiter has answered. */
void barrier_cell_end(const struct cells *cells, const struct barrier_wait *wait);

#pragma GCC visibility pop

#endif
