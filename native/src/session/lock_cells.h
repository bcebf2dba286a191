/* Locks that a process takes and gives back without the arbiter, in direct mode, by their cells: the arbiter decides on
 * the lock, or it is free, or a process has it. A process changes the word by compare-and-swap, from free to its own mark
 * and back. src/core/replica/cells/lock-cells.ts has the invariants. */
#ifndef DSM_LOCK_CELLS_H
#define DSM_LOCK_CELLS_H

#include "session/cells.h"

#pragma GCC visibility push(hidden)

/* Takes the lock if it is free, after a short wait for an owner that is about to give it back. Returns whether the
 * process has it now. 0: the arbiter must be asked. `may_wait`: 0 for an attempt that must not wait. */
int lock_cells_take(struct cells *cells, const char *name, int may_wait);

/* Gives the lock back. Returns whether that is done. 0: the arbiter must be asked. */
int lock_cells_give(struct cells *cells, const char *name);

#pragma GCC visibility pop

#endif
