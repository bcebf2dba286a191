/* Hole table: maps bytes to holes. The caller holds the lock of the pages. */
#ifndef DSM_HOLE_TABLE_H
#define DSM_HOLE_TABLE_H

#include "pages/state.h"

#pragma GCC visibility push(hidden)

/* Returns the hole that contains this byte, or NULL. A hole that is being filled contains none. */
struct hole *hole_at(struct pages *pages, uint64_t offset);

/* Returns whether a byte of [from, to) is private to a hole other than `except`. */
int hole_in_range(struct pages *pages, const struct hole *except, uint64_t from, uint64_t to);

/* Returns whether an open hole other than `except` (NULL: any) has private bytes in this page. */
int hole_in_page(struct pages *pages, const struct hole *except, uint64_t page_offset);

/* Returns the parts of a hole that cover a page only partly: at most two, [0] before and [1] behind its whole pages. */
int hole_edges(const struct hole *hole, uint64_t parts[2][2]);

#pragma GCC visibility pop

/* Return the bounds of the private bytes of a hole. For a hole dug in direct mode these are its whole pages, also after
 * direct mode has ended. */

static inline uint64_t hole_private_from(const struct hole *hole) {
  return hole->whole_pages ? hole->inner_from : hole->from;
}

static inline uint64_t hole_private_to(const struct hole *hole) {
  return hole->whole_pages ? hole->inner_to : hole->to;
}

/* Returns whether the byte lies in a whole page of the hole. */
static inline int hole_is_inner(const struct hole *hole, uint64_t offset) {
  return offset >= hole->inner_from && offset < hole->inner_to;
}

#endif
