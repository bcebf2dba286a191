/* Publication: the changes of private pages, sent to the arbiter as one entry.
 *
 * The runs of a large one are assembled in one part of the staging area while the arbiter takes the other parts, in
 * order. A part is free again when the arbiter has answered TAKEN. In direct mode nothing is sent: the changes are
 * copied into the map, which all processes share.
 *
 * All functions are handler-safe; the caller holds the lock of the pages. */
#ifndef DSM_PUBLICATION_H
#define DSM_PUBLICATION_H

#include "pages/state.h"
#include "pages/runs.h"

struct publication {
  struct pages *pages;
  int fd;
  int failed;
  uint32_t untaken; /* parts announced to the arbiter and not taken yet: fewer than all of them while runs are added */
  struct run_writer writer;
};

#pragma GCC visibility push(hidden)

/* Claims a channel. Returns its slot, or -1 in direct mode. */
int publication_begin(struct pages *pages, struct publication *publication);

/* Adds the bytes that differ between shadow and twin in [from, to), and those that captured stores wrote there. Returns
 * the size of the runs that it has added for them, in bytes; 0 in direct mode. */
uint32_t publication_add(struct publication *publication, uint64_t from, uint64_t to);

/* Sends the last part, which may be empty, and waits for the answer. Returns a status without a reason. */
int publication_end(struct publication *publication, int slot);

#pragma GCC visibility pop

#endif
