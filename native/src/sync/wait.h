/* Waiting for other processes, in a way that the interrupts of the thread can end. */
#ifndef DSM_WAIT_H
#define DSM_WAIT_H

#include "session/session.h"

#pragma GCC visibility push(hidden)

/* Makes a request that waits, after session_begin(), and returns like link_request(). If the interrupts end the wait and
 * the server does not answer, returns DSM_TIMEOUT: a thread of the library reads the answer when it comes, and gives back
 * the lock or the semaphore. */
int session_wait(dsm_session *session, struct wire_header *header, const void *body, size_t body_size, int timeout_ms);

/* Ends a wait. Pages that other threads have opened in the meantime lack what other processes published before they
 * ended the wait, so they are published and closed again. Returns a status: `status`, unless that fails. */
int session_catch_up(dsm_session *session, int status);

#pragma GCC visibility pop

#endif
