/* Handles: the open sessions of this process, and the memory of handles. */
#ifndef DSM_HANDLES_H
#define DSM_HANDLES_H

#include "session/session.h"

#pragma GCC visibility push(hidden)

/* The lock of the list of open sessions and of departed maps. Held across fork(). */
void handles_lock(void);
void handles_unlock(void);

/* The newest open session; `next` leads to the others. Lock held. */
dsm_session *handles_open(void);
void handles_add(dsm_session *session);
void handles_remove(const dsm_session *session);

/* Returns the open session whose map holds the address, or NULL. Takes no lock. */
dsm_session *handle_at(const void *address);

/* Returns the open session whose map holds the address, else a departed one, else NULL. Takes the lock. */
dsm_session *handle_of(const void *address);

/* Returns whether a store to some of these bytes may trap: they lie in the map of an open session that is not in direct
 * mode, or whose direct mode may end. Takes the lock. */
int session_may_trap(const void *bytes, size_t size);

/* Returns a zeroed handle, or NULL if out of memory. */
dsm_session *handle_take(void);

/* Returns the handle of a session that was not opened. */
void handle_give(dsm_session *session);

/* Keeps the handle of a departed session, whose resources are released, so that later calls return DSM_LEFT. */
void handle_keep(dsm_session *session);

/* From the first call on, a forked child closes its copies of the connections. */
void handles_watch_forks(void);

/* Releases everything but the handle: connections, ring, the file of the map. */
void session_release_resources(dsm_session *session);

#pragma GCC visibility pop

#endif
