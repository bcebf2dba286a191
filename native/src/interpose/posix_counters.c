/* sem_t without a name, and pthread_barrier_t, in the map. The bytes of a barrier hold its count; those of a semaphore are
 * not used.
 *
 * A wait in the map is a cancellation point only before it begins, and signals do not interrupt it. Only in libdsm.so, like
 * libc_outputs.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <string.h>

#include "interpose/posix_objects.h"
#include "session/handles.h"

/* ---- semaphores: -1 with errno ---- */

static bool find_semaphore(struct object *object, sem_t *semaphore) {
  return posix_find(object, POSIX_SEMAPHORE, semaphore);
}

static int fail(int error) {
  errno = error;
  return -1;
}

static int missing(void) {
  return fail(ENOSYS);
}

static int take(const struct object *object, const struct deadline *deadline, const char *call) {
  posix_testcancel();
  int status = semaphore_wait(object, TRY_ONLY);
  /* POSIX: the deadline counts only if the semaphore is 0. */
  bool is_valid = deadline_is_valid(deadline);
  if (is_valid)
    while (status == DSM_AGAIN || (status == DSM_TIMEOUT && deadline_ms(deadline) != 0))
      status = semaphore_wait(object, deadline_ms(deadline));
  int error = status == DSM_AGAIN ? EINVAL : posix_error(status, call);
  return error == 0 ? 0 : fail(error);
}

EXPORT int sem_init(sem_t *semaphore, int shared, unsigned value) {
  struct object object;
  if (!IS_NEAR(semaphore)) return CALL_REAL(sem_init, missing(), semaphore, shared, value);
  if (!find_semaphore(&object, semaphore))
    return CALL_REAL(sem_init, missing(), semaphore, handle_at(semaphore) != NULL ? 1 : shared, value);
  if (value > DSM_SEM_MAX) return fail(EINVAL);
  int status = object_init(&object, WIRE_OBJECT_SEMAPHORE, value);
  if (status == DSM_BUSY) return fail(EBUSY);
  int error = posix_error(status, __func__);
  return error == 0 ? 0 : fail(error);
}

EXPORT int sem_destroy(sem_t *semaphore) {
  struct object object;
  if (!IS_NEAR(semaphore) || !find_semaphore(&object, semaphore)) return CALL_REAL(sem_destroy, missing(), semaphore);
  int status = object_init(&object, WIRE_OBJECT_SEMAPHORE, 0);
  if (status == DSM_BUSY) return fail(EBUSY);
  int error = posix_error(status, __func__);
  return error == 0 ? 0 : fail(error);
}

EXPORT int sem_wait(sem_t *semaphore) {
  struct object object;
  if (!IS_NEAR(semaphore) || !find_semaphore(&object, semaphore)) return CALL_REAL(sem_wait, missing(), semaphore);
  const struct deadline deadline = {0};
  return take(&object, &deadline, __func__);
}

EXPORT int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict time) {
  struct object object;
  if (!IS_NEAR(semaphore) || !find_semaphore(&object, semaphore))
    return CALL_REAL(sem_timedwait, missing(), semaphore, time);
  const struct deadline deadline = {CLOCK_REALTIME, time};
  return take(&object, &deadline, __func__);
}

EXPORT int sem_clockwait(sem_t *restrict semaphore, clockid_t clock, const struct timespec *restrict time) {
  struct object object;
  if (!IS_NEAR(semaphore) || !find_semaphore(&object, semaphore))
    return CALL_REAL(sem_clockwait, missing(), semaphore, clock, time);
  const struct deadline deadline = {clock, time};
  return take(&object, &deadline, __func__);
}

EXPORT int sem_trywait(sem_t *semaphore) {
  struct object object;
  if (!IS_NEAR(semaphore) || !find_semaphore(&object, semaphore)) return CALL_REAL(sem_trywait, missing(), semaphore);
  int status = semaphore_wait(&object, TRY_ONLY);
  int error = status == DSM_AGAIN ? EAGAIN : posix_error(status, __func__);
  return error == 0 ? 0 : fail(error);
}

EXPORT int sem_post(sem_t *semaphore) {
  struct object object;
  if (!IS_NEAR(semaphore) || !find_semaphore(&object, semaphore)) return CALL_REAL(sem_post, missing(), semaphore);
  int error = posix_error(semaphore_post(&object), __func__);
  return error == 0 ? 0 : fail(error);
}

EXPORT int sem_getvalue(sem_t *restrict semaphore, int *restrict value) {
  struct object object;
  if (!IS_NEAR(semaphore) || !find_semaphore(&object, semaphore))
    return CALL_REAL(sem_getvalue, missing(), semaphore, value);
  return missing();
}

/* ---- barriers ---- */

struct attributes {
  uint32_t count;
};

static bool find_barrier(struct object *object, pthread_barrier_t *barrier) {
  return posix_find(object, POSIX_BARRIER, barrier);
}

static int init(pthread_barrier_t *barrier, const struct object *object, uint32_t count, const char *call) {
  int kept = errno;
  int status = object_init(object, WIRE_OBJECT_BARRIER, 0);
  errno = kept;
  if (status == DSM_BUSY) return EBUSY;
  int error = posix_error(status, call);
  if (error != 0) return error;
  memset(barrier, 0, sizeof *barrier);
  ((struct attributes *)barrier)->count = count;
  return 0;
}

EXPORT int pthread_barrier_init(pthread_barrier_t *restrict barrier, const pthread_barrierattr_t *restrict attributes,
                                unsigned count) {
  struct object object;
  if (!IS_NEAR(barrier)) return CALL_REAL(pthread_barrier_init, ENOSYS, barrier, attributes, count);
  if (!find_barrier(&object, barrier)) {
    int error = CALL_REAL(pthread_barrier_init, ENOSYS, barrier, attributes, count);
    if (error == 0) find_barrier(&object, barrier);
    return error;
  }
  if (count == 0) return EINVAL;
  return count > DSM_ARRIVALS_MAX ? EAGAIN : init(barrier, &object, count, __func__);
}

EXPORT int pthread_barrier_destroy(pthread_barrier_t *barrier) {
  struct object object;
  if (!IS_NEAR(barrier) || !find_barrier(&object, barrier)) return CALL_REAL(pthread_barrier_destroy, ENOSYS, barrier);
  return init(barrier, &object, 0, __func__);
}

EXPORT int pthread_barrier_wait(pthread_barrier_t *barrier) {
  struct object object;
  if (!IS_NEAR(barrier) || !find_barrier(&object, barrier)) return CALL_REAL(pthread_barrier_wait, ENOSYS, barrier);
  uint32_t count = ((const struct attributes *)barrier)->count;
  if (count == 0 || count > DSM_ARRIVALS_MAX) return EINVAL;
  uint64_t is_last = 0;
  int kept = errno;
  int status = barrier_arrive(&object, count, -1, &is_last);
  errno = kept;
  int error = status == DSM_MISMATCH ? EINVAL : posix_error(status, __func__);
  return error == 0 && is_last != 0 ? PTHREAD_BARRIER_SERIAL_THREAD : error;
}
