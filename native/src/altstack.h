/* Alternate signal stacks of the library's own.
 *
 * The kernel puts the frame of a signal on the thread's alternate stack, or where its stack pointer is. If that lies in the
 * map, which is read-only, or has too little room, the kernel ends the process at once and no handler can say why. So:
 *
 * - a thread that has no alternate stack is given one of these: the one that opens a session there and then, any other
 *   with its first captured store. Then its stack may lie in the map: whoever makes a stack there (makecontext) has stored
 *   to it before it runs on it;
 * - an alternate stack that lies in the map, or is too small for two frames and their handlers, is remembered and shown to
 *   the program as its own (sigaltstack, stacks.c), and one of these, at least as large, is used in its place.
 *
 * A stack belongs to a thread until that has ended, and is then given to the next one that needs one. */
#ifndef DSM_ALTSTACK_H
#define DSM_ALTSTACK_H

#include <signal.h>
#include <ucontext.h>

#define DSM_ALTSTACKS_MAX 4096       /* threads of a process that have one */
#define DSM_ALTSTACK_BYTES (256u << 10) /* of each, or what the program asked for; memory is used as the stack is */

#pragma GCC visibility push(hidden)

/* Sees to it that the calling thread has an alternate stack on which dsm's handlers can run. Not inside them. */
void dsm_altstack_ensure(void);

/* For a thread that has none: its return from the signal makes one of these its alternate stack. handler-safe. */
void dsm_altstack_offer(ucontext_t *context);

/* sigaltstack() as the program sees it. handler-safe. */
int dsm_altstack_set(const stack_t *wanted, stack_t *before);

#pragma GCC visibility pop

#endif
