/* Calls for bindings: what the promise forms of locks, semaphores and objects in the map need of libdsm, beside the requests
 * that they send on a channel of their own. None of these calls waits for another process. */
#include "api/attach.h"

#include "base/status.h"
#include "sync/locks.h"
#include "sync/objects.h"
#include "sync/semaphores.h"

#define DSM_ALIGN 64u

static struct cell_name named(enum cell_kind kind, const char *name) {
  return (struct cell_name){.kind = kind, .name = name == NULL ? "" : name};
}

static int find(struct object *object, const char *what, const void *address) {
  return object_find(object, what, address, sizeof(dsm_mutex), DSM_ALIGN);
}

/* ---- named ---- */

int dsm_lock_at_once(dsm_session *session, const char *name) {
  if (session == NULL) return session_check(session);
  const struct cell_name lock = named(CELL_OF_LOCK, name);
  return lock_take_at_once(session, &lock);
}

int dsm_unlock_at_once(dsm_session *session, const char *name) {
  if (session == NULL) return session_check(session);
  const struct cell_name lock = named(CELL_OF_LOCK, name);
  return lock_give_at_once(session, &lock);
}

int dsm_sem_wait_at_once(dsm_session *session, const char *name) {
  if (session == NULL) return session_check(session);
  const struct cell_name semaphore = named(CELL_OF_SEMAPHORE, name);
  return semaphore_take_at_once(session, &semaphore);
}

int dsm_sem_post_at_once(dsm_session *session, const char *name) {
  if (session == NULL) return session_check(session);
  const struct cell_name semaphore = named(CELL_OF_SEMAPHORE, name);
  return semaphore_give_at_once(session, &semaphore);
}

static int granted(dsm_session *session, const struct cell_name *name, uint64_t cell) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  cells_learn(&session->cells, name, cell);
  session_end(session);
  return DSM_OK;
}

int dsm_lock_granted(dsm_session *session, const char *name, uint64_t cell) {
  const struct cell_name lock = named(CELL_OF_LOCK, name);
  return granted(session, &lock, cell);
}

int dsm_sem_granted(dsm_session *session, const char *name, uint64_t cell) {
  const struct cell_name semaphore = named(CELL_OF_SEMAPHORE, name);
  return granted(session, &semaphore, cell);
}

/* ---- in the map ---- */

int dsm_mutex_lock_at_once(dsm_mutex *mutex) {
  struct object object;
  int status = find(&object, "mutex", mutex);
  if (status != DSM_OK) return status;
  status = mutex_lock_at_once(&object);
  return status == DSM_BUSY ? dsm_fail(status, "this thread has the mutex at %p already", (void *)mutex) : status;
}

int dsm_mutex_unlock_at_once(dsm_mutex *mutex) {
  struct object object;
  int status = find(&object, "mutex", mutex);
  if (status != DSM_OK) return status;
  status = mutex_unlock_at_once(&object);
  return status == DSM_NOT_OWNER ? dsm_fail(status, "this thread does not have the mutex at %p", (void *)mutex)
                                 : status;
}

int dsm_mutex_granted(dsm_mutex *mutex, uint64_t cell) {
  struct object object;
  int status = find(&object, "mutex", mutex);
  if (status == DSM_OK) mutex_granted(&object, cell);
  return status;
}

int dsm_semaphore_wait_at_once(dsm_semaphore *semaphore) {
  struct object object;
  int status = find(&object, "semaphore", semaphore);
  if (status != DSM_OK) return status;
  const struct cell_name name = semaphore_name(&object);
  return semaphore_take_at_once(object.session, &name);
}

int dsm_semaphore_post_at_once(dsm_semaphore *semaphore) {
  struct object object;
  int status = find(&object, "semaphore", semaphore);
  if (status != DSM_OK) return status;
  const struct cell_name name = semaphore_name(&object);
  return semaphore_give_at_once(object.session, &name);
}

int dsm_semaphore_granted(dsm_semaphore *semaphore, uint64_t cell) {
  struct object object;
  int status = find(&object, "semaphore", semaphore);
  if (status != DSM_OK) return status;
  const struct cell_name name = semaphore_name(&object);
  return granted(object.session, &name, cell);
}

int dsm_object_check(void *address) {
  struct object object;
  int status = find(&object, "object", address);
  return status == DSM_OK && mutex_is_own(&object) ? DSM_BUSY : status;
}

int dsm_object_own(void *address) {
  struct object object;
  int status = find(&object, "object", address);
  if (status == DSM_OK) mutex_adopt(&object);
  return status;
}

int dsm_object_disown(void *address) {
  struct object object;
  int status = find(&object, "object", address);
  if (status != DSM_OK) return status;
  if (!mutex_is_own(&object)) return DSM_NOT_OWNER;
  mutex_disown(&object);
  return DSM_OK;
}
