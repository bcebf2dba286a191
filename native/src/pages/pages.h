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

/* The program is about to store to all of these bytes, by this instruction: opens pages as for a store that traps, whole
 * ones at once. Returns how many bytes, from the first one on, lie in open pages; or, negative, how many are to be stored
 * as one captured store. If the arbiter is gone under release, the first number is all of them: the store itself traps,
 * and pages_fault() says so. handler-safe. */
int64_t pages_open(struct pages *pages, uint64_t offset, uint64_t length, uintptr_t instruction);

/* Publishes a large store to pages that are not private as one entry, through the staging area. Returns 0, or -1 if the
 * arbiter is gone, or one of the numbers above 0: nothing is published. The caller has blocked all signals. */
enum {
  PAGES_NO_STAGING = 1, /* there is no such area */
  PAGES_HOLE = 2, /* another thread has dug a hole there since the caller looked: to pages_store() with it */
};
int pages_publish(struct pages *pages, const struct dsm_run *run);

/* A store, or an atomic operation, that lies in no hole is under way until it has its place in the order, or is in the
 * ring. A hole is dug when none is: else its pages would be copied without a store that its own thread has made before.
 * The caller takes no lock of the pages meanwhile. handler-safe. */
void pages_store_begins(struct pages *pages);
void pages_store_ended(struct pages *pages);

/* A store of several runs, and its progress. */
struct store_progress {
  const struct dsm_run *runs; /* the first one that is not done */
  uint32_t count; /* of those */
  uint32_t done; /* bytes of the first one */
};

/* Continues the store: writes the parts in private pages into the shadow, and puts the others into `rest`, at most
 * `room`. Returns their number; if it is above 0, they are under way. Or -1 with errno if no page can be mapped.
 * handler-safe. */
int pages_store(struct pages *pages, struct store_progress *store, struct dsm_run *rest, uint32_t room);

/* Executes an atomic operation on bytes in a hole, for this process alone. Returns 1: done; 0: not in a hole, and under
 * way; -1: across the edge of one; -2: no page can be mapped. handler-safe. */
int pages_atomic(struct pages *pages, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                 const void *compare, void *old);

/* Ends direct mode: when this returns, threads of the process write to holes only, and a later store to the map traps.
 * Does nothing if direct mode has ended already. Terminates the process if the kernel refuses. */
void pages_close_direct(struct pages *pages);

/* Maps the replica everywhere again and unmaps the copies; unfilled holes are discarded. */
void pages_drop(struct pages *pages);

#pragma GCC visibility pop

#endif
