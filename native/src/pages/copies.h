/* Copies: the memory behind the private pages of a session.
 *
 * A private page has a shadow (which the process reads and writes) and a twin (the initial bytes of the shadow).
 * Bitmaps record which pages have them. The caller holds the lock of the pages, unless stated otherwise. */
#ifndef DSM_COPIES_H
#define DSM_COPIES_H

#include "pages/state.h"

/* Most pages opened by one fault when a process writes one page after the other. */
#define PAGES_RUN_MAX 64u
/* Every run of opened pages is a mapping, and the kernel allows a process 65,530 of them. After this many openings,
 * whole chunks are opened, whose mappings merge. */
#define OPENINGS_MAX 8192u
#define CHUNK_PAGES 512u

#pragma GCC visibility push(hidden)

/* Maps shadow, twin, bitmaps and staging area, once per session. They take only address space until they are used.
 * Returns a status and keeps its reason. handler-safe. */
int copies_prepare(struct pages *pages);

/* Shows the handlers and the interposed calls which pages are open; after each change of the bitmap's place and of direct
 * mode. handler-safe. */
void copies_show_open(const struct pages *pages);

/* Unmaps all of it. */
void copies_free(struct pages *pages);

/* Makes private copies of the pages [first, end), and maps them in place with `protection`. Returns 0, or -1 with
 * errno. handler-safe. */
int copies_make(struct pages *pages, uint64_t first, uint64_t end, int protection);

/* Frees the memory kept by filled holes above the limit, that of pages outside [first, end) first. */
void copies_limit_kept(struct pages *pages, uint64_t first, uint64_t end);

void set_backed(struct pages *pages, uint64_t page, int backed);

/* Returns how many pages to prepare for a write to `page`: twice as many each time for sequential writes. */
uint32_t pages_next_run(const struct pages *pages, uint64_t page);

#pragma GCC visibility pop

/* Returns whether the process writes to the shadow of the page without a trap. */

static inline int is_open(const struct pages *pages, uint64_t page) {
  return (pages->copies.opened[page / 64] >> (page % 64)) & 1;
}

/* Returns whether the page is private to this process under release, open or not; it lies in no hole. */
static inline int is_detached(const struct pages *pages, uint64_t page) {
  return (pages->copies.detached[page / 64] >> (page % 64)) & 1;
}

/* Returns whether shadow and twin of the page have memory. */
static inline int is_backed(const struct pages *pages, uint64_t page) {
  return (pages->copies.backed[page / 64] >> (page % 64)) & 1;
}

static inline void set_bits(uint64_t *bits, uint64_t first, uint64_t end) {
  for (uint64_t page = first; page < end; page++) bits[page / 64] |= 1ull << (page % 64);
}

#endif
