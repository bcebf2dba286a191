/* Mutexes and condition variables in the map.
 *
 * A lock of the session belongs to a process; its cell and its queue let one thread of a process after the other have it, as
 * they do with processes. So a thread takes a mutex that is free by its cell alone. Where that fails, the threads of a process
 * take turns first, and the one that has the turn asks for the lock (Dice, Marathe and Shavit, "Lock cohorting", PPoPP 2012):
 * if others wait for the turn when it unlocks, the process keeps the lock, and the next one needs no message. That is done
 * KEPT_MAX times in a row and for KEPT_MAX_NS at most; then other processes have their chance.
 *
 *     free ──cell──▶ owned by a thread ──cell, or UNLOCK──▶ free
 *       └──turn, then cell or LOCK──▶ owned by a thread that has the turn ──others wait for the turn──▶ kept
 *                                        ▲                                                               │
 *                                        └───────────────────────────turn───────────────────────────────┘
 *
 * A lock that is kept has no owner, and the turn is free or about to be: a thread that was woken takes it. If none was woken,
 * who gave it takes it again, and unlocks. A thread that comes back from a condition variable has the lock without the turn. */
#include <limits.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/status.h"
#include "link/interrupts.h"
#include "pages/release.h"
#include "session/lock_cells.h"
#include "sync/locks.h"
#include "sync/objects.h"
#include "sync/wait.h"
#include "trap/tool.h"

#define KEPT_MAX 16u
#define KEPT_MAX_NS 1000000ll

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

/* ---- turns ---- */

static struct word_lock turn_of(const struct object *mutex) {
  /* 0 is free, and 1 is kept for a thread that was woken. */
  return (struct word_lock){.word = &mutex->state->turn, .mine = (thread_number() + 1) & WORD_LOCK_STATE};
}

/* Waits for the turn. Returns a status. */
static int take_turn(const struct object *mutex, struct word_lock_wait *wait) {
  struct cells *cells = &mutex->session->cells;
  const struct word_lock turn = turn_of(mutex);
  enum word_lock_result result = word_lock_spin(&turn, &cells->turn_spins, mutex->session->link.channels.polls);
  while (result != WORD_LOCK_TAKEN) {
    if (now_ns() >= wait->end_ns || interrupts_raised()) return DSM_TIMEOUT;
    int status = session_check(mutex->session);
    if (status != DSM_OK) return status;
    result = word_lock_sleep(&turn, wait, CELL_SLEEP_MAX_NS);
  }
  return DSM_OK;
}

/* Gives back the turn that the calling thread has, or the owner in whose place it unlocks. Returns how many threads were
 * woken. */
static int give_turn(const struct object *mutex) {
  struct word_lock turn = turn_of(mutex);
  turn.mine = atomic_load_explicit(&mutex->state->turn, memory_order_relaxed) & WORD_LOCK_STATE;
  int woken;
  word_lock_give(&turn, &woken);
  return woken;
}

static int unlock_for_all(const struct object *mutex, int keeps_mark) {
  const struct cell_name lock = lock_of(mutex);
  if (!keeps_mark && lock_give_free(mutex->session, &lock)) return DSM_OK;
  int cancel = cancel_disable();
  int status = lock_give(mutex->session, &lock, keeps_mark);
  cancel_restore(cancel);
  return status;
}

/* The process keeps the lock for those that wait for the turn, which the calling thread has, if it may. Returns 1, and the thread
 * does not have the turn any more; or 0, and the thread must unlock. */
static int keep(const struct object *mutex) {
  struct object_state *state = mutex->state;
  uint32_t sleeps = WORD_LOCK_SLEEPERS | WORD_LOCK_STARVING;
  if (state->kept >= KEPT_MAX || (atomic_load_explicit(&state->turn, memory_order_relaxed) & sleeps) == 0 ||
      now_ns() - atomic_load_explicit(&state->known.note, memory_order_relaxed) >= KEPT_MAX_NS)
    return 0;
  state->kept++;
  state->is_kept = 1;
  tool_release(&mutex->session->cells);
  if (give_turn(mutex) > 0) return 1;
  /* The flag was an old one. Another thread may have come, though, and may even have gone again. */
  const struct word_lock turn = turn_of(mutex);
  if (word_lock_take(&turn) != WORD_LOCK_TAKEN) return 1;
  if (state->is_kept) {
    state->is_kept = 0;
    return 0;
  }
  give_turn(mutex);
  return 1;
}

/* ---- mutexes ---- */

/* Locks by the turn, and by the session. */
static int lock_in_turn(const struct object *mutex, int timeout_ms) {
  struct object_state *state = mutex->state;
  struct word_lock_wait wait = {.end_ns = timeout_ms < 0 ? LLONG_MAX : now_ns() + timeout_ms * 1000000ll};
  const struct word_lock turn = turn_of(mutex);
  if (word_lock_take(&turn) != WORD_LOCK_TAKEN) {
    int status = timeout_ms == TRY_ONLY ? DSM_AGAIN : take_turn(mutex, &wait);
    if (status != DSM_OK) return status;
  }
  int status = DSM_OK;
  if (state->is_kept) {
    state->is_kept = 0;
    tool_acquire(&mutex->session->cells);
  } else {
    const struct cell_name lock = lock_of(mutex);
    enum lock_cell cell;
    state->kept = 0;
    if (!lock_take_free(mutex->session, &lock, &cell)) {
      long long left_ms = timeout_ms < 0 ? timeout_ms : (wait.end_ns - now_ns() + 999999) / 1000000;
      if (timeout_ms >= 0 && left_ms < 0) left_ms = 0;
      status = lock_take(mutex->session, &lock, timeout_ms == TRY_ONLY, (int)left_ms, cell);
    }
    atomic_store_explicit(&state->known.note, now_ns(), memory_order_relaxed);
  }
  if (status == DSM_OK || status == DSM_OWNER_DIED)
    state->has_turn = 1;
  else
    give_turn(mutex);
  return status;
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
    /* What lock_take_free() has begun goes on. */
    status = cell == LOCK_CELL_TAKEN || cell == LOCK_CELL_LATE
                 ? lock_take(mutex->session, &lock, timeout_ms == TRY_ONLY, timeout_ms, cell)
                 : lock_in_turn(mutex, timeout_ms);
    cancel_restore(cancel);
  }
  if (status == DSM_OK || status == DSM_OWNER_DIED) mutex_adopt(mutex);
  return status;
}

int mutex_unlock(const struct object *mutex, int keeps_mark) {
  if (!mutex_is_own(mutex)) return DSM_NOT_OWNER;
  struct object_state *state = mutex->state;
  if (state->depth > 0) {
    state->depth--;
    return DSM_OK;
  }
  /* Before it is given back: the next owner may be another thread. */
  disown(mutex);
  if (!state->has_turn) return unlock_for_all(mutex, keeps_mark);
  state->has_turn = 0;
  if (!keeps_mark && keep(mutex)) return DSM_OK;
  int status = unlock_for_all(mutex, keeps_mark);
  give_turn(mutex);
  return status;
}

/* ---- condition variables ---- */

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
  /* Who has the turn now waits for the session to unlock the mutex. */
  if (mutex->state->has_turn) {
    mutex->state->has_turn = 0;
    give_turn(mutex);
  }
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
