/* The ring in which the processes of a node queue stores (`pipelined`) and small publications (`release`). The arbiter's
 * end and the invariants are in src/core/replica/store-ring.ts, the layout in link/wire.h.
 *
 * A store takes the ring's lock, writes its record (the frame that will be ordered, and the bytes that were there
 * before), moves the tail, writes the bytes into the map through an alias, and gives the lock back. From then on all
 * processes of the node see it. A process that dies in between has stored either all or nothing: the arbiter completes
 * what lies before the tail, and ignores what lies behind it. */
#ifndef DSM_RING_H
#define DSM_RING_H

#include <stdatomic.h>
#include <stdint.h>

#include "link/arbiter_link.h"
#include "trap/sink.h"

struct ring {
  struct arbiter_link *link;
  uint8_t *header; /* NULL: the session has none */
  uint8_t *data;
  uint8_t *alias; /* the map, writable */
  uint32_t number; /* the value of the lock word while this process holds it */
  int alive_fd; /* holds the lock on the map's file that says this process may store */
  _Atomic long long looked_ns; /* time of the last check that the arbiter is alive */
};

#pragma GCC visibility push(hidden)

/* Maps the ring and the alias of a session; `map_path` is the file of its map. Returns a status and keeps its
 * reason. */
int ring_open(struct ring *ring, struct arbiter_link *link, const char *map_path);
void ring_close(struct ring *ring);
/* Closes the liveness lock in a forked child, which must not store: otherwise the arbiter would take its dead parent
 * for alive. */
void ring_forked(struct ring *ring);

/* Queues the runs as one log entry. Returns 1 if done; 0 if they must be published instead, because they are too large
 * for the ring, or because this node has edge pages that only the arbiter can update; -1 if the arbiter is gone.
 * handler-safe. */
int ring_store(struct ring *ring, const struct dsm_run *runs, uint32_t count);

/* Queues `size` bytes of runs (runs.h) as one log entry. Returns what ring_store() does, but does not wait for room: 0 also
 * if there is none now. handler-safe. */
int ring_publish(struct ring *ring, const uint8_t *runs, uint32_t size);

/* Does what ring_store() does for one run, but waits for no room, and does not wake the arbiter: ring_wake() is to follow.
 * handler-safe. */
int ring_store_quietly(struct ring *ring, const struct dsm_run *run);

/* Wakes the arbiter if it sleeps and something is queued. handler-safe. */
void ring_wake(struct ring *ring);

/* Returns whether all that this node has queued is in the log, and applied on this node. handler-safe. */
int ring_is_empty(const struct ring *ring);

#pragma GCC visibility pop

#endif
