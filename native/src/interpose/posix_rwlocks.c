/* pthread_rwlock_t in the map; its bytes are not used. POSIX has no robust ones: after the death of a writer, whose data
 * may be inconsistent, locking returns EOWNERDEAD, and the lock is held, until a writer has unlocked it.
 *
 * Only in libdsm.so, like libc_outputs.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "interpose/posix_objects.h"

static bool find(struct object *object, pthread_rwlock_t *rwlock) {
  return posix_find(object, POSIX_RWLOCK, rwlock);
}

static int lock(const struct object *object, int is_writer, const struct deadline *deadline, const char *call) {
  if (!deadline_is_valid(deadline)) return EINVAL;
  int status, kept = errno;
  do {
    status = rwlock_lock(object, is_writer, deadline_ms(deadline));
  } while (status == DSM_TIMEOUT && deadline_ms(deadline) != 0);
  errno = kept;
  return posix_error(status, call);
}

static int try_lock(const struct object *object, int is_writer, const char *call) {
  int kept = errno;
  int status = rwlock_lock(object, is_writer, TRY_ONLY);
  errno = kept;
  return status == DSM_BUSY ? EBUSY : posix_error(status, call);
}

static int init(pthread_rwlock_t *rwlock, const struct object *object, const char *call) {
  int kept = errno;
  int status = object_init(object, WIRE_OBJECT_RW_LOCK, 0);
  errno = kept;
  if (status == DSM_BUSY) return EBUSY;
  int error = posix_error(status, call);
  if (error == 0) memset(rwlock, 0, sizeof *rwlock);
  return error;
}

static const struct deadline no_deadline;

EXPORT int pthread_rwlock_init(pthread_rwlock_t *restrict rwlock, const pthread_rwlockattr_t *restrict attributes) {
  struct object object;
  if (!IS_NEAR(rwlock)) return CALL_REAL(pthread_rwlock_init, ENOSYS, rwlock, attributes);
  if (!find(&object, rwlock)) {
    int error = CALL_REAL(pthread_rwlock_init, ENOSYS, rwlock, attributes);
    if (error == 0) find(&object, rwlock);
    return error;
  }
  return init(rwlock, &object, __func__);
}

EXPORT int pthread_rwlock_destroy(pthread_rwlock_t *rwlock) {
  struct object object;
  if (!IS_NEAR(rwlock) || !find(&object, rwlock)) return CALL_REAL(pthread_rwlock_destroy, ENOSYS, rwlock);
  return init(rwlock, &object, __func__);
}

EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t *rwlock) {
  struct object object;
  if (!IS_NEAR(rwlock) || !find(&object, rwlock)) return CALL_REAL(pthread_rwlock_rdlock, ENOSYS, rwlock);
  return lock(&object, 0, &no_deadline, __func__);
}

EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t *rwlock) {
  struct object object;
  if (!IS_NEAR(rwlock) || !find(&object, rwlock)) return CALL_REAL(pthread_rwlock_wrlock, ENOSYS, rwlock);
  return lock(&object, 1, &no_deadline, __func__);
}

EXPORT int pthread_rwlock_tryrdlock(pthread_rwlock_t *rwlock) {
  struct object object;
  if (!IS_NEAR(rwlock) || !find(&object, rwlock)) return CALL_REAL(pthread_rwlock_tryrdlock, ENOSYS, rwlock);
  return try_lock(&object, 0, __func__);
}

EXPORT int pthread_rwlock_trywrlock(pthread_rwlock_t *rwlock) {
  struct object object;
  if (!IS_NEAR(rwlock) || !find(&object, rwlock)) return CALL_REAL(pthread_rwlock_trywrlock, ENOSYS, rwlock);
  return try_lock(&object, 1, __func__);
}

EXPORT int pthread_rwlock_timedrdlock(pthread_rwlock_t *restrict rwlock, const struct timespec *restrict time) {
  struct object object;
  if (!IS_NEAR(rwlock) || !find(&object, rwlock)) return CALL_REAL(pthread_rwlock_timedrdlock, ENOSYS, rwlock, time);
  const struct deadline deadline = {CLOCK_REALTIME, time};
  return lock(&object, 0, &deadline, __func__);
}

EXPORT int pthread_rwlock_timedwrlock(pthread_rwlock_t *restrict rwlock, const struct timespec *restrict time) {
  struct object object;
  if (!IS_NEAR(rwlock) || !find(&object, rwlock)) return CALL_REAL(pthread_rwlock_timedwrlock, ENOSYS, rwlock, time);
  const struct deadline deadline = {CLOCK_REALTIME, time};
  return lock(&object, 1, &deadline, __func__);
}

EXPORT int pthread_rwlock_clockrdlock(pthread_rwlock_t *restrict rwlock, clockid_t clock,
                                      const struct timespec *restrict time) {
  struct object object;
  if (!IS_NEAR(rwlock) || !find(&object, rwlock))
    return CALL_REAL(pthread_rwlock_clockrdlock, ENOSYS, rwlock, clock, time);
  const struct deadline deadline = {clock, time};
  return lock(&object, 0, &deadline, __func__);
}

EXPORT int pthread_rwlock_clockwrlock(pthread_rwlock_t *restrict rwlock, clockid_t clock,
                                      const struct timespec *restrict time) {
  struct object object;
  if (!IS_NEAR(rwlock) || !find(&object, rwlock))
    return CALL_REAL(pthread_rwlock_clockwrlock, ENOSYS, rwlock, clock, time);
  const struct deadline deadline = {clock, time};
  return lock(&object, 1, &deadline, __func__);
}

EXPORT int pthread_rwlock_unlock(pthread_rwlock_t *rwlock) {
  struct object object;
  if (!IS_NEAR(rwlock) || !find(&object, rwlock)) return CALL_REAL(pthread_rwlock_unlock, ENOSYS, rwlock);
  int kept = errno;
  int error = posix_error(rwlock_unlock(&object, 0), __func__);
  errno = kept;
  return error;
}
