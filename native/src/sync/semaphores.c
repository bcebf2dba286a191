/* Semaphores: by their cells, else by requests. */
#include "sync/semaphores.h"

#include "session/names.h"
#include "sync/objects.h"
#include "sync/wait.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/status.h"
#include "link/interrupts.h"
#include "pages/release.h"
#include "session/semaphore_cells.h"
#include "session/session.h"
#include "trap/tool.h"

/* Checks the arguments of a call, between session_begin() and session_end(). Returns a status. */
static int check_semaphore(const struct cell_name *semaphore, uint32_t initial) {
  int status = semaphore->name != NULL ? name_check("semaphore", semaphore->name) : DSM_OK;
  if (status == DSM_OK && initial > DSM_SEM_MAX)
    status = dsm_fail(DSM_INVALID, "the initial value %u is beyond the limit of %d", initial, DSM_SEM_MAX);
  return status;
}

/* Waits without the arbiter, in direct mode. Returns a status, or -1: the arbiter must be asked, within *timeout_ms. */
static int wait_by_cell(dsm_session *session, const struct cell_name *semaphore, int try_only, int *timeout_ms) {
  session_keep(session);
  enum semaphore_result result = try_only ? semaphore_cells_try(&session->cells, semaphore)
                                          : semaphore_cells_wait(&session->cells, semaphore, timeout_ms);
  session_let_go(session);
  if (result == SEMAPHORE_ASK) return -1;
  int status = result == SEMAPHORE_DONE ? DSM_OK : try_only ? DSM_AGAIN : DSM_TIMEOUT;
  if (interrupts_are_on()) interrupts_note(status);
  return status;
}

/* With `may_return` the answer may be DSM_AGAIN although it is no try: the process is to try the cell again. */
static int wait_by_request(dsm_session *session, const struct cell_name *semaphore, uint32_t initial, int try_only,
                           int timeout_ms, int may_return) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = check_semaphore(semaphore, initial);
  if (status == DSM_OK) {
    char text[DSM_NAME_MAX + 1];
    uint32_t length = cell_name_text(semaphore, text);
    struct wire_header header = {
        .kind = WIRE_SEM_WAIT,
        .try_only = (uint8_t)try_only,
        .name_length = length,
        .initial = initial,
        .may_return = may_return && cells_find(&session->cells, semaphore) != NULL,
    };
    status = session_wait(session, &header, text, length, timeout_ms);
    if (status == DSM_OK) cells_learn(&session->cells, semaphore, header.value);
    status = session_catch_up(session, status);
  }
  session_end(session);
  return status;
}

/* Waits by the cell, then by a request. A process that the arbiter sends back to the cell stays in the queue the second
 * time, so that it keeps its place there. */
static int wait_by_both(dsm_session *session, const struct cell_name *semaphore, uint32_t initial, int timeout_ms) {
  long long end_ns = timeout_ms < 0 ? 0 : now_ns() + timeout_ms * 1000000ll;
  int left_ms = timeout_ms;
  int status = wait_by_cell(session, semaphore, 0, &left_ms);
  if (status < 0) status = wait_by_request(session, semaphore, initial, 0, left_ms, 1);
  if (status != DSM_AGAIN) return status;
  if (interrupts_raised()) return DSM_TIMEOUT;
  if (timeout_ms >= 0) {
    long long left_ns = end_ns - now_ns();
    left_ms = left_ns > 0 ? (int)((left_ns + 999999) / 1000000) : 0;
  }
  status = wait_by_cell(session, semaphore, 0, &left_ms);
  return status < 0 ? wait_by_request(session, semaphore, initial, 0, left_ms, 0) : status;
}

int semaphore_take(dsm_session *session, const struct cell_name *semaphore, uint32_t initial, int try_only,
                   int timeout_ms) {
  int has_cell = initial <= DSM_SEM_MAX && session_check_stack() == DSM_OK;
  int status = -1;
  if (has_cell && try_only) status = wait_by_cell(session, semaphore, 1, &timeout_ms);
  if (has_cell && !try_only)
    status = wait_by_both(session, semaphore, initial, timeout_ms);
  else if (status < 0)
    status = wait_by_request(session, semaphore, initial, try_only, timeout_ms, 0);
  if (status == DSM_OK) tool_acquire(&session->cells);
  return status;
}

