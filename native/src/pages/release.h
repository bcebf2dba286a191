/* Release: under this order each page that a process writes is its own until its next synchronising operation.
 *
 * A page outside all holes is *detached* by its first captured store: the process gets a copy, mapped read-only, and its
 * further stores are captured into it. After STORES_TO_OPEN of them, or if it follows a page that is open, it is opened
 * for writing. A synchronising operation publishes what changed and puts the replica back. A page on which any process
 * has executed an atomic operation is never detached again: an atomic beside a few plain stores must trap. */
#ifndef DSM_RELEASE_H
#define DSM_RELEASE_H

#include "pages/state.h"

/* Captured stores to a page after which it is opened. Structures with a lock or a counter in them are rarely stored to so
 * often between two synchronising operations; arrays are. */
#define STORES_TO_OPEN 16u

#pragma GCC visibility push(hidden)

/* Prepares a session of the order release; in direct mode the order begins when that ends. A status, with its words. */
int release_prepare(struct pages *pages);

/* From now on pages outside holes are detached. Lock held. */
void release_begin(struct pages *pages);

/* Returns whether a page outside all holes may be detached. Lock held, handler-safe. */
int may_detach(struct pages *pages, uint64_t page);

/* Gives the process its own copy of the page, which stays read-only: its stores are still captured. 0, or -1. Lock held,
 * handler-safe. */
int detach_page(struct pages *pages, uint64_t page);

/* A plain store meets a page that is not open. Returns whether it is open now. Pages ahead are only made ready, and trap
 * once more, until the process has filled so many in a row that it will surely fill the next ones too. Lock held,
 * handler-safe. */
int open_detached(struct pages *pages, uint64_t page);

/* Publishes the detached pages as one entry and puts the replica in their place. 0, or -1: the arbiter is gone. Lock
 * held, handler-safe. */
int release_locked(struct pages *pages);

/* The same, and takes the lock. The caller has blocked all signals. handler-safe. */
int release_publish(struct pages *pages);

/* The same for ordinary calls. A status, with its words kept. */
int release_stores(struct pages *pages);

#pragma GCC visibility pop

#endif
