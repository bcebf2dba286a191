/* The ring in which the processes of a node queue their stores, under the order `pipelined`. src/core/ring.ts is the
 * arbiter's end, and says what is kept; protocol.ts has the layout.
 *
 * A store takes the ring's lock, writes its record (the frame that will be ordered, and the bytes that were there
 * before), moves the tail, writes the bytes into the map through an alias, and gives the lock back. From then on all
 * processes of the node see it. Whoever dies in between has stored either all or nothing: the arbiter completes what lies
 * before the tail, and knows nothing of what lies behind it. */
#ifndef DSM_RING_H
#define DSM_RING_H

#include <stdatomic.h>
#include <stdint.h>

#include "../include/dsm/dsm.h"
#include "region.h"

struct ring {
  uint8_t *header; /* NULL: the session has none */
  uint8_t *data;
  uint8_t *alias;  /* the map, writable */
  uint32_t number; /* what this process calls itself in the lock */
  int alive_fd;    /* holds the lock on the map's file that says this process may store */
  _Atomic long long looked_ns; /* when it was last looked whether the arbiter is there */
};

#pragma GCC visibility push(hidden)

/* Maps the ring and the alias of a session, whose map is that file. A status, with its words. */
int ring_open(dsm_session *session, const char *map_path);
void ring_close(dsm_session *session);
/* In a forked child, which may not store: the arbiter must not take its parent's end for a pause. */
void ring_forked(dsm_session *session);

/* Queues the runs as one entry. 1: done. 0: too large for the ring, or this node has pages that only the order reaches:
 * to be published instead. -1: the arbiter is gone. handler-safe. */
int ring_store(dsm_session *session, const struct dsm_run *runs, uint32_t count);

#pragma GCC visibility pop

#endif
