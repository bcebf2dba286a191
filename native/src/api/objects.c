/* The calls of dsm.h for objects in the map. */
#include "sync/objects.h"

#include "base/status.h"

#define DSM_ALIGN 64u

static int find(struct object *object, const char *what, const void *address) {
  return object_find(object, what, address, sizeof(dsm_mutex), DSM_ALIGN);
}

static int check_timeout(uint32_t timeout_ms) {
  return timeout_ms <= INT32_MAX
             ? DSM_OK
             : dsm_fail(DSM_INVALID, "a timeout of %u ms is beyond the limit of %d", timeout_ms, INT32_MAX);
}

/* Keeps the reason for what the functions of sync/objects.h leave to their caller. */
static int explain(int status, const char *what, const void *address, int timeout_ms) {
  switch (status) {
    case DSM_AGAIN: return dsm_fail(status, "the %s at %p is not free now", what, address);
    case DSM_TIMEOUT:
      return dsm_fail(status, "the %s at %p: the wait was not over within %d ms", what, address, timeout_ms);
    case DSM_BUSY: return dsm_fail(status, "this thread has the %s at %p already", what, address);
    case DSM_NOT_OWNER: return dsm_fail(status, "this thread does not have the %s at %p", what, address);
    default: return status;
  }
}

/* ---- mutexes ---- */

static int lock(dsm_mutex *mutex, int timeout_ms) {
  struct object object;
  int status = find(&object, "mutex", mutex);
  if (status != DSM_OK) return status;
  return explain(mutex_lock(&object, timeout_ms, RELOCK_FAILS), "mutex", mutex, timeout_ms);
}

static int unlock(dsm_mutex *mutex, int keeps_mark) {
  struct object object;
  int status = find(&object, "mutex", mutex);
  if (status != DSM_OK) return status;
  return explain(mutex_unlock(&object, keeps_mark), "mutex", mutex, 0);
}

int dsm_mutex_lock(dsm_mutex *mutex) {
  return lock(mutex, -1);
}

int dsm_mutex_trylock(dsm_mutex *mutex) {
  return lock(mutex, TRY_ONLY);
}

int dsm_mutex_timedlock(dsm_mutex *mutex, uint32_t timeout_ms) {
  int status = check_timeout(timeout_ms);
  return status != DSM_OK ? status : lock(mutex, (int)timeout_ms);
}

int dsm_mutex_unlock(dsm_mutex *mutex) {
  return unlock(mutex, 0);
}

int dsm_mutex_unlock_unmended(dsm_mutex *mutex) {
  return unlock(mutex, 1);
}

/* ---- reader-writer locks ---- */

static int rw_lock(dsm_rwlock *rwlock, int is_writer, int timeout_ms) {
  struct object object;
  int status = find(&object, "reader-writer lock", rwlock);
  if (status != DSM_OK) return status;
  return explain(rwlock_lock(&object, is_writer, timeout_ms), "reader-writer lock", rwlock, timeout_ms);
}

static int rw_unlock(dsm_rwlock *rwlock, int keeps_mark) {
  struct object object;
  int status = find(&object, "reader-writer lock", rwlock);
  if (status != DSM_OK) return status;
  return explain(rwlock_unlock(&object, keeps_mark), "reader-writer lock", rwlock, 0);
}

int dsm_rwlock_rdlock(dsm_rwlock *rwlock) {
  return rw_lock(rwlock, 0, -1);
}

int dsm_rwlock_tryrdlock(dsm_rwlock *rwlock) {
  return rw_lock(rwlock, 0, TRY_ONLY);
}

int dsm_rwlock_timedrdlock(dsm_rwlock *rwlock, uint32_t timeout_ms) {
  int status = check_timeout(timeout_ms);
  return status != DSM_OK ? status : rw_lock(rwlock, 0, (int)timeout_ms);
}

int dsm_rwlock_wrlock(dsm_rwlock *rwlock) {
  return rw_lock(rwlock, 1, -1);
}

int dsm_rwlock_trywrlock(dsm_rwlock *rwlock) {
  return rw_lock(rwlock, 1, TRY_ONLY);
}

int dsm_rwlock_timedwrlock(dsm_rwlock *rwlock, uint32_t timeout_ms) {
  int status = check_timeout(timeout_ms);
  return status != DSM_OK ? status : rw_lock(rwlock, 1, (int)timeout_ms);
}

int dsm_rwlock_unlock(dsm_rwlock *rwlock) {
  return rw_unlock(rwlock, 0);
}

int dsm_rwlock_unlock_unmended(dsm_rwlock *rwlock) {
  return rw_unlock(rwlock, 1);
}

/* ---- condition variables ---- */

static int wait_for(dsm_cond *cond, dsm_mutex *mutex, int timeout_ms) {
  struct object object, guard;
  int status = find(&object, "condition variable", cond);
  if (status == DSM_OK) status = find(&guard, "mutex", mutex);
  if (status != DSM_OK) return status;
  status = condition_wait(&object, &guard, timeout_ms);
  return status == DSM_TIMEOUT ? explain(status, "condition variable", cond, timeout_ms)
                               : explain(status, "mutex", mutex, timeout_ms);
}

