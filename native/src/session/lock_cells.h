/* Locks that a process takes and gives back without the arbiter, by their cells: the arbiter decides on the lock, or it is
 * free, or a process has it. A process changes the word by compare-and-swap, from free to its own mark and back.
 * src/core/replica/cells has the invariants: lock-cells.ts those of direct mode, leases.ts those of other sessions. */
#ifndef DSM_LOCK_CELLS_H
#define DSM_LOCK_CELLS_H

#include "session/cells.h"
#include "session/word_lock.h"

enum lock_cell {
  LOCK_CELL_ASK, /* the arbiter must be asked */
  LOCK_CELL_TAKEN, /* this process has the lock now */
  LOCK_CELL_BUSY, /* another process has it */
  LOCK_CELL_LATE, /* the arbiter takes this process for the owner, but the node may have been given up: the lock must be
                     unlocked, and then asked for, by requests */
};

#pragma GCC visibility push(hidden)

/* Takes the lock if it is free. */
enum lock_cell lock_cells_take(struct cells *cells, const struct cell_name *lock);

/* Waits for the lock, for a short time only, and takes it. Returns LOCK_CELL_ASK where the arbiter must be asked, unless
 * the interrupts of this thread end the wait; never LOCK_CELL_BUSY. */
enum lock_cell lock_cells_await(struct cells *cells, const struct cell_name *lock, struct word_lock_wait *wait);

/* Returns whether this process has the lock by its cell. */
int lock_cells_has(const struct cells *cells, const struct cell_name *lock);

/* Gives the lock back. Stores that it guards must have been published. Returns whether that is done. 0: the arbiter must
 * be asked. */
int lock_cells_give(struct cells *cells, const struct cell_name *lock);

/* Notes that a request has given this process the lock. */
void lock_cells_note(struct cells *cells, const struct cell_name *lock);

/* Returns whether a request gave this process the lock less than 1 ms ago. */
int lock_cells_is_short(struct cells *cells, const struct cell_name *lock);

#pragma GCC visibility pop

#endif
