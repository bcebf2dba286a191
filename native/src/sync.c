/* Barriers, semaphores and fences of the session interface. */
#include <string.h>

#include "session.h"
#include "status.h"

int dsm_barrier_wait(dsm_session *session) {
  int status = session_begin(session);
  if (status != DSM_OK)
    return status;
  struct wire_header header = {.kind = WIRE_BARRIER};
  status = session_request(session, &header, NULL, 0, 1, -1);
  session_end(session);
  return status;
}

static int semaphore(dsm_session *session, uint8_t kind, const char *name, uint32_t initial, int only_try,
                     int timeout_ms) {
  int status = session_begin(session);
  if (status != DSM_OK)
    return status;
  status = session_check_name("semaphore", name);
  if (status == DSM_OK && initial > DSM_SEM_MAX)
    status = dsm_fail(DSM_INVALID, "the initial value %u is beyond the limit of %d", initial, DSM_SEM_MAX);
  if (status != DSM_OK) {
    session_end(session);
    return status;
  }
  size_t length = strlen(name);
  struct wire_header header = {
      .kind = kind,
      .op = (uint8_t)only_try,
      .offset = kind == WIRE_SEM_POST,
      .length = (uint32_t)length,
      .aux = initial,
  };
  status = session_request(session, &header, name, length, kind == WIRE_SEM_WAIT, timeout_ms);
  session_end(session);
  if (status == DSM_AGAIN)
    return dsm_fail(status, "semaphore \"%s\" is 0 now", name);
  if (status == DSM_TIMEOUT)
    return dsm_fail(status, "semaphore \"%s\" stayed 0 for %d ms", name, timeout_ms);
  return status;
}

int dsm_sem_wait(dsm_session *session, const char *name, uint32_t initial) {
  return semaphore(session, WIRE_SEM_WAIT, name, initial, 0, -1);
}

int dsm_sem_trywait(dsm_session *session, const char *name, uint32_t initial) {
  return semaphore(session, WIRE_SEM_WAIT, name, initial, 1, -1);
}

int dsm_sem_timedwait(dsm_session *session, const char *name, uint32_t initial, uint32_t timeout_ms) {
  if (timeout_ms > INT32_MAX)
    return dsm_fail(DSM_INVALID, "a timeout of %u ms is beyond the limit of %d", timeout_ms, INT32_MAX);
  return semaphore(session, WIRE_SEM_WAIT, name, initial, 0, (int)timeout_ms);
}

int dsm_sem_post(dsm_session *session, const char *name, uint32_t initial) {
  return semaphore(session, WIRE_SEM_POST, name, initial, 0, -1);
}

/* A store of this order returns when it is in place and has its number, so there is never anything to wait for. */
int dsm_fence(dsm_session *session) {
  return session_check(session);
}
