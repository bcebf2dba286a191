/* How a process waits for a lock that another one has: it looks for some microseconds, then it sleeps on the word, as
 * with futexes (Drepper, "Futexes are tricky"), and after CELL_SLEEP_MAX_NS it asks the arbiter. The word has a flag if
 * threads may sleep on it; who gives the lock back then wakes the first of them.
 *
 * Normally the lock is free meanwhile, and another thread may take it first: that is fast, and unfair. So a thread that
 * was overtaken and has waited for STARVING_NS says so by a flag; from then on the lock is kept for the thread that was
 * woken, until the one that set the flag has it:
 *
 *     free ──▶ owned ──sleepers──▶ free, the first is woken
 *                  └──starving───▶ kept, the first is woken ──it takes the lock──▶ owned
 *                                    └──none was asleep──▶ free
 *
 * Rules, each with what would happen without it:
 * - Who has slept takes the lock with the flag of the sleepers set. It was cleared when this thread was woken, and the
 *   others would sleep on a free lock.
 * - Who has slept and gives up leaves that flag set, too.
 * - Where a hand-over has woken none, the lock becomes free, and one is woken once more: it may have gone to sleep in
 *   between. Else it would be kept for no thread.
 * - A sleep ends after CELL_SLEEP_MAX_NS, and the arbiter wakes all when it takes the cell. So a process that dies
 *   anywhere, or is stopped, or a signal handler that never returns delay the others, and no more. */
#include "session/lock_cells.h"

#include <errno.h>

#include "base/clock.h"
#include "link/interrupts.h"
#include "session/spin.h"

#define STARVING_NS 1000000ll
/* A process that has a lock for less than this is expected to have it for short times. */
#define SHORT_NS 1000000ll

static uint32_t mark_of(const struct cells *cells) {
  return WIRE_CELL_OWNED + cells->link->rank;
}

static int swap(_Atomic uint32_t *word, uint32_t *seen, uint32_t next) {
  return atomic_compare_exchange_strong(word, seen, next);
}

/* Keeps the lock for the first that sleeps, and wakes it. */
static void hand_over(_Atomic uint32_t *word, uint32_t kept) {
  if (cell_wake(word, 1) == 0 && swap(word, &kept, WIRE_CELL_FREE)) cell_wake(word, 1);
}

static int give(_Atomic uint32_t *word, uint32_t mark) {
  const uint32_t kept = WIRE_CELL_KEPT | WIRE_CELL_STARVING | WIRE_CELL_SLEEPERS;
  uint32_t seen = mark;
  while ((seen & WIRE_CELL_STATE) == mark) {
    if (!swap(word, &seen, seen & WIRE_CELL_STARVING ? kept : WIRE_CELL_FREE)) continue;
    if (seen & WIRE_CELL_STARVING)
      hand_over(word, kept);
    else if (seen & WIRE_CELL_SLEEPERS)
      cell_wake(word, 1);
    return 1;
  }
  return 0;
}

/* The word says that this process has the lock. */
static enum lock_cell taken(struct cells *cells, _Atomic uint32_t *word) {
  if (!cells_are_usable(cells)) {
    /* Another thread leaves the session: the arbiter may have looked at the cell before. */
    give(word, mark_of(cells));
    return LOCK_CELL_ASK;
  }
  if (cells_are_open(cells)) return LOCK_CELL_TAKEN;
  return give(word, mark_of(cells)) ? LOCK_CELL_ASK : LOCK_CELL_LATE;
}

/* Returns whether this process has the lock and must not wait for it. For an object in the map its threads wait for each
 * other. */
static int is_own(const struct cells *cells, const struct cell_name *lock, uint32_t state) {
  return state == mark_of(cells) && lock->name != NULL;
}

/* Of a lock that is not free, or not for this thread. */
static enum lock_cell judge(const struct cells *cells, const struct cell_name *lock, uint32_t seen) {
  uint32_t state = seen & WIRE_CELL_STATE;
  return state == WIRE_CELL_ARBITER || is_own(cells, lock, state) ? LOCK_CELL_ASK : LOCK_CELL_BUSY;
}

