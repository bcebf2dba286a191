/* Functions that the C library calls on threads of its own. */
#ifndef DSM_NOTIFY_THREADS_H
#define DSM_NOTIFY_THREADS_H

#include <signal.h>

#pragma GCC visibility push(hidden)

/* The event as it is, or in `room` one by which its function is called with SIGSEGV open. Not handler-safe. */
struct sigevent *dsm_notify_open(struct sigevent *event, struct sigevent *room);

#pragma GCC visibility pop

#endif
