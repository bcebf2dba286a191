/* Threads of the library's own. */
#ifndef DSM_THREAD_H
#define DSM_THREAD_H

#include <stddef.h>

#pragma GCC visibility push(hidden)

/* Starts a detached thread in which no handler of the program runs, with `stack` bytes (0: as usual). 0, or an error
 * number: ENOSYS where the program has no threads. */
int thread_start(void *(*run)(void *), void *argument, size_t stack);

/* Returns whether the program can have one. */
int thread_can_start(void);

#pragma GCC visibility pop

#endif
