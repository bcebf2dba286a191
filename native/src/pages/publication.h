/* Publication: the changes of private pages, sent to the arbiter as one entry.
 *
 * The runs of a large one are assembled in one part of the staging area while the arbiter takes the other parts, in
 * order. A part is free again when the arbiter has answered TAKEN. A small one that no process has to wait for is put into
 * the ring of the node (ring.h), and into the map at once. In direct mode nothing is sent: the changes are copied into the
 * map, which all processes share.
 *
 * All functions are handler-safe; the caller holds the lock of the pages. */
#ifndef DSM_PUBLICATION_H
#define DSM_PUBLICATION_H

#include "pages/state.h"
#include "pages/runs.h"

/* A request that is sent together with the end of a publication: its entry comes right after. It has been claimed. */
struct following_request {
  struct link_call *call;
  struct wire_header *header; /* gets a tag of its own */
  const void *body;
  size_t body_size;
};

struct publication {
  struct pages *pages;
  const struct following_request *following; /* on the same channel; NULL: none */
  int may_queue; /* it may go through the ring of the node: then it is in the map, but not in the log, when it has ended */
  int slot; /* of the channel; -1: none is claimed yet */
  int fd;
  int failed;
  uint32_t untaken; /* parts announced to the arbiter and not taken yet: fewer than all of them while runs are added */
  struct run_writer writer;
};

#pragma GCC visibility push(hidden)

/* Begins a publication on the channel of the request that follows (NULL: none follows; then it claims a channel when it
 * needs one). */
void publication_begin(struct pages *pages, struct publication *publication, const struct following_request *following);

/* Adds the bytes that differ between shadow and twin in [from, to), and those that captured stores wrote there. Returns
 * the size of the runs that it has added for them, in bytes; 0 in direct mode. */
uint32_t publication_add(struct publication *publication, uint64_t from, uint64_t to);

/* Adds the bytes at [offset, offset + length), whatever the map holds there. Not in direct mode. */
void publication_add_bytes(struct publication *publication, uint64_t offset, const uint8_t *bytes, uint64_t length);

/* Sends the last part, which may be empty, and the request that follows; waits for the answer to the publication, but
 * not for that to the request. One that may be queued, and is small, is neither sent nor waited for. Returns a status
 * without a reason. */
int publication_end(struct publication *publication);

#pragma GCC visibility pop

#endif
