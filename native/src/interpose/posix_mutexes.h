/* What the calls of condition variables need of the mutexes in the map. */
#ifndef DSM_POSIX_MUTEXES_H
#define DSM_POSIX_MUTEXES_H

#include <pthread.h>

#include "interpose/posix_objects.h"

#pragma GCC visibility push(hidden)

/* The mutex was locked, with that error number: 0 or EOWNERDEAD. Returns the number for the program, which may be
 * ENOTRECOVERABLE: then it is unlocked again. */
int posix_locked(const struct object *object, const pthread_mutex_t *mutex, int error);

/* As posix_error(), of a call that had to lock the mutex. */
int posix_lock_error(const pthread_mutex_t *mutex, int status, const char *call);

/* The thread is about to unlock the mutex. Makes it the owner, where any thread of the process may unlock. */
void posix_unlocking(const struct object *object, pthread_mutex_t *mutex);

#pragma GCC visibility pop

#endif
