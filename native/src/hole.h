/* Holes: regions whose writes stay private to this process until they are filled.
 *
 * A page that lies in a hole as a whole is opened at its first write: the process gets a copy of it (its shadow) mapped
 * read-write at the page's place, and a twin remembers what the copy began with. From then on writes cost nothing.
 *
 * A page that a hole covers only in part has its shadow mapped read-only from the start. Writes trap: those inside the
 * hole go into the shadow, those outside are ordered as ever. The arbiter keeps the shadow's bytes outside the hole
 * current, between one entry and the next, so this process still sees the order there.
 *
 * Under `release` the whole map is such a region all the time: a store makes its page this process's own, and each
 * synchronising operation publishes what changed on these pages as one entry and gives them back. The page is mapped
 * read-only at first and stores there are captured; only when it has had several, or follows one that is open, is it
 * opened. So an atomic operation beside a few plainly stored words traps, publishes them and is ordered. What captured
 * stores wrote is published whole (written.h), what was written to an open page by comparing: only there two processes that
 * store to one word at the same time may each publish a part of it. A page on which any process has executed an atomic operation is never opened again: its stores are captured and published one by
 * one. (An atomic operation on a page that is open just then stays private until the next synchronising operation.)
 *
 * In direct mode the map is shared read-write. A hole's whole pages are closed to writes when it is dug, so that they
 * can be opened as above, and filling copies what changed into the map; its edges are not private. When direct mode ends
 * (hole_end_direct) all other pages are closed, too, and filling publishes what changed on the hole's whole pages.
 *
 * Filling compares shadow and twin and publishes the bytes that differ as one entry; then the replica takes the
 * shadow's place again; shadow and twin keep their memory for the next hole, up to a limit. The runs of a large
 * publication are put into a staging area that the arbiter maps too, half of it at a time: one half is filled while the
 * arbiter takes the other. Twin and diff are those of Munin (Carter, Bennett and Zwaenepoel, SOSP 1991).
 *
 * Invariant: outside of dig and fill, every page of the map is mapped from the replica, read-only (in direct mode
 * read-write, but in holes), except opened pages (shadow, read-write), loose pages and edge pages (shadow, read-only). */
#ifndef DSM_HOLE_H
#define DSM_HOLE_H

#include <stdatomic.h>
#include <stdint.h>

#include "../include/dsm/dsm.h"
#include "region.h"

struct hole {
  int id; /* 0: unused */
  uint64_t from, to;             /* bytes of the map */
  uint64_t inner_from, inner_to; /* its whole pages; equal if it has none */
  int filling;
  int whole_pages; /* dug in direct mode: only its whole pages are private */
};

struct hole_table {
  atomic_uint lock; /* futex lock, taken with all signals blocked */
  atomic_int count; /* open holes: 0 makes every check free */
  int next_id;
  int shadow_fd;    /* anonymous file as large as the map, or larger, -1 until the first hole */
  int lent;         /* it is the arbiter's, which maps it too: then the staging area lies behind the map's size */
  uint8_t *shadow;  /* read-write alias of it */
  uint8_t *twin;
  uint64_t *opened; /* a bit a page */
  uint64_t *loose;  /* under release: pages in no hole that are this process's own, opened or not */
  uint8_t *stores;  /* stores captured on each loose page, at most STORES_TO_OPEN; 0 on the others */
  uint8_t *written; /* under release, a bit a byte of the map: what those stores wrote (written.h); none elsewhere */
  atomic_int releases; /* the order is release: pages outside holes open too. Written under the lock, asked without */
  uint8_t *staging; /* WIRE_STAGING_SIZE bytes in which the parts of a publication are put together. The arbiter takes them
                       from there if the memory is lent; else they are sent to it */
  uint64_t *backed; /* a bit a page: its shadow and twin have memory, and if no hole has it, they only keep it */
  uint64_t backed_pages; /* how many bits are set */
  uint8_t *alias;   /* the map at another place; in direct mode writable where a hole has its pages closed */
  const uint8_t *atomics; /* a byte a page, written by the arbiter: not 0 once an atomic operation was executed there */
  uint64_t last_opened;  /* page opened last, and how many were opened at once: sequential writers get more at once */
  uint32_t run_of_pages;
  uint32_t openings; /* since there was no hole */
  struct hole *holes; /* DSM_HOLES_MAX of them, made with the shadow */
};

#pragma GCC visibility push(hidden)

void hole_table_init(struct hole_table *table);

/* Prepares a session of the order release, which in direct mode begins to be one when that ends. A status. */
int hole_begin_release(dsm_session *session);

/* Under release: publishes what this process has changed since the last time, and closes its pages. 0, or -1: the
 * arbiter is gone. handler-safe, for a caller that has blocked all signals. */
int hole_release(dsm_session *session);

/* Direct mode is over: when this returns no thread of the process writes to the map any more but to its holes, and what is
 * stored from then on traps. Nothing if it is over already. Ends the process if the kernel refuses. */
void hole_end_direct(dsm_session *session);

/* Unmaps what the holes used and puts the replica back everywhere; unfilled holes vanish. */
void hole_drop_all(dsm_session *session);

/* 1 if `address` is in a page that is now open for writing; 0 if the store there is to be captured; -1: under release,
 * and the arbiter is gone. handler-safe. */
int hole_fault(dsm_session *session, uintptr_t address, int atomic);

/* A store of several runs, and how far it has got. */
struct hole_store {
  const struct dsm_run *runs; /* the first one that is not done */
  uint32_t count;             /* of those */
  uint32_t done;              /* bytes of the first one */
};

/* Goes on with the store: writes the parts that lie in holes into the shadow, and leaves the others in `rest`, at most
 * `room`. Returns how many are left there, or -1 with errno: no page can be mapped. handler-safe. */
int hole_store(dsm_session *session, struct hole_store *store, struct dsm_run *rest, uint32_t room);

/* Executes an atomic operation on bytes in a hole, for this process alone. 1: done; 0: not in a hole; -1: across the
 * edge of one; -2: no page can be mapped. handler-safe. */
int hole_atomic(dsm_session *session, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                const void *compare, void *old);

#pragma GCC visibility pop

#endif
