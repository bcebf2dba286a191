/* The sink of a session: what the fault handlers call with the stores they have captured. */
#ifndef DSM_SESSION_SINK_H
#define DSM_SESSION_SINK_H

#include "trap/sink.h"

#pragma GCC visibility push(hidden)

/* Its context is the dsm_session. */
extern const struct dsm_sink session_sink;

#pragma GCC visibility pop

#endif
