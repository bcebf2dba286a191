/* Locks: by their cells, else by requests. */
#include "sync/locks.h"

#include <limits.h>

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
  release_begin_section(&session->pages);
  interrupts_note(status);
  return status;
}

/* Asks the arbiter for the lock, whose cell was found in that state. With `may_return` the answer may be DSM_AGAIN although
 * it is no try: the lock's cell says who has it again. */
static int request_lock(dsm_session *session, const struct cell_name *lock, int try_only, int timeout_ms,
                        int may_return, enum lock_cell cell) {
  struct cells *cells = &session->cells;
  char text[DSM_NAME_MAX + 1];
  uint32_t length = cell_name_text(lock, text);
  if (cell == LOCK_CELL_LATE) {
    struct wire_header unlock = {.kind = WIRE_UNLOCK, .name_length = length};
    link_request(&session->link, &unlock, text, length, 0, -1);
  }
  struct wire_header header = {
      .kind = WIRE_LOCK,
      .name_length = length,
      .try_only = (uint8_t)try_only,
      .uses_cell = may_return && cells_find(cells, lock) != NULL,
  };
  int status = session_wait(session, &header, text, length, timeout_ms);
  if (status == DSM_OK) {
    cells_learn(cells, lock, header.value);
    lock_cells_note(cells, lock);
  }
  status = session_catch_up(session, status);
  if (status == DSM_OK || status == DSM_OWNER_DIED) release_begin_section(&session->pages);
  return status;
}

/* Waits for the lock, by its cell, which was found in that state, and by requests. */
static int await_lock(dsm_session *session, const struct cell_name *lock, int timeout_ms, enum lock_cell cell) {
  struct word_lock_wait wait = {.end_ns = timeout_ms < 0 ? LLONG_MAX : now_ns() + timeout_ms * 1000000ll};
  /* A process that was sent back to the cell stays in the queue the second time, so that it keeps its place there. */
  for (int may_return = 1;; may_return = 0, cell = LOCK_CELL_BUSY) {
    if (cell == LOCK_CELL_BUSY) cell = lock_cells_await(&session->cells, lock, &wait);
    if (cell == LOCK_CELL_TAKEN) return locked_by_cell(session, session_catch_up(session, DSM_OK));
    if (wait.began_ns != 0 && interrupts_raised() && cell != LOCK_CELL_LATE)
      return dsm_fail(DSM_TIMEOUT, "the wait was interrupted");
    long long left_ms = timeout_ms < 0 ? -1 : (wait.end_ns - now_ns() + 999999) / 1000000;
    int rest_ms = timeout_ms < 0 || left_ms > 0 ? (int)left_ms : 0;
    int status = request_lock(session, lock, 0, rest_ms, may_return, cell);
    if (status != DSM_AGAIN) return status;
  }
}

int lock_take_free(dsm_session *session, const struct cell_name *lock, enum lock_cell *cell) {
  /* On a stack in the map lock_take() refuses: it could not keep a lock that it has got here. */
  *cell = session_check_stack() == DSM_OK ? lock_cells_take(&session->cells, lock) : LOCK_CELL_ASK;
  if (*cell != LOCK_CELL_TAKEN || !release_is_clean(&session->pages)) return 0;
  locked_by_cell(session, DSM_OK);
  return 1;
}

int lock_take(dsm_session *session, const struct cell_name *lock, int try_only, int timeout_ms, enum lock_cell cell) {
  int status = session_begin(session);
  if (status != DSM_OK) {
    if (cell == LOCK_CELL_TAKEN) lock_cells_give(&session->cells, lock);
    return status;
  }
  if (cell == LOCK_CELL_TAKEN)
    status = locked_by_cell(session, session_catch_up(session, DSM_OK));
  else if (lock->name != NULL && name_check("lock", lock->name) != DSM_OK)
    status = DSM_INVALID;
  else if (!try_only)
    status = await_lock(session, lock, timeout_ms, cell);
  else
    status = cell == LOCK_CELL_BUSY ? DSM_AGAIN : request_lock(session, lock, 1, -1, 0, cell);
  session_end(session);
  return status;
}