int semaphore_take_at_once(dsm_session *session, const struct cell_name *semaphore) {
  int timeout_ms = 0;
  int status = session_check_stack() == DSM_OK ? wait_by_cell(session, semaphore, 1, &timeout_ms) : -1;
  if (status != DSM_OK) return DSM_AGAIN;
  tool_acquire(&session->cells);
  return DSM_OK;
}

int semaphore_give_at_once(dsm_session *session, const struct cell_name *semaphore) {
  tool_release(&session->cells);
  return semaphore_cells_post(&session->cells, semaphore) == SEMAPHORE_DONE ? DSM_OK : DSM_AGAIN;
}

int semaphore_give(dsm_session *session, const struct cell_name *semaphore, uint32_t initial) {
  if (initial <= DSM_SEM_MAX) {
    tool_release(&session->cells);
    if (semaphore_cells_post(&session->cells, semaphore) == SEMAPHORE_DONE) return DSM_OK;
  }
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = check_semaphore(semaphore, initial);
  if (status == DSM_OK) {
    char text[DSM_NAME_MAX + 1];
    uint32_t length = cell_name_text(semaphore, text);
    struct wire_header header = {.kind = WIRE_SEM_POST, .increment = 1, .name_length = length, .initial = initial};
    status = release_request(&session->pages, &header, text, length, 0, -1, NULL);
    if (status == DSM_OK) cells_learn(&session->cells, semaphore, header.value);
  }
  session_end(session);
  return status;
}

/* ---- in the map ---- */

struct cell_name semaphore_name(const struct object *semaphore) {
  return (struct cell_name){.kind = CELL_OF_SEMAPHORE, .offset = semaphore->offset, .known = &semaphore->state->known};
}

int semaphore_wait(const struct object *semaphore, int timeout_ms) {
  const struct cell_name name = semaphore_name(semaphore);
  int cancel = cancel_disable();
  int status = semaphore_take(semaphore->session, &name, 0, timeout_ms == TRY_ONLY, timeout_ms);
  cancel_restore(cancel);
  return status;
}

int semaphore_post(const struct object *semaphore) {
  const struct cell_name name = semaphore_name(semaphore);
  int cancel = cancel_disable();
  int status = semaphore_give(semaphore->session, &name, 0);
  cancel_restore(cancel);
  return status;
}

/* ---- named ---- */

static int wait_named(dsm_session *session, const char *name, uint32_t initial, int try_only, int timeout_ms) {
  if (session == NULL) return session_check(session);
  const struct cell_name semaphore = {.kind = CELL_OF_SEMAPHORE, .name = name == NULL ? "" : name};
  int status = semaphore_take(session, &semaphore, initial, try_only, timeout_ms);
  if (status == DSM_AGAIN) return dsm_fail(status, "semaphore \"%s\" is 0 now", name);
  if (status == DSM_TIMEOUT) return dsm_fail(status, "semaphore \"%s\" stayed 0 for %d ms", name, timeout_ms);
  return status;
}

int dsm_sem_wait(dsm_session *session, const char *name, uint32_t initial) {
  return wait_named(session, name, initial, 0, -1);
}

int dsm_sem_trywait(dsm_session *session, const char *name, uint32_t initial) {
  return wait_named(session, name, initial, 1, -1);
}

int dsm_sem_timedwait(dsm_session *session, const char *name, uint32_t initial, uint32_t timeout_ms) {
  if (timeout_ms > INT32_MAX)
    return dsm_fail(DSM_INVALID, "a timeout of %u ms is beyond the limit of %d", timeout_ms, INT32_MAX);
  return wait_named(session, name, initial, 0, (int)timeout_ms);
}

int dsm_sem_post(dsm_session *session, const char *name, uint32_t initial) {
  if (session == NULL) return session_check(session);
  const struct cell_name semaphore = {.kind = CELL_OF_SEMAPHORE, .name = name == NULL ? "" : name};
  return semaphore_give(session, &semaphore, initial);
}
