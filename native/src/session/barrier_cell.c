#include "session/barrier_cell.h"

#include <errno.h>

#include "base/clock.h"
#include "session/word_lock.h"

/* How long a thread looks at the word before it sleeps: what sleeping and waking cost. After looking in vain 1, 3, 7 ... waits
 * sleep at once. */
#define SPIN_NS 20000
#define SPIN_PAUSE_MAX 4095u
/* Between two looks at the clock. If they take longer than SPIN_GAP_NS, the thread competes for its processor. */
#define SPIN_LOOKS 32u
#define SPIN_GAP_NS 50000
/* Processes that sleep by turns never find each other awake. So in every TRIAL_PERIOD phases TRIALS are tried by all, and in
 * the first of these a thread waits until the other one has been woken, which on an idle core of a virtual machine takes
 * some 50 us. */
#define TRIAL_PERIOD 4096u
#define TRIALS 4u
#define WAKE_NS 100000

#define ARRIVED_ONE (1ull << 32)
#define MEMBERS_SHIFT (32 + WIRE_BARRIER_COUNT_BITS)
#define COUNT_MASK ((1ull << WIRE_BARRIER_COUNT_BITS) - 1)
#define SLEEPERS ((uint64_t)WIRE_BARRIER_SLEEPERS << 32)

enum phase { PHASE_GOES_ON, PHASE_IS_OVER, PHASE_IS_TAKEN };

static _Atomic uint64_t *word_of(const struct cells *cells) {
  return (_Atomic uint64_t *)(cells->bytes + WIRE_BARRIER_CELL_AT);
}

/* The half on which threads sleep: the low one, which each phase changes. */
static _Atomic uint32_t *low_of(const struct cells *cells) {
  return (_Atomic uint32_t *)(cells->bytes + WIRE_BARRIER_CELL_AT);
}

static _Atomic uint16_t *mark_of(const struct cells *cells) {
  return (_Atomic uint16_t *)(cells->bytes + WIRE_BARRIER_MARKS_AT) + cells->link->rank;
}

static uint64_t members_of(uint64_t word) {
  return word >> MEMBERS_SHIFT & COUNT_MASK;
}

/* The next phase, in which none has arrived. */
static uint64_t next_phase(uint64_t word) {
  return ((uint32_t)word + WIRE_BARRIER_PHASE) | members_of(word) << MEMBERS_SHIFT;
}

/* Returns what has become of the phase in which this process arrived. */
static enum phase look(const struct cells *cells, uint32_t arrived_in, uint64_t word) {
  uint32_t phases = (((uint32_t)word | WIRE_BARRIER_GIVEN) - arrived_in) / WIRE_BARRIER_PHASE;
  if (phases == 0) return (word & WIRE_BARRIER_GIVEN) != 0 ? PHASE_GOES_ON : PHASE_IS_TAKEN;
  /* Processes count on by one, the arbiter by two. A process that leaves the session finds zeros there. */
  return phases % 2 == 1 && cells_are_usable(cells) ? PHASE_IS_OVER : PHASE_IS_TAKEN;
}

/* Arrives. Returns the word as it was before; not given: the process has not arrived. */
static uint64_t arrive(const struct cells *cells) {
  uint64_t word = atomic_load(word_of(cells));
  for (;;) {
    if ((word & WIRE_BARRIER_GIVEN) == 0) return word;
    int is_last = (word >> 32 & COUNT_MASK) + 1 >= members_of(word);
    if (atomic_compare_exchange_weak(word_of(cells), &word, is_last ? next_phase(word) : word + ARRIVED_ONE))
      return word;
  }
}

/* Takes the arrival back, so that a request can stand for it. Returns PHASE_IS_OVER if it is too late: the barrier is
 * passed. */
static enum phase withdraw(const struct cells *cells, uint32_t arrived_in) {
  uint64_t word = atomic_load(word_of(cells));
  for (;;) {
    enum phase phase = look(cells, arrived_in, word);
    if (phase != PHASE_GOES_ON) return phase;
    if (atomic_compare_exchange_weak(word_of(cells), &word, word - ARRIVED_ONE)) return PHASE_IS_TAKEN;
  }
}

/* Looks until the phase is over or taken, or for that long. `*took_ns`: about how long it took. */
static enum phase look_for(const struct cells *cells, uint32_t arrived_in, long long limit_ns, long long *took_ns) {
  long long begun = now_ns(), last = begun;
  for (;;) {
    for (unsigned looks = 0; looks < SPIN_LOOKS; looks++) {
      enum phase phase = look(cells, arrived_in, atomic_load_explicit(word_of(cells), memory_order_acquire));
      if (phase != PHASE_GOES_ON) return phase;
      __builtin_ia32_pause();
    }
    long long now = now_ns();
    *took_ns = now - begun;
    if (*took_ns >= limit_ns || now - last > SPIN_GAP_NS) return PHASE_GOES_ON;
    last = now;
  }
}

