/* Barriers, semaphores, locks, sleeping and fences of the session interface. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "api/names.h"
#include "api/wait.h"
#include "base/clock.h"
#include "pages/release.h"
#include "session/lock_cells.h"
#include "session/semaphore_cells.h"
#include "session/session.h"
#include "base/size.h"
#include "base/status.h"
#include "link/interrupts.h"
#include "trap/tool.h"

/* Of what the arbiter says of a barrier whose time is over: it names at most 8 processes. */
#define TIMEOUT_REASON_BYTES 160

/* Ends a wait. Pages that other threads have opened in the meantime lack what other processes published before they
 * ended the wait, so they are published and closed again. Returns a status. */
static int catch_up(dsm_session *session, int status) {
  if (status != DSM_OK && status != DSM_OWNER_DIED) return status;
  int caught_up = release_stores(&session->pages);
  return caught_up == DSM_OK ? status : caught_up;
}

/* How many milliseconds are left, rounded up; -1: there is no deadline. */
static int milliseconds_until(long long deadline_ns) {
  if (deadline_ns < 0) return -1;
  long long left = deadline_ns - now_ns();
  return left <= 0 ? 0 : (int)((left + 999999) / 1000000);
}

/* Passes the barrier without the arbiter, in direct mode, if that is soon done. */
static enum barrier_by_cell barrier_by_cell(dsm_session *session, struct barrier_wait *wait) {
  if (session_check_stack() != DSM_OK) return BARRIER_IS_ARBITERS;
  tool_release(&session->cells);
  enum barrier_by_cell result = barrier_cell_wait(&session->barrier_cell, &session->cells, wait);
  if (result != BARRIER_PASSED) return result;
  tool_acquire(&session->cells);
  if (interrupts_are_on()) interrupts_note(DSM_OK);
  return result;
}

static int barrier_by_request(dsm_session *session, struct barrier_wait *wait) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  struct wire_header header = {.kind = WIRE_BARRIER};
  status = session_wait(session, &header, NULL, 0, milliseconds_until(wait->deadline_ns));
  wait->processes = header.value;
  session_end(session);
  return status;
}

static int barrier(dsm_session *session, int timeout_ms) {
  if (session == NULL) return session_check(session);
  struct barrier_wait wait = {.deadline_ns = timeout_ms < 0 ? -1 : now_ns() + timeout_ms * 1000000ll};
  session_keep(session);
  enum barrier_by_cell by_cell = barrier_by_cell(session, &wait);
  int status = by_cell == BARRIER_PASSED    ? DSM_OK
               : by_cell == BARRIER_IS_BUSY ? DSM_BUSY
                                            : barrier_by_request(session, &wait);
  barrier_cell_end(&session->cells, &wait);
  status = catch_up(session, status);
  if (status == DSM_OK) session_count(session, wait.processes);
  session_let_go(session);
  if (status == DSM_BUSY) return dsm_fail(status, "this process is in a barrier already");
  if (status == DSM_TIMEOUT) {
    /* The arbiter has said which processes were not in it. */
    char who[TIMEOUT_REASON_BYTES];
    snprintf(who, sizeof who, "%s", dsm_last_error());
    return dsm_fail(status, "%s within %d ms", who, timeout_ms);
  }
  return status;
}

int dsm_barrier_wait(dsm_session *session) {
  return barrier(session, -1);
}

int dsm_barrier_timed(dsm_session *session, uint32_t timeout_ms) {
  if (timeout_ms > INT32_MAX)
    return dsm_fail(DSM_INVALID, "a timeout of %u ms is beyond the limit of %d", timeout_ms, INT32_MAX);
  return barrier(session, (int)timeout_ms);
}

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
    status = catch_up(session, status);
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
  return catch_up(session, status);
}

