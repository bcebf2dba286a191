/* The sink of a session: what the fault handlers call with the stores they have captured. */
#ifndef DSM_SESSION_SINK_H
#define DSM_SESSION_SINK_H

#include <dsm/dsm.h>
#include "trap/sink.h"

#pragma GCC visibility push(hidden)

/* Its context is the dsm_session. */
extern const struct dsm_sink session_sink;

/* Do what the sink does with a store and with an atomic operation, for stores that the library makes itself. Return 0,
 * -1 if the arbiter is gone, or -2 for another failure, which is on stderr. Called with all signals blocked. */
int session_store(dsm_session *session, const struct dsm_run *runs, uint32_t count);
int session_atomic(dsm_session *session, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                   const void *compare, void *old);

#pragma GCC visibility pop

#endif
