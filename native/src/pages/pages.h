/* Interface of the pages to the fault handlers and the session: private stores, and the end of direct mode. */
#ifndef DSM_PAGES_H
#define DSM_PAGES_H

#include <stdint.h>

#include "pages/state.h"
#include "trap/sink.h"

#pragma GCC visibility push(hidden)

void pages_init(struct pages *pages, struct arbiter_link *link);

/* Handles a fault of a store by this instruction. Returns 1 if the page is now writable (retry the instruction), 0 if
 * the store must be captured, -1 if the arbiter is gone (release only). handler-safe. */
int pages_fault(struct pages *pages, uintptr_t address, int atomic, uintptr_t instruction);

/* A store of several runs, and its progress. */
struct store_progress {
  const struct dsm_run *runs; /* the first one that is not done */
  uint32_t count; /* of those */
  uint32_t done; /* bytes of the first one */
};

/* Continues the store: writes the parts in private pages into the shadow, and puts the others into `rest`, at most
 * `room`. Returns their number, or -1 with errno if no page can be mapped. handler-safe. */
int pages_store(struct pages *pages, struct store_progress *store, struct dsm_run *rest, uint32_t room);

/* Executes an atomic operation on bytes in a hole, for this process alone. Returns 1: done; 0: not in a hole; -1:
 * across the edge of one; -2: no page can be mapped. handler-safe. */
int pages_atomic(struct pages *pages, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                 const void *compare, void *old);

/* Ends direct mode: when this returns, threads of the process write to holes only, and a later store to the map traps.
 * Does nothing if direct mode has ended already. Terminates the process if the kernel refuses. */
void pages_close_direct(struct pages *pages);

/* Maps the replica everywhere again and unmaps the copies; unfilled holes are discarded. */
void pages_drop(struct pages *pages);

#pragma GCC visibility pop

#endif
