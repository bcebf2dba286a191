/* The lock of a session's pages: a futex word.
 *
 * The fault handlers take it, so a caller outside them blocks all signals first: no handler can interrupt the holder on
 * its own thread. */
#ifndef DSM_PAGES_LOCK_H
#define DSM_PAGES_LOCK_H

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pages/state.h"
#include "trap/signals.h"

static inline void pages_lock(struct pages *pages) {
  unsigned state = 0;
  if (atomic_compare_exchange_strong(&pages->lock, &state, 1)) return;
  while (atomic_exchange(&pages->lock, 2) != 0) syscall(SYS_futex, &pages->lock, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

static inline void pages_unlock(struct pages *pages) {
  if (atomic_exchange(&pages->lock, 0) == 2) syscall(SYS_futex, &pages->lock, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static inline void pages_lock_blocking_signals(struct pages *pages, uint64_t *before) {
  dsm_signals_block(before);
  pages_lock(pages);
}

static inline void pages_unlock_restoring_signals(struct pages *pages, const uint64_t *before) {
  pages_unlock(pages);
  dsm_signals_restore(before);
}

#endif