static enum phase spin(struct barrier_cell *barrier, const struct cells *cells, uint32_t arrived_in) {
  if (!cells->link->channels.polls) return PHASE_GOES_ON;
  uint32_t trial = arrived_in / WIRE_BARRIER_PHASE % TRIAL_PERIOD;
  unsigned rest = atomic_load_explicit(&barrier->rest, memory_order_relaxed);
  if (rest > 0 && trial >= TRIALS) {
    atomic_store_explicit(&barrier->rest, rest - 1, memory_order_relaxed);
    return PHASE_GOES_ON;
  }
  long long took_ns = 0;
  enum phase phase = look_for(cells, arrived_in, trial == 0 ? WAKE_NS : SPIN_NS, &took_ns);
  /* A long trial says only that the other process is awake now. */
  if (phase != PHASE_GOES_ON && took_ns > SPIN_NS) return phase;
  unsigned pause = 0;
  if (phase == PHASE_GOES_ON) {
    pause = 2 * atomic_load_explicit(&barrier->pause, memory_order_relaxed) + 1;
    if (pause > SPIN_PAUSE_MAX) pause = SPIN_PAUSE_MAX;
  }
  atomic_store_explicit(&barrier->pause, pause, memory_order_relaxed);
  atomic_store_explicit(&barrier->rest, pause, memory_order_relaxed);
  return phase;
}

/* Sleeps until the phase is over or taken. Returns PHASE_GOES_ON if that takes too long. */
static enum phase doze(const struct cells *cells, uint32_t arrived_in, struct barrier_wait *wait) {
  atomic_store_explicit(mark_of(cells), (uint16_t)arrived_in, memory_order_release);
  wait->is_marked = 1;
  long long end = -1; /* not known: mostly the clock need not be read */
  if (wait->deadline_ns >= 0) {
    end = now_ns() + CELL_SLEEP_MAX_NS;
    if (wait->deadline_ns < end) end = wait->deadline_ns;
  }
  uint64_t word = atomic_load(word_of(cells));
  for (int is_late = 0;;) {
    enum phase phase = look(cells, arrived_in, word);
    if (phase != PHASE_GOES_ON || is_late) return phase;
    /* In the word itself: who completes the phase cannot miss it. */
    if ((word & SLEEPERS) == 0 && !atomic_compare_exchange_weak(word_of(cells), &word, word | SLEEPERS)) continue;
    long long left = end < 0 ? CELL_SLEEP_MAX_NS : end - now_ns();
    is_late = left <= 0 || (word_sleep(low_of(cells), arrived_in, left) != 0 && errno == ETIMEDOUT);
    word = atomic_load(word_of(cells));
    /* A signal, for example. */
    if (end < 0 && (uint32_t)word == arrived_in) end = now_ns() + CELL_SLEEP_MAX_NS;
  }
}

static enum barrier_by_cell pass(struct barrier_cell *barrier, struct cells *cells, struct barrier_wait *wait) {
  uint64_t word = arrive(cells);
  if ((word & WIRE_BARRIER_GIVEN) == 0) return BARRIER_IS_ARBITERS;
  wait->processes = members_of(word);
  if ((word >> 32 & COUNT_MASK) + 1 >= wait->processes) {
    if ((word & SLEEPERS) != 0) word_wake(low_of(cells), INT32_MAX);
    return BARRIER_PASSED;
  }
  uint32_t arrived_in = (uint32_t)word;
  enum phase phase = PHASE_GOES_ON;
  /* If another thread leaves the session, this process is not waited for any more. */
  if (cells_are_usable(cells)) {
    phase = spin(barrier, cells, arrived_in);
    if (phase == PHASE_GOES_ON) phase = doze(cells, arrived_in, wait);
  }
  if (phase == PHASE_GOES_ON) phase = withdraw(cells, arrived_in);
  return phase == PHASE_IS_OVER ? BARRIER_PASSED : BARRIER_IS_ARBITERS;
}

enum barrier_by_cell barrier_cell_wait(struct barrier_cell *barrier, struct cells *cells, struct barrier_wait *wait) {
  if (!cells_are_usable(cells) || cells_arbiter_is_gone(cells)) return BARRIER_IS_ARBITERS;
  if (atomic_exchange(&barrier->is_inside, 1) != 0) return BARRIER_IS_BUSY;
  enum barrier_by_cell result = pass(barrier, cells, wait);
  atomic_store_explicit(&barrier->is_inside, 0, memory_order_release);
  return result;
}

void barrier_cell_end(const struct cells *cells, const struct barrier_wait *wait) {
  if (wait->is_marked) atomic_store_explicit(mark_of(cells), 0, memory_order_release);
}
