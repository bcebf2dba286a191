/* Locks that a process takes and gives back without the arbiter, by their cells: the arbiter decides on the lock, or it is
 * free, or a process has it. A process changes the word by compare-and-swap, from free to its own mark and back.
 * src/core/replica/cells has the invariants: lock-cells.ts those of direct mode, leases.ts those of other sessions. */
#ifndef DSM_LOCK_CELLS_H
#define DSM_LOCK_CELLS_H

#include "session/cells.h"

#pragma GCC visibility push(hidden)

/* What came of an attempt to take a lock by its cell. */
enum lock_taken {
  LOCK_NOT_TAKEN, /* the arbiter must be asked */
  LOCK_TAKEN,
  LOCK_TAKEN_LATE /* the arbiter takes this process for the owner, but the node may have been given up: the lock must be
                     unlocked, and then asked for, by requests */
};

/* Takes the lock if it is free, after a short wait for an owner that is about to give it back. `may_wait`: 0 for an
 * attempt that must not wait. */
enum lock_taken lock_cells_take(struct cells *cells, const char *name, int may_wait);

/* Returns whether this process has the lock by its cell. */
int lock_cells_has(const struct cells *cells, const char *name);

/* Gives the lock back. Stores that it guards must have been published.  Returns whether that is done. 0: the arbiter must be asked. */
int lock_cells_give(struct cells *cells, const char *name);

#pragma GCC visibility pop

#endif
