/* Internals of the region table, for the fault handlers. handler-safe, except dsm_process_token_renew(). */
#ifndef DSM_REGION_ENTRY_H
#define DSM_REGION_ENTRY_H

#include <stddef.h>
#include <stdint.h>

#include "trap/sink.h"

#pragma GCC visibility push(hidden)

struct dsm_region {
  uintptr_t base;
  size_t size;
  uint32_t state; /* enum dsm_region_state, or DSM_REGION_ADDING */
  uint32_t late; /* enum dsm_late_stores */
  uint32_t inside; /* threads between dsm_region_enter and dsm_region_exit; a futex word */
  uint64_t owner; /* dsm_process_token() of the process that added it */
  const struct dsm_sink *sink;
  void *context;
  const uint64_t *open; /* dsm_region_show_open() */
} __attribute__((aligned(64)));

enum { DSM_REGION_ADDING = 3 };

/* Enters and returns the region of `address`, or NULL. dsm_region_leave and dsm_region_remove wait until it is
 * exited. */
struct dsm_region *dsm_region_enter(uintptr_t address);
void dsm_region_exit(struct dsm_region *region);

/* Enters and returns the active region of this process that is nearest to `address`, which lies in none: at most
 * `behind` bytes behind its end, or `before` bytes before its beginning. NULL: there is none. */
struct dsm_region *dsm_region_enter_near(uintptr_t address, uintptr_t behind, uintptr_t before);

/* Where the token of this process is; NULL: it has none yet. */
extern uint64_t *dsm_token_page;
/* Gives this process a token if it has none. Returns 1 for a new token, 0 if it had one, -1 with errno. Not
 * handler-safe. */
int dsm_process_token_renew(void);

#pragma GCC visibility pop

/* Not zero, and different in parent and child after a fork: 0 in a child until it adds a region of its own. */
static inline uint64_t dsm_process_token(void) {
  return dsm_token_page != NULL ? __atomic_load_n(dsm_token_page, __ATOMIC_RELAXED) : 0;
}

#endif
