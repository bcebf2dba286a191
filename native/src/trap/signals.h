/* Keeps dsm's fault handlers reachable whatever the program does with its signals; see signal_mask.c and
 * signal_action.c.
 *
 * "Program form" of a set of signals: what the program passes and reads. "Kernel form": what the kernel is given for
 * it, in which SIGSTKFLT stands in for SIGSEGV. Sets here are the 64 bits that the kernel knows, bit N - 1 for signal
 * N.
 *
 * Everything is handler-safe unless it says otherwise. */
#ifndef DSM_SIGNALS_H
#define DSM_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#define DSM_STAND_IN SIGSTKFLT
#define DSM_SIGNAL_BIT(signo) (1ull << ((signo) - 1))

#pragma GCC visibility push(hidden)

/* ---- signal_mask.c ---- */

uint64_t dsm_mask_inward(uint64_t program);
uint64_t dsm_mask_outward(uint64_t kernel);

/* Blocks every signal of this thread for dsm's own purposes, those of glibc and SIGSEGV included, and puts the mask
 * back. In between nothing may fault. */
void dsm_signals_block(uint64_t *before);
void dsm_signals_restore(const uint64_t *before);
/* Sets this thread's mask, in kernel form. */
void dsm_signals_set(uint64_t mask);

/* Unblocks SIGSEGV if this thread has really blocked it, and blocks the stand-in. */
void dsm_mask_open(void);

/* ---- signal_action.c ---- */

typedef void dsm_handler(int signo, siginfo_t *info, void *context);

/* Installs on_fault as the handler of SIGSEGV and SIGBUS, on_trap as that of SIGTRAP; the previous actions become those
 * of the program. May be called again: actions that were set by a call that dsm did not see become those of the program
 * in the same way. Returns 0, or -1 with errno. */
int dsm_actions_take(dsm_handler *on_fault, dsm_handler *on_trap);
/* Does the same with the handlers of the last call; does nothing before the first. */
void dsm_actions_retake(void);

/* Hands a signal that is not dsm's to the program's action: calls the handler as the kernel would have, or sees to it
 * that the process dies of the signal. `direct`: the kernel called dsm's handler. Otherwise a handler of the program's
 * did, which must not get it back. */
void dsm_action_chain(int signo, siginfo_t *info, ucontext_t *context, bool direct);

/* Returns whether the program has set a handler (neither SIG_DFL nor SIG_IGN). */
bool dsm_action_has_handler(int signo);

/* The kernel's default takes over: the process is about to die of the signal, in a way that it has been told of. */
void dsm_action_default(int signo);

/* Called in the child of a fork, before fork() returns there. */
void dsm_actions_in_child(void);

/* ---- run_record.c ---- */

/* Records for `dsm run` that dsm's handlers are installed. Not handler-safe. */
void dsm_run_record_opened(void);
/* Records for `dsm run` that dsm has seen the fault that this process is about to die of. */
void dsm_run_record_seen(void);
/* Records for `dsm run` that this process waits to join the run's session, which needs so many processes. Returns what
 * dsm_run_record_waited() needs at the end of the wait. Not handler-safe. */
uint64_t dsm_run_record_waits(uint32_t processes);
/* Records the end of that wait, and whether the process has joined. */
void dsm_run_record_waited(uint64_t wait, bool joined);

#pragma GCC visibility pop

#endif
