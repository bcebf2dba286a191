/* pthread_mutex_t and mtx_t in the map. Their bytes hold what glibc's static initialisers put there: the type, at __kind;
 * and of a robust mutex that is not recoverable a mark, at __owner.
 *
 * Only in libdsm.so, like libc_outputs.c. */
#define _GNU_SOURCE
#include "interpose/posix_mutexes.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <threads.h>
#include <time.h>

/* Of glibc's __kind. */
#define KIND_TYPE 3
#define KIND_ROBUST 16
#define KIND_PRIORITY (32 | 64)
#define KIND_KNOWN (KIND_TYPE | KIND_ROBUST | KIND_PRIORITY | 128 | 256 | 512)
/* As glibc marks it. */
#define NOT_RECOVERABLE (INT_MAX - 1)

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "one layout");

static int kind_of(const pthread_mutex_t *mutex) {
  return __atomic_load_n(&mutex->__data.__kind, __ATOMIC_RELAXED);
}

static bool is_robust(const pthread_mutex_t *mutex) {
  return (kind_of(mutex) & KIND_ROBUST) != 0;
}

static int type_of(const pthread_mutex_t *mutex) {
  return kind_of(mutex) & KIND_TYPE;
}

/* Any thread may unlock it, and the one that has it waits for itself. */
static bool is_plain(const pthread_mutex_t *mutex) {
  int type = type_of(mutex);
  return !is_robust(mutex) && (type == PTHREAD_MUTEX_TIMED_NP || type == PTHREAD_MUTEX_ADAPTIVE_NP);
}

static bool is_unusable(const pthread_mutex_t *mutex) {
  return __atomic_load_n(&mutex->__data.__owner, __ATOMIC_RELAXED) == NOT_RECOVERABLE;
}

int posix_locked(const struct object *object, const pthread_mutex_t *mutex, int error) {
  if (!is_robust(mutex)) return error;
  if (is_unusable(mutex)) {
    mutex_unlock(object, 0);
    return ENOTRECOVERABLE;
  }
  if (error == EOWNERDEAD) object->state->is_inconsistent = 1;
  return error;
}

int posix_lock_error(const pthread_mutex_t *mutex, int status, const char *call) {
  switch (status) {
    case DSM_OK:
    case DSM_AGAIN:
    case DSM_BUSY:
    case DSM_TIMEOUT:
    case DSM_OWNER_DIED:
    case DSM_NOT_OWNER: return posix_error(status, call);
    default: return is_robust(mutex) ? ENOTRECOVERABLE : posix_error(status, call);
  }
}

void posix_unlocking(const struct object *object, pthread_mutex_t *mutex) {
  if (is_plain(mutex) && !mutex_is_own(object)) mutex_adopt(object);
  if (!mutex_is_own(object) || object->state->depth > 0 || !object->state->is_inconsistent) return;
  /* POSIX: one that is unlocked without pthread_mutex_consistent() cannot be used any more. */
  mutex->__data.__owner = NOT_RECOVERABLE;
  object->state->is_inconsistent = 0;
}

static void sleep_until(const struct deadline *deadline) {
  while (clock_nanosleep(deadline->clock, TIMER_ABSTIME, deadline->time, NULL) == EINTR) continue;
}

/* The thread has the mutex already. */
static int relock(const pthread_mutex_t *mutex, bool try_only, const struct deadline *deadline) {
  if (try_only) return EBUSY;
  if (type_of(mutex) == PTHREAD_MUTEX_RECURSIVE_NP) return EAGAIN; /* too often */
  if (!is_plain(mutex) || deadline->time == NULL) return EDEADLK;
  sleep_until(deadline);
  return ETIMEDOUT;
}

static int lock(pthread_mutex_t *mutex, const struct object *object, bool try_only, const struct deadline *deadline,
                const char *call) {
  int kind = kind_of(mutex);
  if ((kind & ~KIND_KNOWN) != 0 || (kind & KIND_PRIORITY) != 0 || !deadline_is_valid(deadline)) return EINVAL;
  enum mutex_relock again = type_of(mutex) == PTHREAD_MUTEX_RECURSIVE_NP ? RELOCK_COUNTS : RELOCK_FAILS;
  int status, kept = errno;
  do {
    status = mutex_lock(object, try_only ? TRY_ONLY : deadline_ms(deadline), again);
  } while (status == DSM_TIMEOUT && deadline_ms(deadline) != 0);
  int error = status == DSM_BUSY ? relock(mutex, try_only, deadline) : posix_lock_error(mutex, status, call);
  if (error == 0 || error == EOWNERDEAD) error = posix_locked(object, mutex, error);
  errno = kept;
  return error;
}

static int unlock(pthread_mutex_t *mutex, const struct object *object, const char *call) {
  int kept = errno;
  posix_unlocking(object, mutex);
  int error = posix_error(mutex_unlock(object, 0), call);
  errno = kept;
  return error;
}

/* Gives the mutex its first state. */
static int init(pthread_mutex_t *mutex, const struct object *object, int kind, const char *call) {
  int kept = errno;
  int status = object_init(object, WIRE_OBJECT_MUTEX, 0);
  errno = kept;
  if (status == DSM_BUSY) return EBUSY;
  int error = posix_error(status, call);
  if (error != 0) return error;
  object->state->is_inconsistent = 0;
  memset(mutex, 0, sizeof *mutex);
  mutex->__data.__kind = kind;
  return 0;
}

static bool find(struct object *object, void *mutex) {
  return posix_find(object, POSIX_MUTEX, mutex);
}