/* Gives back by its cell a lock whose owner has nothing to publish. Returns whether that is done. */
static int give_clean(dsm_session *session, const struct cell_name *lock) {
  /* Another thread may leave the session once the lock is free, and the ring goes with it. */
  int keeps = session->pages.ring != NULL;
  if (keeps) session_keep(session);
  int given = lock_cells_give(&session->cells, lock);
  if (given) release_end_section(&session->pages);
  if (keeps) session_let_go(session);
  return given;
}

/* Gives the lock back without the arbiter. Returns whether that is done. */
static int give_by_cell(dsm_session *session, const struct cell_name *lock) {
  if (release_is_clean(&session->pages)) return give_clean(session, lock);
  if (!lock_cells_has(&session->cells, lock) || session_begin(session) != DSM_OK) return 0;
  /* In this order: the next owner on this node reads the replica. */
  int given = release_stores(&session->pages) == DSM_OK && give_clean(session, lock);
  session_end(session);
  return given;
}

int lock_give_free(dsm_session *session, const struct cell_name *lock) {
  if (!release_is_clean(&session->pages)) return 0;
  tool_release(&session->cells);
  return give_clean(session, lock);
}

int lock_give(dsm_session *session, const struct cell_name *lock, int keeps_mark) {
  tool_release(&session->cells);
  /* Whose lock is marked got it by a request, and the cell is the arbiter's. */
  if (!keeps_mark && give_by_cell(session, lock)) return DSM_OK;
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  if (lock->name != NULL) status = name_check("lock", lock->name);
  if (status == DSM_OK) {
    char text[DSM_NAME_MAX + 1];
    uint32_t length = cell_name_text(lock, text);
    struct wire_header header = {
        .kind = WIRE_UNLOCK,
        .name_length = length,
        .keeps_mark = (uint8_t)keeps_mark,
        .is_short = (uint32_t)lock_cells_is_short(&session->cells, lock),
    };
    status = release_request(&session->pages, &header, text, length, 0, -1, NULL);
  }
  session_end(session);
  return status;
}

static int lock_named(dsm_session *session, const char *name, int try_only, int timeout_ms) {
  if (session == NULL) return session_check(session);
  const struct cell_name lock = {.kind = CELL_OF_LOCK, .name = name == NULL ? "" : name};
  enum lock_cell cell;
  if (lock_take_free(session, &lock, &cell)) return DSM_OK;
  int status = lock_take(session, &lock, try_only, timeout_ms, cell);
  switch (status) {
    case DSM_AGAIN: return dsm_fail(status, "another process has lock \"%s\" now", name);
    case DSM_TIMEOUT: return dsm_fail(status, "other processes had lock \"%s\" for %d ms", name, timeout_ms);
    case DSM_BUSY: return dsm_fail(status, "this process has lock \"%s\", or waits for it, already", name);
    default: return status;
  }
}

static int unlock_named(dsm_session *session, const char *name, int keeps_mark) {
  if (session == NULL) return session_check(session);
  const struct cell_name lock = {.kind = CELL_OF_LOCK, .name = name == NULL ? "" : name};
  int status = lock_give(session, &lock, keeps_mark);
  return status == DSM_NOT_OWNER ? dsm_fail(status, "this process does not have lock \"%s\"", name) : status;
}

int dsm_lock(dsm_session *session, const char *name) {
  return lock_named(session, name, 0, -1);
}

int dsm_lock_try(dsm_session *session, const char *name) {
  return lock_named(session, name, 1, -1);
}

int dsm_lock_timed(dsm_session *session, const char *name, uint32_t timeout_ms) {
  if (timeout_ms > INT32_MAX)
    return dsm_fail(DSM_INVALID, "a timeout of %u ms is beyond the limit of %d", timeout_ms, INT32_MAX);
  return lock_named(session, name, 0, (int)timeout_ms);
}

int dsm_unlock(dsm_session *session, const char *name) {
  return unlock_named(session, name, 0);
}

int dsm_unlock_unmended(dsm_session *session, const char *name) {
  return unlock_named(session, name, 1);
}
