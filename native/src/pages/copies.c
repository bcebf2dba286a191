#define _GNU_SOURCE
#include "pages/copies.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/status.h"
#include "pages/copy.h"
#include "pages/history.h"
#include "pages/lent.h"
#include "pages/written.h"
#include "trap/region.h"

/* From this many pages on the memory is populated by one call: a fault for each page would cost more than the copy. */
#define POPULATE_PAGES_MIN 8u
/* The most pages whose copies keep their memory after a hole is filled, for the next hole: new memory costs several
 * times the work done in it. 64 MiB, for shadow and twin each. */
#define KEPT_PAGES_MAX 16384u

#define HOLES_BYTES (DSM_HOLES_MAX * sizeof(struct hole))

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

void set_backed(struct pages *pages, uint64_t page, int backed) {
  struct page_copies *copies = &pages->copies;
  if (is_backed(pages, page) == backed) return;
  copies->backed[page / 64] ^= 1ull << (page % 64);
  copies->backed_pages += backed ? 1 : -1ull;
}

uint32_t pages_next_run(const struct pages *pages, uint64_t page) {
  uint32_t run = page == pages->policy.last_opened + 1 ? pages->policy.run_of_pages * 2 : 1;
  return run < PAGES_RUN_MAX ? run : PAGES_RUN_MAX;
}

int copies_make(struct pages *pages, uint64_t first, uint64_t end, int protection) {
  struct page_copies *copies = &pages->copies;
  /* Allocate first: out of memory must fail here, and not as a SIGBUS in the copy. */
  int backed = 1;
  for (uint64_t page = first; page < end; page++) backed &= is_backed(pages, page);
  if (!backed && syscall(SYS_fallocate, copies->file, 0, first * PAGE_BYTES, (end - first) * PAGE_BYTES) != 0)
    return -1;
  size_t bytes = (size_t)(end - first) * PAGE_BYTES;
  if (end - first >= POPULATE_PAGES_MIN && !is_backed(pages, first) && !is_backed(pages, end - 1)) {
    /* Before Linux 5.14 this fails, and the copies fault the pages in. */
    madvise(copies->shadow + first * PAGE_BYTES, bytes, MADV_POPULATE_WRITE);
    madvise(copies->twin + first * PAGE_BYTES, bytes, MADV_POPULATE_WRITE);
  }
  for (uint64_t page = first; page < end; page++) {
    if (is_open(pages, page) || is_detached(pages, page)) continue;
    /* The replica may change during the copy, a word at a time. The twin is copied from the shadow, so both start
     * equal. */
    uint64_t at = page * PAGE_BYTES;
    copy_words(copies->shadow + at, copies->alias + at, PAGE_BYTES);
    memcpy(copies->twin + at, copies->shadow + at, PAGE_BYTES);
  }
  void *place = (void *)(pages->link->base + first * PAGE_BYTES);
  if (mmap(place, bytes, protection, MAP_SHARED | MAP_FIXED | MAP_POPULATE, copies->file,
           (off_t)(first * PAGE_BYTES)) == MAP_FAILED)
    return -1;
  madvise(place, bytes, MADV_DONTFORK);
  for (uint64_t page = first; page < end; page++) set_backed(pages, page, 1);
  pages->policy.openings++;
  return 0;
}

static void unmap(void *place, size_t size) {
  if (place != NULL && place != MAP_FAILED) munmap(place, size);
}

