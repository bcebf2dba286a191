/* Alternate signal stacks of the library.
 *
 * The kernel puts the frame of a signal on the alternate stack of the thread, or at its stack pointer. If that place
 * lies in the map, which is read-only, or has too little room, the kernel kills the process at once, without a message.
 * So:
 *
 * - the library gives each thread without an alternate stack one of these: the thread that opens a session gets it in
 * dsm_open, any other with its first captured store. From then on the thread may run on a stack in the map: to make one
 *   (makecontext), it has stored there;
 * - if an alternate stack lies in the map, or is too small for two frames and their handlers, the library records it,
 * shows
 *   it to the program as its own (sigaltstack), and uses one of these, at least as large, in its place.
 *
 * A thread keeps its stack until it ends; the next thread that needs one then reuses it. */
#ifndef DSM_ALTSTACK_H
#define DSM_ALTSTACK_H

#include <signal.h>
#include <ucontext.h>

#define DSM_ALTSTACKS_MAX 4096       /* threads of a process that have one */
#define DSM_ALTSTACK_BYTES (256u << 10) /* of each, or what the program asked for; memory is used as the stack is */

#pragma GCC visibility push(hidden)

/* Ensures that the calling thread has an alternate stack for dsm's handlers. Must not be called inside them. */
void dsm_altstack_ensure(void);

/* Sets an alternate stack in `context` for a thread that has none: the return from the signal makes it effective.
 * handler-safe. */
void dsm_altstack_offer(ucontext_t *context);

/* sigaltstack() as the program sees it. handler-safe. */
int dsm_altstack_set(const stack_t *wanted, stack_t *before);

#pragma GCC visibility pop

#endif
