/* Lock cells: locks that a process takes and gives back without the arbiter, in direct mode.
 *
 * A cell is a word in the file behind the map: the arbiter decides on the lock, or it is free, or a process has it. A
 * process changes it by compare-and-swap, from free to its own mark and back. Any request for a lock makes the arbiter
 * take the cell; src/core/replica/lock-cells.ts has the invariants. The answer to a request says which cell the lock
 * has. */
#ifndef DSM_LOCK_CELLS_H
#define DSM_LOCK_CELLS_H

#include <stdatomic.h>
#include <stdint.h>

#include <dsm/dsm.h>
#include "link/arbiter_link.h"

struct lock_cells {
  const struct arbiter_link *link;
  uint8_t *cells; /* NULL: none, each lock is a request */
  uint32_t mark; /* of this process in a cell */
  uint64_t owner; /* dsm_process_token() of the process that joined */
  int main_fd; /* whose end is the arbiter's */
  atomic_uint taken; /* counts the locks taken, modulo 2^32 */
  int spins; /* 0: this process has one core only */
  struct known_lock *known; /* KNOWN_LOCKS_MAX of them */
};

#pragma GCC visibility push(hidden)

/* Maps the cells of a session in direct mode; `offset`: where they begin in the file. Returns 0, or -1 with errno. */
int lock_cells_open(struct lock_cells *locks, const struct arbiter_link *link, uint64_t offset);

/* The process leaves the session, and the arbiter is not told yet: each lock is a request from now on. Threads may still be using the cells. */
void lock_cells_retire(struct lock_cells *locks);

/* Unmaps the cells. No thread uses them any more. */
void lock_cells_close(struct lock_cells *locks);

/* Takes the lock if it is free, after a short wait for an owner that is about to give it back. Returns whether the
 * process has it now. 0: the arbiter must be asked. `may_wait`: 0 for an attempt that must not wait. */
int lock_cells_take(struct lock_cells *locks, const char *name, int may_wait);

/* Gives the lock back. Returns whether that is done. 0: the arbiter must be asked. */
int lock_cells_give(struct lock_cells *locks, const char *name);

/* Records what the answer to a request for the lock said: 1 plus the number of its cell, or 0. */
void lock_cells_learn(struct lock_cells *locks, const char *name, uint64_t answer);

#pragma GCC visibility pop

#endif
