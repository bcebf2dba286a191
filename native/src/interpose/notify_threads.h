/* Functions that the C library calls on threads of its own. */
#ifndef DSM_NOTIFY_THREADS_H
#define DSM_NOTIFY_THREADS_H

#include <signal.h>

#pragma GCC visibility push(hidden)

/* Returns the event unchanged or, in `room`, one whose function is called with SIGSEGV unblocked. Not handler-safe. */
struct sigevent *dsm_notify_open(struct sigevent *event, struct sigevent *room);

#pragma GCC visibility pop

#endif
