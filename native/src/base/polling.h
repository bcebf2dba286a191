/* Whether it pays to wait awake. After a wait that did not end awake the next ones sleep at once: one, then twice as many
 * after each further failure. */
#ifndef DSM_POLLING_H
#define DSM_POLLING_H

#include <stdatomic.h>

/* A hint that threads share without a lock. */
struct polling {
  atomic_uint pause; /* number of waits that sleep at once after the last failure; 0: the last polling succeeded */
  atomic_uint rest; /* of these, the number that remain */
};

/* Returns whether a wait that begins is to sleep at once, and counts it if so. */
static inline int polling_rests(struct polling *polling) {
  unsigned rest = atomic_load_explicit(&polling->rest, memory_order_relaxed);
  if (rest == 0) return 0;
  atomic_store_explicit(&polling->rest, rest - 1, memory_order_relaxed);
  return 1;
}

/* The wait was over before it slept. */
static inline void polling_succeeded(struct polling *polling) {
  atomic_store_explicit(&polling->pause, 0, memory_order_relaxed);
}

/* The wait must sleep after all. At most `pause_max` waits sleep at once. */
static inline void polling_failed(struct polling *polling, unsigned pause_max) {
  unsigned pause = atomic_load_explicit(&polling->pause, memory_order_relaxed);
  pause = pause == 0 ? 1 : pause < pause_max ? pause * 2 : pause_max;
  atomic_store_explicit(&polling->pause, pause, memory_order_relaxed);
  atomic_store_explicit(&polling->rest, pause, memory_order_relaxed);
}

#endif
