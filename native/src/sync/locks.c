/* Named locks of the session interface. */
#include <limits.h>
#include <string.h>

#include "session/names.h"
#include "sync/wait.h"
#include "base/clock.h"
#include "base/status.h"
#include "link/interrupts.h"
#include "pages/release.h"
#include "session/lock_cells.h"
#include "session/session.h"
#include "trap/tool.h"

/* The process has taken the lock without the arbiter, and has what earlier owners published, unless the status is another
 * than DSM_OK. Returns the status. */
static int locked_by_cell(dsm_session *session, int status) {
  tool_acquire(&session->cells);
  interrupts_note(status);
  return status;
}

/* Asks the arbiter for the lock, whose cell was found in that state. With `may_return` the answer may be DSM_AGAIN although
 * it is no try: the lock's cell says who has it again. */
static int request_lock(dsm_session *session, const char *name, int try_only, int timeout_ms, int may_return,
                        enum lock_cell cell) {
  struct cells *cells = &session->cells;
  size_t length = strlen(name);
  if (cell == LOCK_CELL_LATE) {
    struct wire_header unlock = {.kind = WIRE_UNLOCK, .name_length = (uint32_t)length};
    link_request(&session->link, &unlock, name, length, 0, -1);
  }
  struct wire_header header = {
      .kind = WIRE_LOCK,
      .name_length = (uint32_t)length,
      .try_only = (uint8_t)try_only,
      .uses_cell = may_return && cells_find(cells, CELL_OF_LOCK, name) != NULL,
  };
  int status = session_wait(session, &header, name, length, timeout_ms);
  if (status == DSM_OK) {
    cells_learn(cells, CELL_OF_LOCK, name, header.value);
    lock_cells_note(cells, name);
  }
  return session_catch_up(session, status);
}

/* Waits for the lock, by its cell, which was found in that state, and by requests. */
static int await_lock(dsm_session *session, const char *name, int timeout_ms, enum lock_cell cell) {
  struct lock_wait wait = {.end_ns = timeout_ms < 0 ? LLONG_MAX : now_ns() + timeout_ms * 1000000ll};
  /* A process that was sent back to the cell stays in the queue the second time, so that it keeps its place there. */
  for (int may_return = 1;; may_return = 0, cell = LOCK_CELL_BUSY) {
    if (cell == LOCK_CELL_BUSY) cell = lock_cells_await(&session->cells, name, &wait);
    if (cell == LOCK_CELL_TAKEN) return locked_by_cell(session, session_catch_up(session, DSM_OK));
    if (wait.began_ns != 0 && interrupts_raised() && cell != LOCK_CELL_LATE)
      return dsm_fail(DSM_TIMEOUT, "the wait was interrupted");
    long long left_ms = timeout_ms < 0 ? -1 : (wait.end_ns - now_ns() + 999999) / 1000000;
    int rest_ms = timeout_ms < 0 || left_ms > 0 ? (int)left_ms : 0;
    int status = request_lock(session, name, 0, rest_ms, may_return, cell);
    if (status != DSM_AGAIN) return status;
  }
}

static int lock(dsm_session *session, const char *name, int try_only, int timeout_ms) {
  enum lock_cell cell = session == NULL ? LOCK_CELL_ASK : lock_cells_take(&session->cells, name);
  if (cell == LOCK_CELL_TAKEN && release_is_clean(&session->pages)) return locked_by_cell(session, DSM_OK);
  int status = session_begin(session);
  if (status != DSM_OK) {
    if (cell == LOCK_CELL_TAKEN) lock_cells_give(&session->cells, name);
    return status;
  }
  if (cell == LOCK_CELL_TAKEN) {
    status = locked_by_cell(session, session_catch_up(session, DSM_OK));
    session_end(session);
    return status;
  }
  status = name_check("lock", name);
  if (status == DSM_OK) {
    if (!try_only)
      status = await_lock(session, name, timeout_ms, cell);
    else
      status = cell == LOCK_CELL_BUSY ? DSM_AGAIN : request_lock(session, name, 1, -1, 0, cell);
    if (status == DSM_AGAIN)
      status = dsm_fail(status, "another process has lock \"%s\" now", name);
    else if (status == DSM_TIMEOUT)
      status = dsm_fail(status, "other processes had lock \"%s\" for %d ms", name, timeout_ms);
    else if (status == DSM_BUSY)
      status = dsm_fail(status, "this process has lock \"%s\", or waits for it, already", name);
  }
  session_end(session);
  return status;
}

/* `keeps_mark`: leave the lock marked as inconsistent. */
static int unlock(dsm_session *session, const char *name, int keeps_mark) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = name_check("lock", name);
  if (status == DSM_OK) {
    size_t length = strlen(name);
    struct wire_header header = {
        .kind = WIRE_UNLOCK,
        .name_length = (uint32_t)length,
        .keeps_mark = (uint8_t)keeps_mark,
        .is_short = (uint32_t)lock_cells_is_short(&session->cells, name),
    };
    status = release_request(&session->pages, &header, name, length, 0, -1, NULL);
    if (status == DSM_NOT_OWNER) status = dsm_fail(status, "this process does not have lock \"%s\"", name);
  }
  session_end(session);
  return status;
}

int dsm_lock(dsm_session *session, const char *name) {
  return lock(session, name, 0, -1);
}

int dsm_lock_try(dsm_session *session, const char *name) {
  return lock(session, name, 1, -1);
}

int dsm_lock_timed(dsm_session *session, const char *name, uint32_t timeout_ms) {
  if (timeout_ms > INT32_MAX)
    return dsm_fail(DSM_INVALID, "a timeout of %u ms is beyond the limit of %d", timeout_ms, INT32_MAX);
  return lock(session, name, 0, (int)timeout_ms);
}

/* Gives the lock back without the arbiter. Returns whether that is done. */
static int unlock_by_cell(dsm_session *session, const char *name) {
  if (release_is_clean(&session->pages)) return lock_cells_give(&session->cells, name);
  if (!lock_cells_has(&session->cells, name) || session_begin(session) != DSM_OK) return 0;
  /* In this order: the next owner on this node reads the replica. */
  int given = release_stores(&session->pages) == DSM_OK && lock_cells_give(&session->cells, name);
  session_end(session);
  return given;
}

int dsm_unlock(dsm_session *session, const char *name) {
  if (session != NULL) {
    tool_release(&session->cells);
    if (unlock_by_cell(session, name)) return DSM_OK;
  }
  return unlock(session, name, 0);
}

int dsm_unlock_unmended(dsm_session *session, const char *name) {
  return unlock(session, name, 1);
}
