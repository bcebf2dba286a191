/* Which bytes of the map lie in which hole. The caller holds the lock of the pages. */
#ifndef DSM_HOLE_TABLE_H
#define DSM_HOLE_TABLE_H

#include "pages/state.h"

#pragma GCC visibility push(hidden)

/* Returns the hole that has this byte, or NULL. A hole that is being filled has none. */
struct hole *hole_at(struct pages *pages, uint64_t offset);

/* Returns whether an open hole other than `except` (NULL: any) has private bytes in this page. */
int hole_in_page(struct pages *pages, const struct hole *except, uint64_t page_offset);

/* Returns the parts of a hole that cover a page only partly: at most two, [0] before and [1] behind its whole pages. */
int hole_edges(const struct hole *hole, uint64_t parts[2][2]);

#pragma GCC visibility pop

/* The private bytes of a hole. Of one dug in direct mode these are its whole pages, also when direct mode is over. */

static inline uint64_t hole_private_from(const struct hole *hole) {
  return hole->whole_pages ? hole->inner_from : hole->from;
}

static inline uint64_t hole_private_to(const struct hole *hole) {
  return hole->whole_pages ? hole->inner_to : hole->to;
}

/* Whether the byte lies in one of the hole's whole pages. */
static inline int hole_is_inner(const struct hole *hole, uint64_t offset) {
  return offset >= hole->inner_from && offset < hole->inner_to;
}

#endif