static void *map_file(int fd, uint64_t offset, size_t size, int protection) {
  return mmap(NULL, size, protection, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
}

static void *map_anonymous(size_t size) {
  return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static size_t bitmap_bytes(const struct pages *pages) {
  return (pages->link->size / PAGE_BYTES + 63) / 64 * 8;
}

void copies_show_open(const struct pages *pages) {
  dsm_region_show_open(pages->link->base, pages->link->direct ? DSM_ALL_OPEN : pages->copies.opened);
}

void copies_free(struct pages *pages) {
  const struct arbiter_link *link = pages->link;
  struct page_copies *copies = &pages->copies;
  unmap(copies->shadow, link->size);
  unmap(copies->twin, link->size);
  unmap(copies->opened, bitmap_bytes(pages));
  unmap(copies->alias, link->size);
  unmap(copies->staging, WIRE_STAGING_SIZE);
  unmap(pages->release.written, WRITTEN_BYTES(link->size));
  unmap(pages->release.queued, link->size / PAGE_BYTES * sizeof(struct queued_stores));
  pages->release.queued = NULL;
  history_free(&pages->release.history, link->size / PAGE_BYTES);
  unmap(pages->holes, HOLES_BYTES);
  unmap(copies->detached, bitmap_bytes(pages));
  unmap(copies->backed, bitmap_bytes(pages));
  unmap(pages->release.stores, link->size / PAGE_BYTES);
  if (copies->file >= 0) close(copies->file);
  copies->shadow = copies->twin = copies->alias = copies->staging = pages->release.written = NULL;
  copies->opened = copies->detached = copies->backed = NULL;
  pages->release.stores = NULL;
  pages->holes = NULL;
  copies->backed_pages = 0;
  copies->file = -1;
}

/* Opens the file of the shadow. If direct mode lasts as long as the session, the arbiter need not map it. Returns a
 * status. */
static int open_shadow(struct pages *pages) {
  const struct arbiter_link *link = pages->link;
  struct page_copies *copies = &pages->copies;
  copies->is_lent = 0;
  if (!link->direct || link->elastic) {
    int status = lent_memory(pages->link, &copies->file);
    copies->is_lent = copies->file >= 0;
    if (status != DSM_OK || copies->is_lent) return status;
  }
  copies->file = descriptor_above_stdio(memfd_create("dsm-shadow", MFD_CLOEXEC));
  if (copies->file >= 0 && ftruncate(copies->file, (off_t)link->size) == 0) return DSM_OK;
  return dsm_fail(dsm_status_of(errno, DSM_NO_MEMORY), "no memory for a hole: %s", strerror(errno));
}

int copies_prepare(struct pages *pages) {
  const struct arbiter_link *link = pages->link;
  struct page_copies *copies = &pages->copies;
  if (copies->file >= 0) return DSM_OK;
  int status = open_shadow(pages);
  if (status != DSM_OK) {
    copies_free(pages);
    return status;
  }
  pages->holes = map_anonymous(HOLES_BYTES);
  copies->detached = map_anonymous(bitmap_bytes(pages));
  copies->backed = map_anonymous(bitmap_bytes(pages));
  pages->release.stores = map_anonymous(link->size / PAGE_BYTES);
  copies->shadow = map_file(copies->file, 0, link->size, PROT_READ | PROT_WRITE);
  copies->alias = map_file(link->map_fd, 0, link->size, link->direct ? PROT_READ | PROT_WRITE : PROT_READ);
  copies->twin = map_anonymous(link->size);
  copies->opened = map_anonymous(bitmap_bytes(pages));
  /* A forked child does not use it, and would cost a copy-on-write fault for each page. */
  if (copies->twin != MAP_FAILED) madvise(copies->twin, link->size, MADV_DONTFORK);
  const void *const mappings[] = {pages->holes,   copies->detached, copies->backed, pages->release.stores,
                                  copies->shadow, copies->twin,     copies->opened, copies->alias};
  for (unsigned i = 0; i < sizeof mappings / sizeof *mappings; i++)
    if (mappings[i] == MAP_FAILED) goto failed;
  if (!link->direct || link->elastic) {
    copies->staging = copies->is_lent ? map_file(copies->file, link->size, WIRE_STAGING_SIZE, PROT_READ | PROT_WRITE)
                                      : map_anonymous(WIRE_STAGING_SIZE);
    if (copies->staging == MAP_FAILED) goto failed;
  }
  copies_show_open(pages);
  return DSM_OK;
failed:;
  int saved = errno;
  copies_free(pages);
  return dsm_fail(dsm_status_of(saved, DSM_NO_MEMORY), "cannot make the memory of holes: %s", strerror(saved));
}

/* Frees the memory of the shadow and the twin of these pages. */
static void drop_memory(struct pages *pages, uint64_t first, uint64_t end) {
  struct page_copies *copies = &pages->copies;
  for (uint64_t page = first; page < end; page++) set_backed(pages, page, 0);
  off_t from = (off_t)(first * PAGE_BYTES), length = (off_t)((end - first) * PAGE_BYTES);
  fallocate(copies->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, length);
  madvise(copies->twin + from, (size_t)length, MADV_DONTNEED);
}

void copies_limit_kept(struct pages *pages, uint64_t first, uint64_t end) {
  uint64_t page_count = pages->link->size / PAGE_BYTES;
  if (pages->copies.backed_pages <= KEPT_PAGES_MAX) return;
  for (uint64_t page = 0; page < page_count; page++) {
    uint64_t begin = page;
    while (page < page_count && (page < first || page >= end) && is_backed(pages, page) && !is_open(pages, page) &&
           !is_detached(pages, page))
      page++;
    if (page > begin) drop_memory(pages, begin, page);
  }
  if (end - first > KEPT_PAGES_MAX) drop_memory(pages, first, end);
}
