/* Semaphores of a session: the named ones, and those in the map. */
#ifndef DSM_SEMAPHORES_H
#define DSM_SEMAPHORES_H

#include "session/cells.h"
#include "session/session.h"

#pragma GCC visibility push(hidden)

/* Takes 1, waiting at most timeout_ms (< 0: no limit), or tries. `initial`: see dsm_sem_wait(); 0 for an object in the map.
 * Returns a status; the reason of DSM_AGAIN and DSM_TIMEOUT is the caller's to say. */
int semaphore_take(dsm_session *session, const struct cell_name *semaphore, uint32_t initial, int try_only,
                   int timeout_ms);

/* Takes 1 if the cell says that there is one. DSM_AGAIN: there is none, or a request must ask; nothing is kept of the reason. */
int semaphore_take_at_once(dsm_session *session, const struct cell_name *semaphore);

/* Adds 1 by the cell. DSM_AGAIN: a request must do it. */
int semaphore_give_at_once(dsm_session *session, const struct cell_name *semaphore);

/* Adds 1. Returns a status. */
int semaphore_give(dsm_session *session, const struct cell_name *semaphore, uint32_t initial);

#pragma GCC visibility pop

#endif
