#include "session/semaphore_cells.h"

#include <errno.h>

#include "base/clock.h"
#include "link/interrupts.h"

/* How long a thread waits by the cell, at most. dsm why and top show longer waits, a dead arbiter is noticed after this
 * time, and a wake that a dying process did not make costs no more than it. */
#define SLICE_NS 100000000ll
/* How often a thread looks at a semaphore that is 0 before it sleeps: some microseconds. */
#define SPINS_MAX 250u
/* After a spin in vain so many waits at most sleep at once. */
#define SPIN_PAUSE_MAX 255u

#define GIVEN WIRE_SEMAPHORE_CELL_GIVEN
#define SLEEPERS WIRE_SEMAPHORE_CELL_SLEEPERS
#define STEP WIRE_SEMAPHORE_CELL_STEP

/* Whether spinning pays, in any thread. */
static struct channel_polling spinning;

static int is_given(uint32_t word) {
  return (word & GIVEN) != 0;
}

/* Returns whether the value is above 0, of a word that is given. */
static int is_above_zero(uint32_t word) {
  return word >= STEP;
}

static int is_zero(uint32_t word) {
  return is_given(word) && !is_above_zero(word);
}

/* Waits a little while the semaphore is 0. The counters are hints: threads may race for them. */
static void spin(const _Atomic uint32_t *word) {
  if (!is_zero(atomic_load_explicit(word, memory_order_relaxed))) return;
  unsigned rest = atomic_load_explicit(&spinning.rest, memory_order_relaxed);
  if (rest > 0) {
    atomic_store_explicit(&spinning.rest, rest - 1, memory_order_relaxed);
    return;
  }
  for (unsigned spins = 0; spins < SPINS_MAX; spins++) {
    if (!is_zero(atomic_load_explicit(word, memory_order_relaxed))) {
      atomic_store_explicit(&spinning.pause, 0, memory_order_relaxed);
      return;
    }
    __builtin_ia32_pause();
  }
  unsigned pause = 2 * atomic_load_explicit(&spinning.pause, memory_order_relaxed) + 1;
  if (pause > SPIN_PAUSE_MAX) pause = SPIN_PAUSE_MAX;
  atomic_store_explicit(&spinning.pause, pause, memory_order_relaxed);
  atomic_store_explicit(&spinning.rest, pause, memory_order_relaxed);
}

/* Takes 1 of a value above 0, if the word is still `seen`. `was_woken`: further threads may sleep while SLEEPERS is not set,
 * because it was cleared to wake this one. Returns whether it has. */
static int take(_Atomic uint32_t *word, uint32_t seen, int was_woken) {
  uint32_t next = seen - STEP;
  if (was_woken) next = is_above_zero(next) ? next & ~SLEEPERS : next | SLEEPERS;
  if (!atomic_compare_exchange_strong(word, &seen, next)) return 0;
  if (was_woken && is_above_zero(next)) cell_wake(word, 1);
  return 1;
}

enum semaphore_result semaphore_cells_try(struct cells *cells, const char *name) {
  _Atomic uint32_t *word = cells_find(cells, CELL_OF_SEMAPHORE, name);
  if (word == NULL || cells_arbiter_is_gone(cells)) return SEMAPHORE_ASK;
  for (;;) {
    uint32_t seen = atomic_load(word);
    if (!is_given(seen)) return SEMAPHORE_ASK;
    if (!is_above_zero(seen)) return SEMAPHORE_IS_ZERO;
    if (take(word, seen, 0)) return SEMAPHORE_DONE;
  }
}

/* Sleeps while the value is 0 and SLEEPERS is set. Returns whether the thread was woken; -1: its interrupts are to be
 * asked, which a request does. */
static int sleep_on(_Atomic uint32_t *word, long long left_ns) {
  if (cell_sleep(word, GIVEN | SLEEPERS, left_ns) == 0) return 1;
  return errno == EINTR && interrupts_are_on() ? -1 : 0;
}

/* Takes 1, and waits for that until the time is over, which begins when the thread first has to sleep. */
static enum semaphore_result wait_for(_Atomic uint32_t *word, long long time_ns, long long *start_ns) {
  int was_woken = 0;
  for (;;) {
    uint32_t seen = atomic_load(word);
    if (!is_given(seen)) return SEMAPHORE_ASK;
    if (is_above_zero(seen)) {
      if (take(word, seen, was_woken)) return SEMAPHORE_DONE;
      continue;
    }
    /* Set even if the time is over: one that was woken leaves it set for the others. */
    if (seen != (GIVEN | SLEEPERS) && !atomic_compare_exchange_strong(word, &seen, GIVEN | SLEEPERS)) continue;
    long long now = now_ns();
    if (*start_ns == 0) *start_ns = now;
    long long left_ns = *start_ns + time_ns - now;
    if (left_ns <= 0) return SEMAPHORE_IS_ZERO;
    int woken = sleep_on(word, left_ns);
    if (woken < 0) return SEMAPHORE_ASK;
    was_woken |= woken;
  }
}

enum semaphore_result semaphore_cells_wait(struct cells *cells, const char *name, int *timeout_ms) {
  _Atomic uint32_t *word = cells_find(cells, CELL_OF_SEMAPHORE, name);
  if (word == NULL || cells_arbiter_is_gone(cells)) return SEMAPHORE_ASK;
  if (*timeout_ms != 0 && cells->link->channels.polls) spin(word);
  long long start_ns = 0;
  int is_short = *timeout_ms >= 0 && *timeout_ms * 1000000ll <= SLICE_NS;
  enum semaphore_result result = wait_for(word, is_short ? *timeout_ms * 1000000ll : SLICE_NS, &start_ns);
  if (result == SEMAPHORE_IS_ZERO && !is_short) result = SEMAPHORE_ASK;
  if (result == SEMAPHORE_ASK && *timeout_ms > 0 && start_ns != 0) {
    long long left_ms = *timeout_ms - (now_ns() - start_ns) / 1000000;
    *timeout_ms = left_ms > 0 ? (int)left_ms : 0;
  }
  return result;
}

enum semaphore_result semaphore_cells_post(struct cells *cells, const char *name) {
  _Atomic uint32_t *word = cells_find(cells, CELL_OF_SEMAPHORE, name);
  if (word == NULL || cells_arbiter_is_gone(cells)) return SEMAPHORE_ASK;
  uint32_t seen = atomic_load(word);
  do {
    if (!is_given(seen) || seen / STEP >= WIRE_SEMAPHORE_CELL_VALUE_MAX) return SEMAPHORE_ASK;
  } while (!atomic_compare_exchange_weak(word, &seen, (seen & ~SLEEPERS) + STEP));
  if (seen & SLEEPERS) cell_wake(word, 1);
  return SEMAPHORE_DONE;
}