static const struct deadline no_deadline;

EXPORT int pthread_mutex_lock(pthread_mutex_t *mutex) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) return CALL_REAL(pthread_mutex_lock, ENOSYS, mutex);
  return lock(mutex, &object, false, &no_deadline, __func__);
}

EXPORT int pthread_mutex_trylock(pthread_mutex_t *mutex) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) return CALL_REAL(pthread_mutex_trylock, ENOSYS, mutex);
  return lock(mutex, &object, true, &no_deadline, __func__);
}

EXPORT int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict time) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) return CALL_REAL(pthread_mutex_timedlock, ENOSYS, mutex, time);
  const struct deadline deadline = {CLOCK_REALTIME, time};
  return lock(mutex, &object, false, &deadline, __func__);
}

EXPORT int pthread_mutex_clocklock(pthread_mutex_t *restrict mutex, clockid_t clock,
                                   const struct timespec *restrict time) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) return CALL_REAL(pthread_mutex_clocklock, ENOSYS, mutex, clock, time);
  const struct deadline deadline = {clock, time};
  return lock(mutex, &object, false, &deadline, __func__);
}

EXPORT int pthread_mutex_unlock(pthread_mutex_t *mutex) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) return CALL_REAL(pthread_mutex_unlock, ENOSYS, mutex);
  return unlock(mutex, &object, __func__);
}

EXPORT int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes) {
  struct object object;
  if (!IS_NEAR(mutex)) return CALL_REAL(pthread_mutex_init, ENOSYS, mutex, attributes);
  if (!find(&object, mutex)) {
    int error = CALL_REAL(pthread_mutex_init, ENOSYS, mutex, attributes);
    if (error == 0) find(&object, mutex);
    return error;
  }
  int type = PTHREAD_MUTEX_DEFAULT, protocol = PTHREAD_PRIO_NONE, robust = PTHREAD_MUTEX_STALLED;
  if (attributes != NULL) {
    CALL_REAL(pthread_mutexattr_gettype, ENOSYS, attributes, &type);
    CALL_REAL(pthread_mutexattr_getprotocol, ENOSYS, attributes, &protocol);
    CALL_REAL(pthread_mutexattr_getrobust, ENOSYS, attributes, &robust);
  }
  if (protocol != PTHREAD_PRIO_NONE) return ENOTSUP;
  return init(mutex, &object, (type & KIND_TYPE) | (robust == PTHREAD_MUTEX_ROBUST ? KIND_ROBUST : 0), __func__);
}

EXPORT int pthread_mutex_destroy(pthread_mutex_t *mutex) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) return CALL_REAL(pthread_mutex_destroy, ENOSYS, mutex);
  return init(mutex, &object, -1, __func__);
}

EXPORT int pthread_mutex_consistent(pthread_mutex_t *mutex) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) return CALL_REAL(pthread_mutex_consistent, ENOSYS, mutex);
  if (!is_robust(mutex) || !mutex_is_own(&object) || !object.state->is_inconsistent) return EINVAL;
  object.state->is_inconsistent = 0;
  return 0;
}

/* ---- mtx_t: the same bytes ---- */

static int thread_result(int error) {
  switch (error) {
    case 0: return thrd_success;
    case EBUSY: return thrd_busy;
    case ETIMEDOUT: return thrd_timedout;
    default: return thrd_error;
  }
}

EXPORT int mtx_init(mtx_t *mutex, int type) {
  struct object object;
  if (!IS_NEAR(mutex)) return CALL_REAL(mtx_init, thrd_error, mutex, type);
  if (!find(&object, mutex)) {
    int result = CALL_REAL(mtx_init, thrd_error, mutex, type);
    if (result == thrd_success) find(&object, mutex);
    return result;
  }
  if ((type & ~(mtx_recursive | mtx_timed)) != 0) return thrd_error;
  int kind = (type & mtx_recursive) != 0 ? PTHREAD_MUTEX_RECURSIVE_NP : PTHREAD_MUTEX_TIMED_NP;
  return thread_result(init((pthread_mutex_t *)mutex, &object, kind, __func__));
}

EXPORT void mtx_destroy(mtx_t *mutex) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) {
    CALL_REAL(mtx_destroy, (void)0, mutex);
    return;
  }
  init((pthread_mutex_t *)mutex, &object, -1, __func__);
}

EXPORT int mtx_lock(mtx_t *mutex) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) return CALL_REAL(mtx_lock, thrd_error, mutex);
  return thread_result(lock((pthread_mutex_t *)mutex, &object, false, &no_deadline, __func__));
}

EXPORT int mtx_trylock(mtx_t *mutex) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) return CALL_REAL(mtx_trylock, thrd_error, mutex);
  return thread_result(lock((pthread_mutex_t *)mutex, &object, true, &no_deadline, __func__));
}

EXPORT int mtx_timedlock(mtx_t *restrict mutex, const struct timespec *restrict time) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) return CALL_REAL(mtx_timedlock, thrd_error, mutex, time);
  const struct deadline deadline = {CLOCK_REALTIME, time};
  return thread_result(lock((pthread_mutex_t *)mutex, &object, false, &deadline, __func__));
}

EXPORT int mtx_unlock(mtx_t *mutex) {
  struct object object;
  if (!IS_NEAR(mutex) || !find(&object, mutex)) return CALL_REAL(mtx_unlock, thrd_error, mutex);
  return thread_result(unlock((pthread_mutex_t *)mutex, &object, __func__));
}