/* Waits for the lock, by its cell, which was found in that state, and by requests. */
static int await_lock(dsm_session *session, const char *name, int timeout_ms, enum lock_cell cell) {
  struct lock_wait wait = {.end_ns = timeout_ms < 0 ? LLONG_MAX : now_ns() + timeout_ms * 1000000ll};
  /* A process that was sent back to the cell stays in the queue the second time, so that it keeps its place there. */
  for (int may_return = 1;; may_return = 0, cell = LOCK_CELL_BUSY) {
    if (cell == LOCK_CELL_BUSY) cell = lock_cells_await(&session->cells, name, &wait);
    if (cell == LOCK_CELL_TAKEN) return locked_by_cell(session, catch_up(session, DSM_OK));
    if (wait.began_ns != 0 && interrupts_raised() && cell != LOCK_CELL_LATE)
      return dsm_fail(DSM_TIMEOUT, "the wait was interrupted");
    long long left_ms = timeout_ms < 0 ? -1 : (wait.end_ns - now_ns() + 999999) / 1000000;
    int rest_ms = timeout_ms < 0 || left_ms > 0 ? (int)left_ms : 0;
    int status = request_lock(session, name, 0, rest_ms, may_return, cell);
    if (status != DSM_AGAIN) return status;
  }
}

static int lock(dsm_session *session, const char *name, int try_only, int timeout_ms) {
  if (session != NULL && session_check_stack() != DSM_OK) return DSM_INVALID;
  enum lock_cell cell = session == NULL ? LOCK_CELL_ASK : lock_cells_take(&session->cells, name);
  if (cell == LOCK_CELL_TAKEN && release_is_clean(&session->pages)) return locked_by_cell(session, DSM_OK);
  int status = session_begin(session);
  if (status != DSM_OK) {
    if (cell == LOCK_CELL_TAKEN) lock_cells_give(&session->cells, name);
    return status;
  }
  if (cell == LOCK_CELL_TAKEN) {
    status = locked_by_cell(session, catch_up(session, DSM_OK));
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

/* Checks that `width` bytes at `address` are in the map and can be slept on. */
static int check_place(const dsm_session *session, const void *address, size_t width) {
  uint64_t offset = (uintptr_t)address - session->link.base;
  if (width != 1 && width != 2 && width != 4 && width != 8)
    return dsm_fail(DSM_INVALID, "a value of %zu bytes cannot be waited on; use 1, 2, 4 or 8", width);
  if ((uintptr_t)address >= session->link.base && offset < session->link.size && width <= session->link.size - offset)
    return DSM_OK;
  char advice[SIZE_ADVICE_BYTES];
  return (uintptr_t)address < session->link.base || offset >= DSM_SIZE_MAX
             ? dsm_fail(DSM_INVALID, "%p is not in the map", address)
             : dsm_fail(DSM_INVALID, "byte %llu is not in the map of %llu bytes; %s", (unsigned long long)offset,
                        (unsigned long long)session->link.size, size_advice(offset + width, SIZE_ROOM(offset), advice));
}

int dsm_wait_while(dsm_session *session, const void *address, size_t width, uint64_t value, int32_t timeout_ms) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = check_place(session, address, width);
  if (status == DSM_OK) {
    struct wire_header header = {
        .kind = WIRE_FUTEX_WAIT,
        .map_offset = (uintptr_t)address - session->link.base,
        .width = (uint32_t)width,
    };
    status = session_wait(session, &header, &value, sizeof value, timeout_ms);
    if (status == DSM_OK || status == DSM_AGAIN) {
      int caught_up = release_stores(&session->pages);
      status = caught_up != DSM_OK ? caught_up : status;
    }
    if (status == DSM_AGAIN)
      status = dsm_fail(status, "the place holds another value");
    else if (status == DSM_TIMEOUT)
      status = dsm_fail(status, "no process woke this one within %d ms", timeout_ms);
  }
  session_end(session);
  return status;
}

int dsm_wake(dsm_session *session, const void *address, uint32_t count, uint32_t *woken) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = check_place(session, address, 1);
  if (status == DSM_OK) {
    struct wire_header header = {
        .kind = WIRE_FUTEX_WAKE, .map_offset = (uintptr_t)address - session->link.base, .count = count};
    status = release_request(&session->pages, &header, NULL, 0, 0, -1, NULL);
    if (status == DSM_OK && woken != NULL) *woken = (uint32_t)header.value;
  }
  session_end(session);
  return status;
}

int dsm_fence(dsm_session *session) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  /* A sequential store returns when it is applied and has its number; only released and queued stores need a wait
   * here. */
  status = release_stores(&session->pages);
  if (status == DSM_OK && session->ring.header != NULL && !session->link.direct) {
    struct wire_header header = {.kind = WIRE_FENCE};
    status = link_request(&session->link, &header, NULL, 0, 1, -1);
  }
  session_end(session);
  return status;
}
