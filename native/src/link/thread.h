/* Threads of the library. */
#ifndef DSM_THREAD_H
#define DSM_THREAD_H

#include <stddef.h>

#pragma GCC visibility push(hidden)

/* Starts a detached thread in which no handler of the program runs, with `stack` bytes (0: the default). Returns 0, or
 * an error number: ENOSYS if the program has no thread library. */
int thread_start(void *(*run)(void *), void *argument, size_t stack);

/* Returns whether thread_start() can work in this program. */
int thread_can_start(void);

#pragma GCC visibility pop

#endif
