/* Locks by cells: word_lock.h says how a thread waits. A sleep ends after CELL_SLEEP_MAX_NS, and the arbiter wakes all when it
 * takes the cell; then it is asked. So a process that dies anywhere, or is stopped, or a signal handler that never returns
 * delay the others, and no more. */
#include "session/lock_cells.h"

#include "base/clock.h"

/* A process that has a lock for less than this is expected to have it for short times. */
#define SHORT_NS 1000000ll

_Static_assert(WIRE_CELL_KEPT == WIRE_CELL_FREE + 1 && WIRE_CELL_ARBITER < WIRE_CELL_FREE, "a cell is a word_lock");
_Static_assert(WIRE_CELL_STATE == WORD_LOCK_STATE && WIRE_CELL_STARVING == WORD_LOCK_STARVING &&
                   WIRE_CELL_SLEEPERS == WORD_LOCK_SLEEPERS,
               "and has its flags");

static uint32_t mark_of(const struct cells *cells) {
  return WIRE_CELL_OWNED + cells->link->rank;
}

/* Of an object in the map the threads of a process wait for each other. */
static struct word_lock word_lock_of(const struct cells *cells, const struct cell_name *lock, _Atomic uint32_t *word) {
  return (struct word_lock){
      .word = word, .free = WIRE_CELL_FREE, .mine = mark_of(cells), .stops_at_mine = lock->name != NULL};
}

static int give(const struct word_lock *word) {
  int woken;
  return word_lock_give(word, &woken);
}

/* The word says that this process has the lock. */
static enum lock_cell taken(struct cells *cells, const struct word_lock *word) {
  if (!cells_are_usable(cells)) {
    /* Another thread leaves the session: the arbiter may have looked at the cell before. */
    give(word);
    return LOCK_CELL_ASK;
  }
  if (cells_are_open(cells)) return LOCK_CELL_TAKEN;
  return give(word) ? LOCK_CELL_ASK : LOCK_CELL_LATE;
}

static enum lock_cell outcome(struct cells *cells, const struct word_lock *word, enum word_lock_result result) {
  if (result == WORD_LOCK_TAKEN) return taken(cells, word);
  return result == WORD_LOCK_BUSY ? LOCK_CELL_BUSY : LOCK_CELL_ASK;
}

enum lock_cell lock_cells_take(struct cells *cells, const struct cell_name *lock) {
  _Atomic uint32_t *word = cells_find(cells, lock);
  if (word == NULL || cells_arbiter_is_gone(cells)) return LOCK_CELL_ASK;
  const struct word_lock cell = word_lock_of(cells, lock, word);
  return outcome(cells, &cell, word_lock_take(&cell));
}

enum lock_cell lock_cells_await(struct cells *cells, const struct cell_name *lock, struct word_lock_wait *wait) {
  _Atomic uint32_t *word = cells_find(cells, lock);
  if (word == NULL) return LOCK_CELL_ASK;
  const struct word_lock cell = word_lock_of(cells, lock, word);
  enum word_lock_result result = word_lock_spin(&cell, &cells->lock_spins, cells->link->channels.polls);
  if (result == WORD_LOCK_BUSY) result = word_lock_sleep(&cell, wait, CELL_SLEEP_MAX_NS);
  return outcome(cells, &cell, result);
}

int lock_cells_has(const struct cells *cells, const struct cell_name *lock) {
  _Atomic uint32_t *word = cells_find(cells, lock);
  return word != NULL && (atomic_load(word) & WIRE_CELL_STATE) == mark_of(cells);
}

int lock_cells_give(struct cells *cells, const struct cell_name *lock) {
  _Atomic uint32_t *word = cells_find(cells, lock);
  if (word == NULL) return 0;
  const struct word_lock cell = word_lock_of(cells, lock, word);
  return give(&cell);
}

void lock_cells_note(struct cells *cells, const struct cell_name *lock) {
  _Atomic long long *note = cells_note(cells, lock);
  if (note != NULL) atomic_store_explicit(note, now_ns(), memory_order_relaxed);
}

int lock_cells_is_short(struct cells *cells, const struct cell_name *lock) {
  _Atomic long long *note = cells_note(cells, lock);
  if (note == NULL) return 0;
  long long granted = atomic_exchange_explicit(note, 0, memory_order_relaxed);
  return granted != 0 && now_ns() - granted < SHORT_NS;
}
