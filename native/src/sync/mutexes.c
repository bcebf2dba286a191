/* Mutexes and condition variables in the map. The session's lock of the mutex belongs to a process; its cell and its queue
 * let one thread of a process after the other have it, as they do with processes. Here is which of them it is. */
#include "base/cancel.h"
#include "base/status.h"
#include "pages/release.h"
#include "session/lock_cells.h"
#include "sync/locks.h"
#include "sync/objects.h"
#include "sync/wait.h"
#include "trap/tool.h"

static struct cell_name lock_of(const struct object *mutex) {
  return (struct cell_name){.kind = CELL_OF_LOCK, .offset = mutex->offset, .known = &mutex->state->known};
}

int mutex_is_own(const struct object *mutex) {
  return atomic_load_explicit(&mutex->state->owner, memory_order_relaxed) == thread_number();
}

void mutex_adopt(const struct object *mutex) {
  atomic_store_explicit(&mutex->state->owner, thread_number(), memory_order_relaxed);
}

static void disown(const struct object *mutex) {
  atomic_store_explicit(&mutex->state->owner, 0, memory_order_relaxed);
}

int mutex_lock(const struct object *mutex, int timeout_ms, enum mutex_relock relock) {
  if (mutex_is_own(mutex)) {
    if (relock == RELOCK_FAILS || mutex->state->depth == UINT32_MAX) return DSM_BUSY;
    mutex->state->depth++;
    return DSM_OK;
  }
  const struct cell_name lock = lock_of(mutex);
  enum lock_cell cell;
  int status = DSM_OK;
  if (!lock_take_free(mutex->session, &lock, &cell)) {
    int cancel = cancel_disable();
    status = lock_take(mutex->session, &lock, timeout_ms == TRY_ONLY, timeout_ms, cell);
    cancel_restore(cancel);
  }
  if (status == DSM_OK || status == DSM_OWNER_DIED) mutex_adopt(mutex);
  return status;
}

int mutex_unlock(const struct object *mutex, int keeps_mark) {
  if (!mutex_is_own(mutex)) return DSM_NOT_OWNER;
  if (mutex->state->depth > 0) {
    mutex->state->depth--;
    return DSM_OK;
  }
  /* Before it is given back: the next owner may be another thread. */
  disown(mutex);
  const struct cell_name lock = lock_of(mutex);
  if (!keeps_mark && lock_give_free(mutex->session, &lock)) return DSM_OK;
  int cancel = cancel_disable();
  int status = lock_give(mutex->session, &lock, keeps_mark);
  cancel_restore(cancel);
  return status;
}

/* Whether the process has the mutex after a wait of that outcome. */
static int has_mutex(int status) {
  switch (status) {
    case DSM_OK:
    case DSM_TIMEOUT:
    case DSM_OWNER_DIED: return 1;
    case DSM_BUSY:
    case DSM_LIMIT: return 1; /* the wait did not begin */
    default: return 0;
  }
}

/* Asks for the wait, between session_begin() and session_end(). */
static int request_wait(const struct object *condition, const struct cell_name *lock, int timeout_ms) {
  dsm_session *session = condition->session;
  char text[DSM_NAME_MAX + 1];
  struct wire_header header = {
      .kind = WIRE_COND_WAIT,
      .map_offset = condition->offset,
      .name_length = cell_name_text(lock, text),
  };
  int status = session_wait(session, &header, text, header.name_length, timeout_ms);
  if (status != DSM_OK && status != DSM_TIMEOUT && status != DSM_OWNER_DIED) return status;
  lock_cells_note(&session->cells, lock);
  int caught_up = release_stores(&session->pages);
  if (caught_up != DSM_OK) return caught_up;
  release_begin_section(&session->pages);
  return status;
}

int condition_wait(const struct object *condition, const struct object *mutex, int timeout_ms) {
  dsm_session *session = condition->session;
  if (mutex->session != session)
    return dsm_fail(DSM_INVALID, "the condition variable and the mutex are in maps of different sessions");
  if (!mutex_is_own(mutex)) return DSM_NOT_OWNER;
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  int cancel = cancel_disable();
  const struct cell_name lock = lock_of(mutex);
  uint32_t depth = mutex->state->depth;
  mutex->state->depth = 0;
  disown(mutex);
  tool_release(&session->cells);
  status = request_wait(condition, &lock, timeout_ms);
  tool_acquire(&session->cells);
  if (has_mutex(status)) {
    mutex_adopt(mutex);
    mutex->state->depth = depth;
  }
  cancel_restore(cancel);
  session_end(session);
  return status;
}

int condition_signal(const struct object *condition, uint32_t count) {
  dsm_session *session = condition->session;
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  struct wire_header header = {.kind = WIRE_COND_SIGNAL, .map_offset = condition->offset, .count = count};
  int cancel = cancel_disable();
  status = release_request(&session->pages, &header, NULL, 0, 0, -1, NULL);
  cancel_restore(cancel);
  session_end(session);
  return status;
}