static int signal(dsm_cond *cond, uint32_t count) {
  struct object object;
  int status = find(&object, "condition variable", cond);
  return status != DSM_OK ? status : condition_signal(&object, count);
}

int dsm_cond_wait(dsm_cond *cond, dsm_mutex *mutex) {
  return wait_for(cond, mutex, -1);
}

int dsm_cond_timedwait(dsm_cond *cond, dsm_mutex *mutex, uint32_t timeout_ms) {
  int status = check_timeout(timeout_ms);
  return status != DSM_OK ? status : wait_for(cond, mutex, (int)timeout_ms);
}

int dsm_cond_signal(dsm_cond *cond) {
  return signal(cond, 1);
}

int dsm_cond_broadcast(dsm_cond *cond) {
  return signal(cond, UINT32_MAX);
}

/* ---- semaphores ---- */

static int sem_take(dsm_semaphore *semaphore, int timeout_ms) {
  struct object object;
  int status = find(&object, "semaphore", semaphore);
  if (status != DSM_OK) return status;
  status = semaphore_wait(&object, timeout_ms);
  if (status == DSM_AGAIN) return dsm_fail(status, "the semaphore at %p is 0 now", (void *)semaphore);
  if (status == DSM_TIMEOUT)
    return dsm_fail(status, "the semaphore at %p stayed 0 for %d ms", (void *)semaphore, timeout_ms);
  return status;
}

int dsm_semaphore_init(dsm_semaphore *semaphore, uint32_t value) {
  struct object object;
  int status = find(&object, "semaphore", semaphore);
  if (status != DSM_OK) return status;
  if (value > DSM_SEM_MAX) return dsm_fail(DSM_INVALID, "the value %u is beyond the limit of %d", value, DSM_SEM_MAX);
  status = object_init(&object, WIRE_OBJECT_SEMAPHORE, value);
  return status == DSM_BUSY ? dsm_fail(status, "processes wait for the semaphore at %p", (void *)semaphore) : status;
}

int dsm_semaphore_wait(dsm_semaphore *semaphore) {
  return sem_take(semaphore, -1);
}

int dsm_semaphore_trywait(dsm_semaphore *semaphore) {
  return sem_take(semaphore, TRY_ONLY);
}

int dsm_semaphore_timedwait(dsm_semaphore *semaphore, uint32_t timeout_ms) {
  int status = check_timeout(timeout_ms);
  return status != DSM_OK ? status : sem_take(semaphore, (int)timeout_ms);
}

int dsm_semaphore_post(dsm_semaphore *semaphore) {
  struct object object;
  int status = find(&object, "semaphore", semaphore);
  return status != DSM_OK ? status : semaphore_post(&object);
}

/* ---- barriers ---- */

int dsm_barrier_init(struct dsm_barrier *barrier, uint32_t count) {
  struct object object;
  int status = find(&object, "barrier", barrier);
  if (status != DSM_OK) return status;
  if (count > DSM_ARRIVALS_MAX)
    return dsm_fail(DSM_INVALID, "a barrier of %u is beyond the limit of %u", count, DSM_ARRIVALS_MAX);
  status = object_init(&object, WIRE_OBJECT_BARRIER, 0);
  if (status == DSM_BUSY) return dsm_fail(status, "processes wait in the barrier at %p", (void *)barrier);
  if (status == DSM_OK) barrier->count = count;
  return status;
}

static int arrive(struct dsm_barrier *barrier, int timeout_ms, int *is_last) {
  struct object object;
  int status = find(&object, "barrier", barrier);
  if (status != DSM_OK) return status;
  uint32_t count = barrier->count;
  if (count == 0) count = (uint32_t)dsm_processes(object.session);
  if (count > DSM_ARRIVALS_MAX)
    return dsm_fail(DSM_INVALID, "there is no barrier at %p: its count is beyond the limit of %u", (void *)barrier,
                    DSM_ARRIVALS_MAX);
  uint64_t result = 0;
  status = barrier_arrive(&object, count, timeout_ms, &result);
  if (status == DSM_OK && is_last != NULL) *is_last = result != 0;
  if (status == DSM_MISMATCH)
    return dsm_fail(status, "others wait in the barrier at %p for %llu, not %u", (void *)barrier,
                    (unsigned long long)result, count);
  if (status == DSM_TIMEOUT)
    return dsm_fail(status, "%llu of %u were not in the barrier at %p within %d ms", (unsigned long long)result, count,
                    (void *)barrier, timeout_ms);
  return status;
}

int dsm_barrier_arrive_and_wait(struct dsm_barrier *barrier, int *is_last) {
  return arrive(barrier, -1, is_last);
}

int dsm_barrier_arrive_and_wait_timed(struct dsm_barrier *barrier, uint32_t timeout_ms, int *is_last) {
  int status = check_timeout(timeout_ms);
  return status != DSM_OK ? status : arrive(barrier, (int)timeout_ms, is_last);
}
