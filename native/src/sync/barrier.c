/* The barrier of all processes, and barriers in the map. */
#include <stdio.h>

#include "pages/release.h"
#include "sync/objects.h"
#include "sync/wait.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/status.h"
#include "link/interrupts.h"
#include "session/barrier_cell.h"
#include "session/session.h"
#include "trap/tool.h"

/* Of what the arbiter says of a barrier whose time is over: it names at most 8 processes. */
#define TIMEOUT_REASON_BYTES 160

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
  status = session_catch_up(session, status);
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

int barrier_arrive(const struct object *barrier, uint32_t count, int timeout_ms, uint64_t *result) {
  dsm_session *session = barrier->session;
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  tool_release(&session->cells);
  struct wire_header header = {.kind = WIRE_ARRIVE, .map_offset = barrier->offset, .count = count};
  int cancel = cancel_disable();
  status = session_wait(session, &header, NULL, 0, timeout_ms);
  *result = header.value;
  status = session_catch_up(session, status);
  cancel_restore(cancel);
  tool_acquire(&session->cells);
  session_end(session);
  return status;
}
