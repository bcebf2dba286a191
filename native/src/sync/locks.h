/* Locks of a session: the named ones, and what a mutex in the map is made of. */
#ifndef DSM_LOCKS_H
#define DSM_LOCKS_H

#include "session/lock_cells.h"
#include "session/session.h"

#pragma GCC visibility push(hidden)

/* Takes the lock if that needs no system call, and returns whether it has. *cell is for lock_take(), which must follow. */
int lock_take_free(dsm_session *session, const struct cell_name *lock, enum lock_cell *cell);

/* Locks, waiting at most timeout_ms (< 0: no limit), or tries. Returns a status; the reason of DSM_AGAIN, DSM_TIMEOUT and
 * DSM_BUSY is the caller's to say. Of an object in the map a second thread of the process waits for the first. */
int lock_take(dsm_session *session, const struct cell_name *lock, int try_only, int timeout_ms, enum lock_cell cell);

/* Takes the lock if its cell says that it is free. DSM_AGAIN: it is not, or a request must ask; nothing is kept of the reason. */
int lock_take_at_once(dsm_session *session, const struct cell_name *lock);

/* Unlocks if the cell says that this process has the lock. DSM_AGAIN: a request must do it. */
int lock_give_at_once(dsm_session *session, const struct cell_name *lock);

/* Unlocks if that needs no request, and returns whether it has. */
int lock_give_free(dsm_session *session, const struct cell_name *lock);

/* Unlocks what this process has. `keeps_mark`: leave the lock marked as inconsistent. Returns a status; the reason of
 * DSM_NOT_OWNER is the caller's to say. */
int lock_give(dsm_session *session, const struct cell_name *lock, int keeps_mark);

#pragma GCC visibility pop

#endif
