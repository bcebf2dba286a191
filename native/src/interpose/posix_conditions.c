/* pthread_cond_t and cnd_t in the map. Their bytes hold the clock alone, where the init call has put it; zero bytes, as of
 * the static initialiser, are CLOCK_REALTIME.
 *
 * A wait in the map is a cancellation point only before it begins. Only in libdsm.so, like libc_outputs.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <threads.h>

#include "interpose/posix_mutexes.h"

_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "one layout");

/* What the bytes hold: a clock of the kernel, all of which are small numbers, CLOCK_REALTIME being 0. */
struct attributes {
  uint32_t clock;
};

static bool find(struct object *object, void *condition) {
  return posix_find(object, POSIX_CONDITION, condition);
}

static clockid_t clock_of(const pthread_cond_t *condition) {
  return (clockid_t)((const struct attributes *)condition)->clock;
}

static int wait_by(const struct object *object, pthread_mutex_t *mutex, const struct deadline *deadline,
                   const char *call) {
  struct object guard;
  if (!deadline_is_valid(deadline)) return EINVAL;
  if (!dsm_regions_near(mutex, 1) || !posix_find(&guard, POSIX_MUTEX, mutex)) return EINVAL;
  if (guard.session != object->session) return EINVAL;
  posix_testcancel();
  int kept = errno;
  posix_unlocking(&guard, mutex);
  int status = condition_wait(object, &guard, deadline_ms(deadline));
  /* Time is left after 2^31 ms, or by another clock: the program looks again. */
  if (status == DSM_TIMEOUT && deadline_ms(deadline) != 0) status = DSM_OK;
  int error = posix_lock_error(mutex, status, call);
  if (error == 0 || error == ETIMEDOUT || error == EOWNERDEAD) {
    int locked = posix_locked(&guard, mutex, error);
    if (locked == ENOTRECOVERABLE) error = locked;
  }
  errno = kept;
  return error;
}

static int signal_by(const struct object *object, uint32_t count, const char *call) {
  int kept = errno;
  int error = posix_error(condition_signal(object, count), call);
  errno = kept;
  return error;
}

static int init(pthread_cond_t *condition, const struct object *object, clockid_t clock, const char *call) {
  int kept = errno;
  int status = object_init(object, WIRE_OBJECT_CONDITION, 0);
  errno = kept;
  if (status == DSM_BUSY) return EBUSY;
  int error = posix_error(status, call);
  if (error != 0) return error;
  memset(condition, 0, sizeof *condition);
  ((struct attributes *)condition)->clock = (uint32_t)clock;
  return 0;
}

EXPORT int pthread_cond_init(pthread_cond_t *restrict condition, const pthread_condattr_t *restrict attributes) {
  struct object object;
  if (!IS_NEAR(condition)) return CALL_REAL(pthread_cond_init, ENOSYS, condition, attributes);
  if (!find(&object, condition)) {
    int error = CALL_REAL(pthread_cond_init, ENOSYS, condition, attributes);
    if (error == 0) find(&object, condition);
    return error;
  }
  clockid_t clock = CLOCK_REALTIME;
  if (attributes != NULL) CALL_REAL(pthread_condattr_getclock, ENOSYS, attributes, &clock);
  return init(condition, &object, clock, __func__);
}

EXPORT int pthread_cond_destroy(pthread_cond_t *condition) {
  struct object object;
  if (!IS_NEAR(condition) || !find(&object, condition)) return CALL_REAL(pthread_cond_destroy, ENOSYS, condition);
  return init(condition, &object, CLOCK_REALTIME, __func__);
}

/* Of a condition variable elsewhere the mutex lies elsewhere, too: glibc would unlock it in its own way. */
static bool is_elsewhere(struct object *object, void *condition, void *mutex) {
  struct object guard;
  return (!IS_NEAR(condition) || !find(object, condition)) &&
         (!IS_NEAR(mutex) || !posix_find(&guard, POSIX_MUTEX, mutex));
}

