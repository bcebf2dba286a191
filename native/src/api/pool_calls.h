/* The pool of a session that this process leaves. */
#ifndef DSM_POOL_CALLS_H
#define DSM_POOL_CALLS_H

#include "session/session.h"

#pragma GCC visibility push(hidden)

/* Gives the free blocks of this process to the other processes; later calls return DSM_LEFT. */
void pool_close(dsm_session *session);

#pragma GCC visibility pop

#endif
