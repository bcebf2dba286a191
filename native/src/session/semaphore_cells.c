#include "session/semaphore_cells.h"

#include <errno.h>

#include "base/clock.h"
#include "link/interrupts.h"
#include "session/spin.h"
#include "session/word_lock.h"

#define GIVEN WIRE_SEMAPHORE_CELL_GIVEN
#define SLEEPERS WIRE_SEMAPHORE_CELL_SLEEPERS
#define STEP WIRE_SEMAPHORE_CELL_STEP

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

/* Waits a little while the semaphore is 0. */
static void spin(struct cells *cells, const _Atomic uint32_t *word) {
  struct spin spin = spin_begin(&cells->semaphore_spins, cells->link->channels.polls);
  while (is_zero(atomic_load_explicit(word, memory_order_relaxed)))
    if (!spin_again(&spin)) return;
  spin_ended(&spin);
}

/* Takes 1 of a value above 0, if the word is still `seen`. `was_woken`: further threads may sleep while SLEEPERS is not set,
 * because it was cleared to wake this one. Returns whether it has. */
static int take(_Atomic uint32_t *word, uint32_t seen, int was_woken) {
  uint32_t next = seen - STEP;
  if (was_woken) next = is_above_zero(next) ? next & ~SLEEPERS : next | SLEEPERS;
  if (!atomic_compare_exchange_strong(word, &seen, next)) return 0;
  if (was_woken && is_above_zero(next)) word_wake(word, 1);
  return 1;
}

enum semaphore_result semaphore_cells_try(struct cells *cells, const struct cell_name *semaphore) {
  _Atomic uint32_t *word = cells_find(cells, semaphore);
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
  if (word_sleep(word, GIVEN | SLEEPERS, left_ns) == 0) return 1;
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

enum semaphore_result semaphore_cells_wait(struct cells *cells, const struct cell_name *semaphore, int *timeout_ms) {
  _Atomic uint32_t *word = cells_find(cells, semaphore);
  if (word == NULL || cells_arbiter_is_gone(cells)) return SEMAPHORE_ASK;
  if (*timeout_ms != 0) spin(cells, word);
  long long start_ns = 0;
  int is_short = *timeout_ms >= 0 && *timeout_ms * 1000000ll <= CELL_SLEEP_MAX_NS;
  enum semaphore_result result = wait_for(word, is_short ? *timeout_ms * 1000000ll : CELL_SLEEP_MAX_NS, &start_ns);
  if (result == SEMAPHORE_IS_ZERO && !is_short) result = SEMAPHORE_ASK;
  if (result == SEMAPHORE_ASK && *timeout_ms > 0 && start_ns != 0) {
    long long left_ms = *timeout_ms - (now_ns() - start_ns) / 1000000;
    *timeout_ms = left_ms > 0 ? (int)left_ms : 0;
  }
  return result;
}

enum semaphore_result semaphore_cells_post(struct cells *cells, const struct cell_name *semaphore) {
  _Atomic uint32_t *word = cells_find(cells, semaphore);
  if (word == NULL || cells_arbiter_is_gone(cells)) return SEMAPHORE_ASK;
  uint32_t seen = atomic_load(word);
  do {
    if (!is_given(seen) || seen / STEP >= WIRE_SEMAPHORE_CELL_VALUE_MAX) return SEMAPHORE_ASK;
  } while (!atomic_compare_exchange_weak(word, &seen, (seen & ~SLEEPERS) + STEP));
  if (seen & SLEEPERS) word_wake(word, 1);
  return SEMAPHORE_DONE;
}
