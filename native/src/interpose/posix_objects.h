/* Objects of the C library (pthread_mutex_t, sem_t, mtx_t ...) that lie in the map: what their interposed calls share.
 *
 * The session keeps their state (sync/objects.h), as that of dsm_mutex and the like. Their bytes in the map hold attributes
 * alone: what a static initialiser or the init call has put there. An object elsewhere is the C library's business; so is
 * one in a session that is in direct mode and stays in it, because there the map is ordinary shared memory.
 *
 * A call that fails because the session cannot go on (a process was lost, the arbiter is gone) ends the process with a
 * message, as a store does: programs do not look at the result of these calls, and would go on without the lock. Calls of
 * robust mutexes return ENOTRECOVERABLE instead. A thread that waits while another one leaves the session waits until the
 * process ends.
 *
 * As with the C library, calls that return an error number keep errno. */
#ifndef DSM_POSIX_OBJECTS_H
#define DSM_POSIX_OBJECTS_H

#include <stdbool.h>
#include <time.h>

#include "interpose/posix_real.h"
#include "interpose/posix_shared.h"
#include "sync/objects.h"
#include "trap/region.h"

#define EXPORT __attribute__((weak, visibility("default")))

/* Whether an object may lie in a map: the cheap test of each call. */
#define IS_NEAR(object) __builtin_expect(dsm_regions_near(object, 1), 0)

#pragma GCC visibility push(hidden)

/* Returns whether the object is dsm's. If it is the C library's and lies in a map, it is a shared one from now on. Ends the
 * process if there is no room for the object's state. */
bool posix_find(struct object *object, enum posix_kind kind, void *address);

/* Returns the error number of a status that the program is to hear of, 0 for DSM_OK; `busy`: of DSM_AGAIN and DSM_BUSY.
 * Ends the process for one that it cannot hear of; `call`: which call it was. */
int posix_error(int status, const char *call);

/* A deadline by one of the clocks. */
struct deadline {
  clockid_t clock;
  const struct timespec *time; /* NULL: none */
};

/* Returns whether the deadline can be used: a clock that is there, and a fraction of a second. */
bool deadline_is_valid(const struct deadline *deadline);

/* Returns how many milliseconds are left, rounded up, at most INT32_MAX; -1: there is no deadline. */
int deadline_ms(const struct deadline *deadline);

/* pthread_testcancel(). */
void posix_testcancel(void);

#pragma GCC visibility pop

#endif
