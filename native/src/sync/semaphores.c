/* Named semaphores of the session interface. */
#include <string.h>

#include "session/names.h"
#include "sync/wait.h"
#include "base/clock.h"
#include "base/status.h"
#include "link/interrupts.h"
#include "pages/release.h"
#include "session/semaphore_cells.h"
#include "session/session.h"
#include "trap/tool.h"

/* Checks the arguments of a call, between session_begin() and session_end(). Returns a status. */
static int check_semaphore(const char *name, uint32_t initial) {
  int status = name_check("semaphore", name);
  if (status == DSM_OK && initial > DSM_SEM_MAX)
    status = dsm_fail(DSM_INVALID, "the initial value %u is beyond the limit of %d", initial, DSM_SEM_MAX);
  return status;
}

/* Waits without the arbiter, in direct mode. Returns a status, or -1: the arbiter must be asked, within *timeout_ms. */
static int wait_by_cell(dsm_session *session, const char *name, int try_only, int *timeout_ms) {
  session_keep(session);
  enum semaphore_result result =
      try_only ? semaphore_cells_try(&session->cells, name) : semaphore_cells_wait(&session->cells, name, timeout_ms);
  session_let_go(session);
  if (result == SEMAPHORE_ASK) return -1;
  int status = result == SEMAPHORE_DONE ? DSM_OK : try_only ? DSM_AGAIN : DSM_TIMEOUT;
  if (interrupts_are_on()) interrupts_note(status);
  return status;
}

/* With `may_return` the answer may be DSM_AGAIN although it is no try: the process is to try the cell again. */
static int wait_by_request(dsm_session *session, const char *name, uint32_t initial, int try_only, int timeout_ms,
                           int may_return) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = check_semaphore(name, initial);
  if (status == DSM_OK) {
    struct wire_header header = {
        .kind = WIRE_SEM_WAIT,
        .try_only = (uint8_t)try_only,
        .name_length = (uint32_t)strlen(name),
        .initial = initial,
        .may_return = may_return && cells_find(&session->cells, CELL_OF_SEMAPHORE, name) != NULL,
    };
    status = session_wait(session, &header, name, header.name_length, timeout_ms);
    if (status == DSM_OK) cells_learn(&session->cells, CELL_OF_SEMAPHORE, name, header.value);
    status = session_catch_up(session, status);
  }
  session_end(session);
  return status;
}

/* Waits by the cell, then by a request. A process that the arbiter sends back to the cell stays in the queue the second
 * time, so that it keeps its place there. */
static int wait_by_both(dsm_session *session, const char *name, uint32_t initial, int timeout_ms) {
  long long end_ns = timeout_ms < 0 ? 0 : now_ns() + timeout_ms * 1000000ll;
  int left_ms = timeout_ms;
  int status = wait_by_cell(session, name, 0, &left_ms);
  if (status < 0) status = wait_by_request(session, name, initial, 0, left_ms, 1);
  if (status != DSM_AGAIN) return status;
  if (interrupts_raised()) return DSM_TIMEOUT;
  if (timeout_ms >= 0) {
    long long left_ns = end_ns - now_ns();
    left_ms = left_ns > 0 ? (int)((left_ns + 999999) / 1000000) : 0;
  }
  status = wait_by_cell(session, name, 0, &left_ms);
  return status < 0 ? wait_by_request(session, name, initial, 0, left_ms, 0) : status;
}

static int semaphore_wait(dsm_session *session, const char *name, uint32_t initial, int try_only, int timeout_ms) {
  int has_cell = session != NULL && initial <= DSM_SEM_MAX && session_check_stack() == DSM_OK;
  int status = -1;
  if (has_cell && try_only) status = wait_by_cell(session, name, 1, &timeout_ms);
  if (has_cell && !try_only)
    status = wait_by_both(session, name, initial, timeout_ms);
  else if (status < 0)
    status = wait_by_request(session, name, initial, try_only, timeout_ms, 0);
  if (status == DSM_OK) tool_acquire(&session->cells);
  if (status == DSM_AGAIN) status = dsm_fail(status, "semaphore \"%s\" is 0 now", name);
  if (status == DSM_TIMEOUT) status = dsm_fail(status, "semaphore \"%s\" stayed 0 for %d ms", name, timeout_ms);
  return status;
}

int dsm_sem_wait(dsm_session *session, const char *name, uint32_t initial) {
  return semaphore_wait(session, name, initial, 0, -1);
}

int dsm_sem_trywait(dsm_session *session, const char *name, uint32_t initial) {
  return semaphore_wait(session, name, initial, 1, -1);
}

int dsm_sem_timedwait(dsm_session *session, const char *name, uint32_t initial, uint32_t timeout_ms) {
  if (timeout_ms > INT32_MAX)
    return dsm_fail(DSM_INVALID, "a timeout of %u ms is beyond the limit of %d", timeout_ms, INT32_MAX);
  return semaphore_wait(session, name, initial, 0, (int)timeout_ms);
}

int dsm_sem_post(dsm_session *session, const char *name, uint32_t initial) {
  if (session != NULL && initial <= DSM_SEM_MAX) {
    tool_release(&session->cells);
    if (semaphore_cells_post(&session->cells, name) == SEMAPHORE_DONE) return DSM_OK;
  }
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = check_semaphore(name, initial);
  if (status == DSM_OK) {
    struct wire_header header = {
        .kind = WIRE_SEM_POST, .increment = 1, .name_length = (uint32_t)strlen(name), .initial = initial};
    status = release_request(&session->pages, &header, name, header.name_length, 0, -1, NULL);
    if (status == DSM_OK) cells_learn(&session->cells, CELL_OF_SEMAPHORE, name, header.value);
  }
  session_end(session);
  return status;
}
