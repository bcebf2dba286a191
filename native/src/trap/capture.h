/* Captures the store at RIP: decodes it, passes it to the sink, and only then updates the registers. handler-safe. */
#ifndef DSM_CAPTURE_H
#define DSM_CAPTURE_H

#include "trap/fault_state.h"

#pragma GCC visibility push(hidden)

/* Returns whether the instruction at RIP is LOCK-prefixed or xchg. */
int dsm_capture_is_atomic(const struct dsm_fault *fault);

/* Captures the store at RIP. */
enum dsm_outcome dsm_capture(struct dsm_fault *fault);

#pragma GCC visibility pop

#endif