EXPORT int pthread_cond_wait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex) {
  struct object object = {0};
  if (is_elsewhere(&object, condition, mutex)) return CALL_REAL(pthread_cond_wait, ENOSYS, condition, mutex);
  const struct deadline deadline = {0};
  return object.session == NULL ? EINVAL : wait_by(&object, mutex, &deadline, __func__);
}

EXPORT int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                                  const struct timespec *restrict time) {
  struct object object = {0};
  if (is_elsewhere(&object, condition, mutex)) return CALL_REAL(pthread_cond_timedwait, ENOSYS, condition, mutex, time);
  if (object.session == NULL) return EINVAL;
  const struct deadline deadline = {clock_of(condition), time};
  return wait_by(&object, mutex, &deadline, __func__);
}

EXPORT int pthread_cond_clockwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, clockid_t clock,
                                  const struct timespec *restrict time) {
  struct object object = {0};
  if (is_elsewhere(&object, condition, mutex))
    return CALL_REAL(pthread_cond_clockwait, ENOSYS, condition, mutex, clock, time);
  const struct deadline deadline = {clock, time};
  return object.session == NULL ? EINVAL : wait_by(&object, mutex, &deadline, __func__);
}

EXPORT int pthread_cond_signal(pthread_cond_t *condition) {
  struct object object;
  if (!IS_NEAR(condition) || !find(&object, condition)) return CALL_REAL(pthread_cond_signal, ENOSYS, condition);
  return signal_by(&object, 1, __func__);
}

EXPORT int pthread_cond_broadcast(pthread_cond_t *condition) {
  struct object object;
  if (!IS_NEAR(condition) || !find(&object, condition)) return CALL_REAL(pthread_cond_broadcast, ENOSYS, condition);
  return signal_by(&object, UINT32_MAX, __func__);
}

/* ---- cnd_t: the same bytes ---- */

static int thread_result(int error) {
  return error == 0 ? thrd_success : error == ETIMEDOUT ? thrd_timedout : thrd_error;
}

EXPORT int cnd_init(cnd_t *condition) {
  struct object object;
  if (!IS_NEAR(condition)) return CALL_REAL(cnd_init, thrd_error, condition);
  if (!find(&object, condition)) {
    int result = CALL_REAL(cnd_init, thrd_error, condition);
    if (result == thrd_success) find(&object, condition);
    return result;
  }
  return thread_result(init((pthread_cond_t *)condition, &object, CLOCK_REALTIME, __func__));
}

EXPORT void cnd_destroy(cnd_t *condition) {
  struct object object;
  if (!IS_NEAR(condition) || !find(&object, condition)) {
    CALL_REAL(cnd_destroy, (void)0, condition);
    return;
  }
  init((pthread_cond_t *)condition, &object, CLOCK_REALTIME, __func__);
}

EXPORT int cnd_wait(cnd_t *condition, mtx_t *mutex) {
  struct object object = {0};
  if (is_elsewhere(&object, condition, mutex)) return CALL_REAL(cnd_wait, thrd_error, condition, mutex);
  const struct deadline deadline = {0};
  return object.session == NULL ? thrd_error
                                : thread_result(wait_by(&object, (pthread_mutex_t *)mutex, &deadline, __func__));
}

EXPORT int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict time) {
  struct object object = {0};
  if (is_elsewhere(&object, condition, mutex)) return CALL_REAL(cnd_timedwait, thrd_error, condition, mutex, time);
  const struct deadline deadline = {CLOCK_REALTIME, time};
  return object.session == NULL ? thrd_error
                                : thread_result(wait_by(&object, (pthread_mutex_t *)mutex, &deadline, __func__));
}

EXPORT int cnd_signal(cnd_t *condition) {
  struct object object;
  if (!IS_NEAR(condition) || !find(&object, condition)) return CALL_REAL(cnd_signal, thrd_error, condition);
  return thread_result(signal_by(&object, 1, __func__));
}

EXPORT int cnd_broadcast(cnd_t *condition) {
  struct object object;
  if (!IS_NEAR(condition) || !find(&object, condition)) return CALL_REAL(cnd_broadcast, thrd_error, condition);
  return thread_result(signal_by(&object, UINT32_MAX, __func__));
}
