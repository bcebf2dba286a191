/* Copies: the memory behind the private pages of a session.
 *
 * A private page has a shadow (what the process reads and writes) and a twin (the bytes that the shadow began with). Bits
 * say which pages have them. The caller holds the lock of the pages, unless it says otherwise. */
#ifndef DSM_COPIES_H
#define DSM_COPIES_H

#include "pages/state.h"

/* Most pages opened by one fault when a process writes one page after the other. */
#define PAGES_RUN_MAX 64u
/* Every run of opened pages is a mapping, and the kernel allows a process 65,530 of them. A process that has opened this
 * many is given whole chunks from then on, which merge. */
#define OPENINGS_MAX 8192u
#define CHUNK_PAGES 512u

#pragma GCC visibility push(hidden)

/* Maps shadow, twin, bits and staging area, once per session. Costs address space until it is used. A status, with its
 * words kept. */
int copies_prepare(struct pages *pages);

/* Unmaps all of it. */
void copies_free(struct pages *pages);

/* Gives this process copies of the pages [first, end), mapped in their place with `protection`. 0, or -1 with errno.
 * handler-safe. */
int copies_make(struct pages *pages, uint64_t first, uint64_t end, int protection);

/* Drops memory that filled holes keep, if it is more than the limit; that of pages outside [first, end) goes first. */
void copies_limit_kept(struct pages *pages, uint64_t first, uint64_t end);

void set_backed(struct pages *pages, uint64_t page, int backed);

/* Returns how many pages to prepare for a write to `page`: more each time while a process writes one after the other. */
uint32_t pages_next_run(const struct pages *pages, uint64_t page);

#pragma GCC visibility pop

/* The process writes to its shadow without a trap. */

static inline int is_open(const struct pages *pages, uint64_t page) {
  return (pages->copies.opened[page / 64] >> (page % 64)) & 1;
}

/* Under release: the page lies in no hole and is this process's own, open or not. */
static inline int is_detached(const struct pages *pages, uint64_t page) {
  return (pages->copies.detached[page / 64] >> (page % 64)) & 1;
}

/* Shadow and twin have memory. */
static inline int is_backed(const struct pages *pages, uint64_t page) {
  return (pages->copies.backed[page / 64] >> (page % 64)) & 1;
}

static inline void set_bits(uint64_t *bits, uint64_t first, uint64_t end) {
  for (uint64_t page = first; page < end; page++) bits[page / 64] |= 1ull << (page % 64);
}

#endif