enum lock_cell lock_cells_take(struct cells *cells, const struct cell_name *lock) {
  _Atomic uint32_t *word = cells_find(cells, lock);
  if (word == NULL || cells_arbiter_is_gone(cells)) return LOCK_CELL_ASK;
  uint32_t seen = WIRE_CELL_FREE;
  return swap(word, &seen, mark_of(cells)) ? taken(cells, word) : judge(cells, lock, seen);
}

/* Looks for a short time whether the lock becomes free. Returns LOCK_CELL_BUSY: it is time to sleep. */
static enum lock_cell spin(struct cells *cells, const struct cell_name *lock, _Atomic uint32_t *word) {
  struct spin spin = spin_begin(&cells->lock_spins, cells->link->channels.polls);
  do {
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    if ((seen & WIRE_CELL_STATE) == WIRE_CELL_FREE) {
      if (!swap(word, &seen, mark_of(cells) | (seen & ~WIRE_CELL_STATE))) continue;
      spin_ended(&spin);
      return taken(cells, word);
    }
    if (judge(cells, lock, seen) == LOCK_CELL_ASK) return LOCK_CELL_ASK;
  } while (spin_again(&spin));
  return LOCK_CELL_BUSY;
}

enum lock_cell lock_cells_await(struct cells *cells, const struct cell_name *lock, struct lock_wait *wait) {
  _Atomic uint32_t *word = cells_find(cells, lock);
  if (word == NULL) return LOCK_CELL_ASK;
  enum lock_cell found = spin(cells, lock, word);
  if (found != LOCK_CELL_BUSY) return found;

  long long now = now_ns();
  long long end = wait->end_ns - now > CELL_SLEEP_MAX_NS ? now + CELL_SLEEP_MAX_NS : wait->end_ns;
  if (wait->began_ns == 0) wait->began_ns = now;
  uint32_t sleepers = 0; /* set once this thread has slept */
  uint32_t own_starving = 0; /* set while it is this thread that starves */
  int was_woken = 0; /* from its last sleep */
  for (;; now = now_ns()) {
    uint32_t seen = atomic_load(word);
    uint32_t state = seen & WIRE_CELL_STATE;
    if (state == WIRE_CELL_FREE || (state == WIRE_CELL_KEPT && was_woken)) {
      uint32_t flags = (seen & ~WIRE_CELL_STATE & ~own_starving) | sleepers;
      if (swap(word, &seen, mark_of(cells) | flags)) return taken(cells, word);
      continue;
    }
    if (state == WIRE_CELL_ARBITER) return LOCK_CELL_ASK;
    int gives_up = now >= end || is_own(cells, lock, state);
    uint32_t next = seen | (gives_up ? sleepers : WIRE_CELL_SLEEPERS);
    if (!gives_up && was_woken && now - wait->began_ns >= STARVING_NS) next |= WIRE_CELL_STARVING;
    if (next != seen && !swap(word, &seen, next)) continue;
    own_starving |= next & ~seen & WIRE_CELL_STARVING;
    if (gives_up) return LOCK_CELL_ASK;
    was_woken = cell_sleep(word, next, end - now) == 0;
    sleepers = WIRE_CELL_SLEEPERS;
    if (!was_woken && errno == EINTR && interrupts_are_on()) return LOCK_CELL_ASK;
  }
}

int lock_cells_has(const struct cells *cells, const struct cell_name *lock) {
  _Atomic uint32_t *word = cells_find(cells, lock);
  return word != NULL && (atomic_load(word) & WIRE_CELL_STATE) == mark_of(cells);
}

int lock_cells_give(struct cells *cells, const struct cell_name *lock) {
  _Atomic uint32_t *word = cells_find(cells, lock);
  return word != NULL && give(word, mark_of(cells));
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
