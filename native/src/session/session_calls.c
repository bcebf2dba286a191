#define _GNU_SOURCE
#include "session/session.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"
#include "session/handles.h"
#include "trap/tool.h"

int session_check(const dsm_session *session) {
  return session == NULL ? dsm_fail(DSM_INVALID, "the session is NULL") : link_check(&session->link);
}

int session_check_stack(void) {
  const char *here = __builtin_frame_address(0);
  return session_may_trap(here, 1)
             ? dsm_fail(DSM_INVALID,
                        "this thread's stack lies in the map, where no call of dsm can run; call from another")
             : DSM_OK;
}

void session_keep(dsm_session *session) {
  atomic_fetch_add(&session->calls, 1);
}

void session_let_go(dsm_session *session) {
  if (atomic_fetch_sub(&session->calls, 1) == 1 && atomic_load(&session->link.left))
    syscall(SYS_futex, &session->calls, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

int session_begin(dsm_session *session) {
  if (session == NULL || session->link.pid != getpid()) return session_check(session);
  if (session_check_stack() != DSM_OK) return DSM_INVALID;
  /* Count first, then check: either the leaving thread sees this call, or this call sees that the session was left. */
  session_keep(session);
  int status = session_check(session);
  tool_enter();
  if (status != DSM_OK) session_end(session);
  return status;
}

void session_end(dsm_session *session) {
  tool_leave();
  session_let_go(session);
}

void session_await_calls(dsm_session *session) {
  unsigned calls;
  while ((calls = atomic_load(&session->calls)) > 0)
    syscall(SYS_futex, &session->calls, FUTEX_WAIT_PRIVATE, calls, NULL, NULL, 0);
}

void session_count(dsm_session *session, uint64_t processes) {
  if (session->link.elastic && processes > 0) atomic_store(&session->processes, (uint32_t)processes);
}
