/* Holes: ranges whose writes stay private to this process until they are filled.
 *
 * A page that lies in a hole as a whole is opened at its first write: the process gets a shadow mapped read-write, and
 * writes cost nothing from then on. A page that a hole covers only in part (an edge) has its shadow mapped read-only from
 * the start: stores inside the hole go into the shadow, those outside are ordered as ever, and the arbiter keeps the
 * shadow's bytes outside the hole current.
 *
 * In direct mode a hole's whole pages are made read-only when it is dug, so that they can be opened as above; its edges
 * are not private. Filling copies what changed into the map. */
#ifndef DSM_HOLE_H
#define DSM_HOLE_H

#include <stddef.h>

#include "pages/state.h"

#pragma GCC visibility push(hidden)

/* Digs a hole; *id is its number. A status, with its words kept. */
int hole_dig(struct pages *pages, void *address, size_t size, int *id);

/* Publishes what was written to the hole as one entry and puts the replica back. A status, with its words kept. */
int hole_fill(struct pages *pages, int id);

/* Opens the page of a hole, and pages behind it if the process writes one after the other. 0, or -1 with errno. The
 * caller holds the lock of the pages. handler-safe. */
int hole_open_pages(struct pages *pages, const struct hole *hole, uint64_t offset);

#pragma GCC visibility pop

#endif
