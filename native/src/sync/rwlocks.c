/* Reader-writer locks in the map. The session counts the reads of each process; which thread writes is known here. */
#include "base/cancel.h"
#include "pages/release.h"
#include "sync/objects.h"
#include "sync/wait.h"
#include "trap/tool.h"

static uint32_t writer_of(const struct object *rwlock) {
  return atomic_load_explicit(&rwlock->state->owner, memory_order_relaxed);
}

int rwlock_lock(const struct object *rwlock, int is_writer, int timeout_ms) {
  if (writer_of(rwlock) == thread_number()) return DSM_BUSY;
  dsm_session *session = rwlock->session;
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  struct wire_header header = {
      .kind = WIRE_RW_LOCK,
      .map_offset = rwlock->offset,
      .is_writer = (uint32_t)is_writer,
      .try_only = timeout_ms == TRY_ONLY,
  };
  int cancel = cancel_disable();
  status = session_wait(session, &header, NULL, 0, timeout_ms == TRY_ONLY ? -1 : timeout_ms);
  status = session_catch_up(session, status);
  cancel_restore(cancel);
  if (is_writer && (status == DSM_OK || status == DSM_OWNER_DIED)) {
    atomic_store_explicit(&rwlock->state->owner, thread_number(), memory_order_relaxed);
    release_begin_section(&session->pages);
  }
  tool_acquire(&session->cells);
  session_end(session);
  return status;
}

int rwlock_unlock(const struct object *rwlock, int keeps_mark) {
  uint32_t writer = writer_of(rwlock);
  if (writer != 0 && writer != thread_number()) return DSM_NOT_OWNER;
  dsm_session *session = rwlock->session;
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  /* Before the request: the next writer may be another thread. */
  if (writer != 0) atomic_store_explicit(&rwlock->state->owner, 0, memory_order_relaxed);
  tool_release(&session->cells);
  struct wire_header header = {
      .kind = WIRE_RW_UNLOCK, .map_offset = rwlock->offset, .keeps_mark = keeps_mark && writer != 0};
  int cancel = cancel_disable();
  status = release_request(&session->pages, &header, NULL, 0, 0, -1, NULL);
  cancel_restore(cancel);
  session_end(session);
  return status;
}
