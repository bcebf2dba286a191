/* How a thread waits for a lock that another one has: it looks for some microseconds, then it sleeps on the word, as with
 * futexes (Drepper, "Futexes are tricky"). The word has a flag if threads may sleep on it; who gives the lock back then wakes
 * the first of them.
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
 *   between. Else it would be kept for no thread. */
#define _GNU_SOURCE
#include "session/word_lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "link/interrupts.h"
#include "session/spin.h"

#define STARVING_NS 1000000ll

int word_sleep(_Atomic uint32_t *word, uint32_t seen, long long timeout_ns) {
  struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
  return syscall(SYS_futex, word, FUTEX_WAIT, seen, &timeout, NULL, 0) == 0 ? 0 : -1;
}

int word_wake(_Atomic uint32_t *word, int count) {
  return (int)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

static int swap(_Atomic uint32_t *word, uint32_t *seen, uint32_t next) {
  return atomic_compare_exchange_strong(word, seen, next);
}

/* Keeps the lock for the first that sleeps, and wakes it. Returns how many were woken. */
static int hand_over(const struct word_lock *lock, uint32_t kept) {
  int woken = word_wake(lock->word, 1);
  return woken == 0 && swap(lock->word, &kept, lock->free) ? word_wake(lock->word, 1) : woken;
}

int word_lock_give(const struct word_lock *lock, int *woken) {
  const uint32_t kept = (lock->free + 1) | WORD_LOCK_STARVING | WORD_LOCK_SLEEPERS;
  uint32_t seen = lock->mine;
  *woken = 0;
  while ((seen & WORD_LOCK_STATE) == lock->mine) {
    if (!swap(lock->word, &seen, seen & WORD_LOCK_STARVING ? kept : lock->free)) continue;
    if (seen & WORD_LOCK_STARVING)
      *woken = hand_over(lock, kept);
    else if (seen & WORD_LOCK_SLEEPERS)
      *woken = word_wake(lock->word, 1);
    return 1;
  }
  return 0;
}

/* Of a lock that is not free, or not for this thread. */
static enum word_lock_result judge(const struct word_lock *lock, uint32_t seen) {
  uint32_t state = seen & WORD_LOCK_STATE;
  return state < lock->free || (lock->stops_at_mine && state == lock->mine) ? WORD_LOCK_STOPS : WORD_LOCK_BUSY;
}

enum word_lock_result word_lock_take(const struct word_lock *lock) {
  uint32_t seen = lock->free;
  return swap(lock->word, &seen, lock->mine) ? WORD_LOCK_TAKEN : judge(lock, seen);
}

enum word_lock_result word_lock_spin(const struct word_lock *lock, struct polling *history, int may_spin) {
  struct spin spin = spin_begin(history, may_spin);
  do {
    uint32_t seen = atomic_load_explicit(lock->word, memory_order_relaxed);
    if ((seen & WORD_LOCK_STATE) == lock->free) {
      if (!swap(lock->word, &seen, lock->mine | (seen & ~WORD_LOCK_STATE))) continue;
      spin_ended(&spin);
      return WORD_LOCK_TAKEN;
    }
    if (judge(lock, seen) == WORD_LOCK_STOPS) return WORD_LOCK_STOPS;
  } while (spin_again(&spin));
  return WORD_LOCK_BUSY;
}

enum word_lock_result word_lock_sleep(const struct word_lock *lock, struct word_lock_wait *wait,
                                      long long sleep_max_ns) {
  long long now = now_ns();
  long long end = wait->end_ns - now > sleep_max_ns ? now + sleep_max_ns : wait->end_ns;
  if (wait->began_ns == 0) wait->began_ns = now;
  uint32_t sleepers = 0; /* set once this thread has slept */
  uint32_t own_starving = 0; /* set while it is this thread that starves */
  int was_woken = 0; /* from its last sleep */
  for (;; now = now_ns()) {
    uint32_t seen = atomic_load(lock->word);
    uint32_t state = seen & WORD_LOCK_STATE;
    if (state == lock->free || (state == lock->free + 1 && was_woken)) {
      uint32_t flags = (seen & ~WORD_LOCK_STATE & ~own_starving) | sleepers;
      if (swap(lock->word, &seen, lock->mine | flags)) return WORD_LOCK_TAKEN;
      continue;
    }
    if (state < lock->free) return WORD_LOCK_STOPS;
    int gives_up = now >= end || judge(lock, seen) == WORD_LOCK_STOPS;
    uint32_t next = seen | (gives_up ? sleepers : WORD_LOCK_SLEEPERS);
    if (!gives_up && was_woken && now - wait->began_ns >= STARVING_NS) next |= WORD_LOCK_STARVING;
    if (next != seen && !swap(lock->word, &seen, next)) continue;
    own_starving |= next & ~seen & WORD_LOCK_STARVING;
    if (gives_up) return WORD_LOCK_STOPS;
    was_woken = word_sleep(lock->word, next, end - now) == 0;
    sleepers = WORD_LOCK_SLEEPERS;
    if (!was_woken && errno == EINTR && interrupts_are_on()) return WORD_LOCK_STOPS;
  }
}
