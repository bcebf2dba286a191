/* Release: under this order each page that a process writes is private to it until its next synchronising operation.
 *
 * A page outside all holes is *detached* by its first captured store: the process gets a copy, mapped read-only, and
 * its further stores are captured into it. After STORES_TO_OPEN of them, or if it follows a page that is open, it is
 * opened for writing; one that the process filled the last time is opened with the first store (history.h). A
 * synchronising operation publishes the changes and maps the replica again. A page on which any
 * process has executed an atomic operation is never detached again: an atomic beside a few plain stores must trap. */
#ifndef DSM_RELEASE_H
#define DSM_RELEASE_H

#include "pages/state.h"

/* Captured stores to a page after which it is opened. Structures with a lock or a counter in them are rarely stored to
 * so often between two synchronising operations; arrays are. */
#define STORES_TO_OPEN 16u

#pragma GCC visibility push(hidden)

/* Prepares a session of the order release; in direct mode the order starts when that ends. Returns a status and keeps
 * its reason. */
int release_prepare(struct pages *pages);

/* Starts to detach pages outside holes. Lock held. */
void release_begin(struct pages *pages);

/* Returns whether a page outside all holes may be detached. Lock held, handler-safe. */
int may_detach(struct pages *pages, uint64_t page);

/* Makes a private copy of the page, which stays read-only: stores to it are still captured. Returns 0, or -1. Lock
 * held, handler-safe. */
int detach_page(struct pages *pages, uint64_t page);

/* Queues a captured store to a page that is not private, if the process is in a section and the store is one of the first
 * to the page there: making the page private would cost several times as much. Returns whether that is done. Lock held,
 * handler-safe. */
int queue_store(struct pages *pages, const struct dsm_run *run);

/* Opens the page, and the pages after it that were filled together with it, for a captured store that open_detached()
 * has announced: that store still goes into the copy as it was made. Returns 0, or -1. Lock held, handler-safe. */
int open_expected(struct pages *pages, uint64_t page);

/* Handles a plain store, by this instruction, to a page that is not open. Returns whether it is open now. Pages ahead
 * are only prepared, and trap once more, until the process has filled so many in a row that it is likely to fill the
 * next ones, too. Lock held, handler-safe. */
int open_detached(struct pages *pages, uint64_t page, uintptr_t instruction);

/* Opens the pages [first, end), which this instruction is about to overwrite, until one that may not be private. Returns
 * the end of those that are open. Lock held, handler-safe. */
uint64_t release_open_whole(struct pages *pages, uint64_t first, uint64_t end, uintptr_t instruction);

/* Publishes the detached pages as one log entry and maps the replica in their place. Then all processes of this node see
 * them; other nodes see them before any later request of a process of this node is answered, and before they get a lock
 * that a process of this node gives back. A small entry gets its place in the log later. Returns 0, or -1 if the arbiter is
 * gone. Lock held, handler-safe. */
int release_locked(struct pages *pages);

/* The process has taken a lock, or a reader-writer lock to write: until it synchronises again, its first stores to a page are queued as they are made. */
void release_begin_section(struct pages *pages);

/* The process has given back a lock without the arbiter: wakes that for what is queued. */
void release_end_section(struct pages *pages);

/* Returns whether the process has no private page that other threads made before this call: then there is nothing to
 * publish, and a page that becomes private from here on shows all that the replica has now. */
int release_is_clean(const struct pages *pages);

/* Does what release_locked() does, and takes the lock. The caller has blocked all signals. handler-safe. */
int release_publish(struct pages *pages);

/* Does what release_publish() does, for ordinary calls. Returns a status and keeps its reason. */
int release_stores(struct pages *pages);

/* Does what release_stores() and then link_request() do, but sends the request together with the changes, so that the
 * arbiter and the server have both at once: the request comes after the changes in the order. `abandoned` (may be NULL) as
 * in link_await(). */
int release_request(struct pages *pages, struct wire_header *header, const void *body, size_t body_size, int wait,
                    int timeout_ms, int *abandoned);

#pragma GCC visibility pop

#endif
