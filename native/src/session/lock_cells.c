#include "session/lock_cells.h"

/* How often a lock that another process has is looked at before the arbiter is asked: some microseconds. */
#define SPINS_MAX 100u

static uint32_t mark_of(const struct cells *cells) {
  return WIRE_CELL_OWNED + cells->link->rank;
}

static int put(_Atomic uint32_t *word, uint32_t mark) {
  return atomic_compare_exchange_strong(word, &mark, WIRE_CELL_FREE);
}

enum lock_taken lock_cells_take(struct cells *cells, const char *name, int may_wait) {
  _Atomic uint32_t *word = cells_find(cells, CELL_OF_LOCK, name);
  if (word == NULL || cells_arbiter_is_gone(cells)) return LOCK_NOT_TAKEN;
  uint32_t mark = mark_of(cells);
  for (unsigned spins = may_wait && cells->link->channels.polls ? SPINS_MAX : 0;; spins--) {
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    if (seen == WIRE_CELL_FREE && atomic_compare_exchange_strong(word, &seen, mark)) {
      if (!cells_are_usable(cells)) {
        /* Another thread leaves the session: the arbiter may have looked at the cell before. */
        put(word, mark);
        return LOCK_NOT_TAKEN;
      }
      if (cells_are_open(cells)) return LOCK_TAKEN;
      return put(word, mark) ? LOCK_NOT_TAKEN : LOCK_TAKEN_LATE;
    }
    /* The arbiter decides, or this process has the lock already, which is an error, or another one keeps it. */
    if (seen == WIRE_CELL_ARBITER || seen == mark || spins == 0) return LOCK_NOT_TAKEN;
    __builtin_ia32_pause();
  }
}

int lock_cells_has(const struct cells *cells, const char *name) {
  _Atomic uint32_t *word = cells_find(cells, CELL_OF_LOCK, name);
  return word != NULL && atomic_load(word) == mark_of(cells);
}

int lock_cells_give(struct cells *cells, const char *name) {
  _Atomic uint32_t *word = cells_find(cells, CELL_OF_LOCK, name);
  return word != NULL && put(word, mark_of(cells));
}
