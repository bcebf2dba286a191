/* Pages: record which bytes of the map are private to this process, and handle stores there.
 *
 * Holes (hole.h) are private until they are filled; under `release` every page is, until the next synchronising
 * operation (release.h). Twin and diff are those of Munin (Carter, Bennett and Zwaenepoel, SOSP 1991). README.md shows
 * the states.
 *
 * Invariant: outside of dig and fill, every page of the map is mapped from the replica, read-only (in direct mode
 * read-write, but in holes), except opened pages (shadow, read-write), detached pages and edge pages (shadow,
 * read-only). */
#ifndef DSM_PAGES_STATE_H
#define DSM_PAGES_STATE_H

#include <stdatomic.h>
#include <stdint.h>

#include "link/arbiter_link.h"
#include "trap/sink.h"

#define PAGE_FLOOR(offset) ((offset) & ~(uint64_t)(PAGE_BYTES - 1))
#define PAGE_CEIL(offset) PAGE_FLOOR((offset) + PAGE_BYTES - 1)

struct hole {
  int id; /* 0: unused */
  uint64_t from, to;             /* bytes of the map */
  uint64_t inner_from, inner_to; /* its whole pages; equal if it has none */
  int filling;
  int whole_pages; /* dug in direct mode: only its whole pages are private */
};

/* The memory of private pages (copies.h). It is created with the first hole, or with the session under release. */
struct page_copies {
  int file; /* anonymous file as large as the map, or larger; -1 until it is made */
  int is_lent; /* the file is the arbiter's, which maps it too: then the staging area lies behind the map's size */
  uint8_t *shadow; /* read-write alias of the file */
  uint8_t *twin;
  uint64_t *opened; /* a bit a page */
  uint64_t *detached; /* a bit a page; under release: private pages outside holes, opened or not */
  uint64_t *backed; /* a bit a page: shadow and twin have memory, used or kept for the next hole */
  uint64_t backed_pages; /* how many bits are set */
  uint8_t *alias; /* the map at another place; in direct mode writable where a hole has its pages closed */
  uint8_t *staging; /* WIRE_STAGING_SIZE bytes in which the parts of a publication are put together. The arbiter takes
                            them from there if the file is lent; else they are sent to it */
};

/* Which pages the process fills in each interval (history.h). */
#define WRITERS_MAX 256u
struct page_history {
  struct page_record {
    uint32_t interval; /* in which it was last filled; 0: never */
    uint16_t writer; /* marks the instruction that filled it then */
    uint16_t opener; /* marks the instruction for which it is open now */
    uint8_t times; /* filled in a row, by that instruction each time; at most FILLED_TO_FOLLOW */
  } *pages; /* one for each page of the map */
  uint32_t interval; /* the present one, from 1 */
  uintptr_t writers[WRITERS_MAX]; /* instructions that fill pages, each at the place of its address */
};

/* The order release (release.h). */
struct release_state {
  atomic_int is_on; /* written under the lock, read without */
  atomic_int any_private; /* whether a page is detached; written under the lock, read without */
  uint64_t private_first, private_end; /* between which all detached pages lie; 0 and 0: there are none */
  uint8_t *stores; /* captured stores to each detached page, at most STORES_TO_OPEN; 0 on the others */
  atomic_int in_section; /* the process has taken a lock, and has not synchronised since */
  atomic_uint section; /* how many times it has */
  struct queued_stores {
    uint32_t section; /* in which the count was made */
    uint32_t count;
  } *queued; /* stores to each page of the map that were queued */
  uint8_t *written; /* a bit a byte of the map: what those stores wrote (written.h); NULL under other orders */
  const uint8_t *atomics; /* a byte a page, written by the arbiter: not 0 once an atomic operation was executed there */
  struct page_history history;
  uint64_t expected; /* the page that the next captured store to it opens; UINT64_MAX: none */
  uintptr_t expected_by; /* the instruction that makes that store */
};

/* The number of pages to open at once: sequential writers get more. */
struct open_policy {
  uint64_t last_opened; /* the page */
  uint32_t run_of_pages;
  uint32_t openings; /* since the process last had no private page */
};

struct pages {
  struct arbiter_link *link;
  struct ring *ring; /* in which small publications are queued; NULL: none is */
  atomic_uint lock; /* lock.h */
  atomic_int count; /* open holes, and one under release: 0 makes every check free */
  atomic_uint under_way; /* stores and atomics that were found to lie in no hole, and have no place in the order yet */
  atomic_int awaited; /* whether a thread waits until none is under way */
  int next_id;
  struct hole *holes; /* DSM_HOLES_MAX of them, or NULL */
  struct page_copies copies;
  struct release_state release;
  struct open_policy policy;
};

#endif
