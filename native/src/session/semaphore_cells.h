/* Semaphores that a process waits for and posts without the arbiter, in direct mode, by their cells: the arbiter decides on
 * the semaphore, or the word has its value and says whether threads may sleep on it.
 * src/core/replica/cells/semaphore-cells.ts has the states and the invariants. */
#ifndef DSM_SEMAPHORE_CELLS_H
#define DSM_SEMAPHORE_CELLS_H

#include "session/cells.h"

enum semaphore_result {
  SEMAPHORE_ASK, /* nothing is done: the arbiter must be asked */
  SEMAPHORE_DONE, /* 1 was taken, or added */
  SEMAPHORE_IS_ZERO, /* nothing is done, because the value is 0 */
};

#pragma GCC visibility push(hidden)

/* Takes 1 if the value is above 0. */
enum semaphore_result semaphore_cells_try(struct cells *cells, const struct cell_name *semaphore);

/* Takes 1, and waits for that: as long as *timeout_ms says (milliseconds; < 0: no limit), then SEMAPHORE_IS_ZERO. After 0.1 s
 * at most it gives up with SEMAPHORE_ASK, and *timeout_ms is what remains: longer waits are the arbiter's. Called between
 * session_keep() and session_let_go(). */
enum semaphore_result semaphore_cells_wait(struct cells *cells, const struct cell_name *semaphore, int *timeout_ms);

/* Adds 1, and wakes a thread that sleeps. Never SEMAPHORE_IS_ZERO. */
enum semaphore_result semaphore_cells_post(struct cells *cells, const struct cell_name *semaphore);

#pragma GCC visibility pop

#endif
