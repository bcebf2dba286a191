/* Interrupts: what ends a wait of a thread early.
 *
 * A C program gives its waits a timeout. An interpreter has its own handlers for signals, which it runs between the
 * instructions of its program, not while a C function waits. So a thread may name a function that a wait of dsm asks
 * after a signal; if it says so, the wait ends as if its time were over. A signal may also arrive just before the
 * thread sleeps, or on another thread, so the wait asks every INTERRUPTS_POLL_MS as well. */
#ifndef DSM_INTERRUPTS_H
#define DSM_INTERRUPTS_H

#include <stdint.h>

#define INTERRUPTS_POLL_MS 100

struct dsm_interrupts {
  int (*check)(void); /* returns nonzero to end the wait; called on the waiting thread */
  int32_t status;     /* gets the status of each wait as it is answered: an interpreter that runs a handler when the
                         call returns may lose what it returned */
};

#pragma GCC visibility push(hidden)

/* Sets what ends the waits of this thread (NULL: only their timeouts); returns what did before. */
struct dsm_interrupts *interrupts_replace(struct dsm_interrupts *interrupts);

/* Returns whether waits of this thread must ask. */
int interrupts_are_on(void);

/* Returns for how long to sleep at once, of `timeout_ms` (< 0: without a limit). */
int interrupts_slice(int timeout_ms);

/* Asks whether the wait is to end. */
int interrupts_raised(void);

/* Keeps the status of a wait that was answered. */
void interrupts_note(int status);

#pragma GCC visibility pop

#endif
