/* Objects in the map: what the calls of dsm.h and the interposed calls of pthreads have in common. Each is found by its
 * address; the session keeps its state (src/core/session). The functions return a status. Of DSM_AGAIN, DSM_TIMEOUT,
 * DSM_BUSY and DSM_NOT_OWNER the reason is the caller's to say.
 *
 * Waits last at most timeout_ms (< 0: no limit); with TRY_ONLY there is none. A thread is not cancelled in them. */
#ifndef DSM_OBJECTS_H
#define DSM_OBJECTS_H

#include <stddef.h>
#include <stdint.h>

#include "session/session.h"

/* In place of a timeout. */
#define TRY_ONLY (-2)

/* Alignment of the types of pthreads; src/core/base/limits.ts: OBJECT_ALIGN. */
#define OBJECT_ALIGN 8u

struct object {
  dsm_session *session;
  uint64_t offset;
  struct object_state *state;
};

/* What a mutex does that the thread which has it locks again. */
enum mutex_relock { RELOCK_FAILS, RELOCK_COUNTS };

#pragma GCC visibility push(hidden)

/* Finds the object of `size` bytes at an address in the map of an open session. `what`: its kind, for messages; `align`: a power of 2. */
int object_find(struct object *object, const char *what, const void *address, size_t size, size_t align);

/* Finds the object at an address in the map of that open session. */
int object_find_in(dsm_session *session, struct object *object, const char *what, const void *address, size_t size,
                   size_t align);

/* Gives an object its first state; `kind`: enum wire_object_kind. DSM_BUSY: a process has it or waits for it. */
int object_init(const struct object *object, uint8_t kind, uint32_t initial);

/* DSM_OWNER_DIED: locked, too. DSM_BUSY: this thread has it (RELOCK_FAILS), or has locked it 2^32 times. */
int mutex_lock(const struct object *mutex, int timeout_ms, enum mutex_relock relock);
/* DSM_NOT_OWNER: this thread does not have it. */
int mutex_unlock(const struct object *mutex, int keeps_mark);
/* Returns whether the calling thread has the mutex. */
int mutex_is_own(const struct object *mutex);
/* Lock and unlock without a request: see lock_take_at_once(). DSM_BUSY, DSM_NOT_OWNER: as above. */
int mutex_lock_at_once(const struct object *mutex);
int mutex_unlock_at_once(const struct object *mutex);
/* A request on another channel has locked the mutex for the calling thread; `cell`: what the answer said of its cell, or 0. */
void mutex_granted(const struct object *mutex, uint64_t cell);
/* The calling thread has the mutex, and a request that is sent next unlocks it. */
void mutex_disown(const struct object *mutex);
/* Makes the calling thread the owner of a mutex that another thread of this process has. */
void mutex_adopt(const struct object *mutex);

/* Unlocks the mutex and waits as one step, and then locks the mutex again; with DSM_OK, DSM_TIMEOUT and DSM_OWNER_DIED the
 * thread has it. DSM_NOT_OWNER: this thread does not have it, and nothing was done. */
int condition_wait(const struct object *condition, const struct object *mutex, int timeout_ms);
/* Lets at most `count` waiters go on. */
int condition_signal(const struct object *condition, uint32_t count);

int rwlock_lock(const struct object *rwlock, int is_writer, int timeout_ms);
int rwlock_unlock(const struct object *rwlock, int keeps_mark);

int semaphore_wait(const struct object *semaphore, int timeout_ms);
int semaphore_post(const struct object *semaphore);
/* The semaphore as the functions of sync/semaphores.h name it. */
struct cell_name semaphore_name(const struct object *semaphore);

/* Waits until `count` calls are in the barrier. *result: for DSM_OK whether this was the last one; for DSM_MISMATCH the
 * count that others have given; for DSM_TIMEOUT how many calls were missing. */
int barrier_arrive(const struct object *barrier, uint32_t count, int timeout_ms, uint64_t *result);

#pragma GCC visibility pop

#endif
