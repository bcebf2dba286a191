/* Holes: ranges whose writes stay private to this process until they are filled.
 *
 * The first write opens a page that lies wholly in a hole: its shadow is mapped read-write, and further writes do not
 * trap. A page that a hole covers only in part (an edge) has its shadow mapped read-only from the start: stores inside
 * the hole go into the shadow, those outside are ordered as usual, and the arbiter keeps the bytes of the shadow
 * outside the hole current.
 *
 * In direct mode hole_dig makes the whole pages of a hole read-only, so that they can be opened as above; its edges are
 * not private. Filling copies the changes into the map. */
#ifndef DSM_HOLE_H
#define DSM_HOLE_H

#include <stddef.h>

#include "pages/state.h"

#pragma GCC visibility push(hidden)

/* Digs a hole; *id is its number. Returns a status and keeps its reason. */
int hole_dig(struct pages *pages, void *address, size_t size, int *id);

/* Publishes the changes in the hole as one log entry and maps the replica again. Returns a status and keeps its
 * reason. */
int hole_fill(struct pages *pages, int id);

/* Opens a page of a hole, and following pages if the process writes sequentially. Returns 0, or -1 with errno. The
 * caller holds the lock of the pages. handler-safe. */
int hole_open_pages(struct pages *pages, const struct hole *hole, uint64_t offset);

#pragma GCC visibility pop

#endif
