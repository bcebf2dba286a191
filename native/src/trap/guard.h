/* Copies memory that may be unmapped. handler-safe. */
#ifndef DSM_GUARD_H
#define DSM_GUARD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#include "trap/fault_state.h"

/* A fault inside dsm_guarded_copy. signo 0: none. */
struct dsm_guard {
  int32_t signo;
  int32_t code;
  uint64_t address;
  uint64_t error;
};

#pragma GCC visibility push(hidden)

/* Copies upwards between memory of the program, any of which may be unmapped. Returns the number of bytes not copied
 * and, if not 0, the fault in *guard. */
size_t dsm_guarded_copy(void *to, const void *from, size_t length, struct dsm_guard *guard);
/* Does the same outside the handlers, where SIGSEGV and SIGBUS are not blocked. */
size_t dsm_guarded_copy_run(void *to, const void *from, size_t length, struct dsm_guard *guard);
/* Turns the fault being answered into the one in *guard; returns DSM_OUTCOME_CHAIN. */
enum dsm_outcome dsm_fault_becomes(struct dsm_fault *fault, const struct dsm_guard *guard);

/* Called in the handlers: returns whether the fault belongs to a guarded copy, and ends that copy. */
bool dsm_guard_hit(int signo, const siginfo_t *info, ucontext_t *context);

#pragma GCC visibility pop

#endif
