#include "pages/hole_table.h"

#include <stddef.h>

struct hole *hole_at(struct pages *pages, uint64_t offset) {
  for (int i = 0; i < DSM_HOLES_MAX; i++)
    if (pages->holes[i].id != 0 && !pages->holes[i].filling && offset >= hole_private_from(&pages->holes[i]) &&
        offset < hole_private_to(&pages->holes[i]))
      return &pages->holes[i];
  return NULL;
}

int hole_in_range(struct pages *pages, const struct hole *except, uint64_t from, uint64_t to) {
  for (int i = 0; i < DSM_HOLES_MAX; i++) {
    const struct hole *hole = &pages->holes[i];
    if (hole != except && hole->id != 0 && hole_private_from(hole) < hole_private_to(hole) &&
        hole_private_from(hole) < to && hole_private_to(hole) > from)
      return 1;
  }
  return 0;
}

int hole_in_page(struct pages *pages, const struct hole *except, uint64_t page_offset) {
  return hole_in_range(pages, except, page_offset, page_offset + PAGE_BYTES);
}

int hole_edges(const struct hole *hole, uint64_t parts[2][2]) {
  int count = 0;
  if (hole->whole_pages) return 0;
  uint64_t head_end = hole->inner_from < hole->inner_to ? hole->inner_from : hole->to;
  if (hole->inner_from < hole->inner_to || PAGE_FLOOR(hole->from) == PAGE_FLOOR(hole->to - 1)) {
    if (hole->from < head_end) {
      parts[count][0] = hole->from;
      parts[count++][1] = head_end;
    }
    if (hole->inner_from < hole->inner_to && hole->inner_to < hole->to) {
      parts[count][0] = hole->inner_to;
      parts[count++][1] = hole->to;
    }
  } else {
    /* The hole covers parts of two pages. */
    uint64_t boundary = PAGE_CEIL(hole->from);
    parts[count][0] = hole->from;
    parts[count++][1] = boundary;
    parts[count][0] = boundary;
    parts[count++][1] = hole->to;
  }
  return count;
}
