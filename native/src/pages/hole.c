#define _GNU_SOURCE
#include "pages/hole.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/size.h"
#include "base/status.h"
#include "pages/copies.h"
#include "pages/hole_table.h"
#include "pages/lock.h"
#include "pages/publication.h"
#include "pages/release.h"

/* Chooses the pages of a hole to open for a write to `page`, which is not open: [*first, *end). */
static void choose_pages(struct pages *pages, const struct hole *hole, uint64_t page, uint64_t *first, uint64_t *end) {
  uint64_t inner_first = hole->inner_from / PAGE_BYTES, inner_end = hole->inner_to / PAGE_BYTES;
  if (pages->policy.openings >= OPENINGS_MAX) {
    uint64_t chunk = page / CHUNK_PAGES * CHUNK_PAGES;
    *first = chunk > inner_first ? chunk : inner_first;
    *end = chunk + CHUNK_PAGES < inner_end ? chunk + CHUNK_PAGES : inner_end;
    return;
  }
  uint32_t run = pages_next_run(pages, page);
  *first = page;
  *end = page + 1;
  while (*end < page + run && *end < inner_end && !is_open(pages, *end)) ++*end;
}

int hole_open_pages(struct pages *pages, const struct hole *hole, uint64_t offset) {
  uint64_t first, end;
  choose_pages(pages, hole, offset / PAGE_BYTES, &first, &end);
  if (copies_make(pages, first, end, PROT_READ | PROT_WRITE) != 0) return -1;
  set_bits(pages->copies.opened, first, end);
  pages->policy.last_opened = end - 1;
  pages->policy.run_of_pages = (uint32_t)(end - first);
  return 0;
}

/* Tells the arbiter which bytes of an edge page are the hole's (or no longer are). */
static int tell_edge(struct pages *pages, uint8_t kind, uint64_t from, uint64_t to) {
  struct wire_header header = {
      .kind = kind,
      .page = PAGE_FLOOR(from),
      .hole_length = (uint32_t)(to - from),
      .hole_from = (uint32_t)(from - PAGE_FLOOR(from)),
  };
  return link_request(pages->link, &header, NULL, 0, 0, -1);
}

static int close_edge(struct pages *pages, const struct hole *hole, uint64_t from, uint64_t to) {
  uint64_t page = PAGE_FLOOR(from);
  if (!hole_in_page(pages, hole, page) && link_map_replica(pages->link, page, PAGE_BYTES) != 0)
    return dsm_fail(dsm_status_of(errno, DSM_SYSTEM), "cannot map a page: %s", strerror(errno));
  return tell_edge(pages, WIRE_UNSHADOW, from, to);
}

static int open_edge(struct pages *pages, uint64_t from, uint64_t to) {
  uint64_t page = PAGE_FLOOR(from);
  /* Its memory is in use now, and no longer kept for the next hole. */
  set_backed(pages, page / PAGE_BYTES, 0);
  int status = tell_edge(pages, WIRE_SHADOW, from, to);
  if (status != DSM_OK) return status;
  memcpy(pages->copies.twin + from, pages->copies.shadow + from, to - from);
  void *place = (void *)(pages->link->base + page);
  if (mmap(place, PAGE_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, pages->copies.file, (off_t)page) == MAP_FAILED) {
    int saved = errno;
    tell_edge(pages, WIRE_UNSHADOW, from, to);
    return dsm_fail(dsm_status_of(saved, DSM_SYSTEM), "cannot map a page: %s", strerror(saved));
  }
  madvise(place, PAGE_BYTES, MADV_DONTFORK);
  return DSM_OK;
}

/* Waits until no store is under way that was made when there was no hole. Later ones wait for the lock. */
static void await_stores(struct pages *pages) {
  atomic_store(&pages->awaited, 1);
  for (unsigned count; (count = atomic_load(&pages->under_way)) != 0;)
    syscall(SYS_futex, &pages->under_way, FUTEX_WAIT_PRIVATE, count, NULL, NULL, 0);
  atomic_store(&pages->awaited, 0);
}

int hole_dig(struct pages *pages, void *address, size_t size, int *id) {
  if (id == NULL) return dsm_fail(DSM_INVALID, "dsm_hole_dig: nowhere to put the hole's number");
  uint64_t offset = (uintptr_t)address - pages->link->base;
  if (size == 0) return dsm_fail(DSM_INVALID, "the hole is empty; give it 1 byte or more");
  if ((uintptr_t)address < pages->link->base || offset >= DSM_SIZE_MAX)
    return dsm_fail(DSM_INVALID, "the hole is not inside the map of %llu bytes", (unsigned long long)pages->link->size);
  char advice[SIZE_ADVICE_BYTES];
  uint64_t needed = size > DSM_SIZE_MAX ? size : offset + size;
  if (offset >= pages->link->size || size > pages->link->size - offset)
    return dsm_fail(DSM_INVALID, "a hole of %zu bytes at byte %llu is not inside the map of %llu bytes; %s", size,
                    (unsigned long long)offset, (unsigned long long)pages->link->size,
                    size_advice(needed, SIZE_ROOM(needed), advice));

  struct hole *hole = NULL;
  struct hole wanted = {.from = offset, .to = offset + size};
  wanted.inner_from = PAGE_CEIL(wanted.from);
  wanted.inner_to = PAGE_FLOOR(wanted.to);
  if (wanted.inner_to <= wanted.inner_from) wanted.inner_from = wanted.inner_to = wanted.from;

  uint64_t before;
  pages_lock_blocking_signals(pages, &before);
  wanted.whole_pages = pages->link->direct;
  /* A thread that leaves the session has discarded the holes already, or waits for the lock to do so. */
  int status = link_check(pages->link);
  if (status == DSM_OK) status = copies_prepare(pages);
  /* Publish earlier stores: they are not part of the hole. */
  if (status == DSM_OK && release_locked(pages) != 0) status = link_gone(pages->link);
  for (int i = 0; i < DSM_HOLES_MAX && status == DSM_OK; i++) {
    const struct hole *other = &pages->holes[i];
    if (other->id == 0)
      hole = hole == NULL ? &pages->holes[i] : hole;
    else if (other->from < wanted.to && wanted.from < other->to)
      status = dsm_fail(DSM_INVALID, "the hole overlaps hole %d; fill that one first", other->id);
  }
  if (status == DSM_OK && hole == NULL)
    status = dsm_fail(DSM_LIMIT, "this process has %d holes, the limit; fill one first", DSM_HOLES_MAX);
  /* From here on each store asks for the lock. */
  int counts = status == DSM_OK;
  if (counts) {
    atomic_fetch_add(&pages->count, 1);
    await_stores(pages);
  }
  if (status == DSM_OK) {
    uint64_t parts[2][2];
    int count = hole_edges(&wanted, parts);
    for (int i = 0; i < count && status == DSM_OK; i++) {
      status = open_edge(pages, parts[i][0], parts[i][1]);
      if (status != DSM_OK && i == 1) close_edge(pages, &wanted, parts[0][0], parts[0][1]);
    }
  }
  uint64_t inner = wanted.inner_to - wanted.inner_from;
  /* Fails if the kernel allows this process no further mapping. Direct mode has no edges to close. */
  if (status == DSM_OK && pages->link->direct && inner > 0 &&
      mprotect((void *)(pages->link->base + wanted.inner_from), inner, PROT_READ) != 0)
    status = dsm_fail(dsm_status_of(errno, DSM_SYSTEM), "cannot make a hole: %s", strerror(errno));
  if (status == DSM_OK) {
    wanted.id = pages->next_id++;
    *hole = wanted;
    *id = wanted.id;
  } else if (counts) {
    atomic_fetch_sub(&pages->count, 1);
  }
  pages_unlock_restoring_signals(pages, &before);
  return status;
}

static int publish_changes(struct pages *pages, const struct hole *hole) {
  struct publication publication;
  publication_begin(pages, &publication, NULL);

  uint64_t parts[2][2];
  int count = hole_edges(hole, parts);
  int next = 0;
  if (count > 0 && parts[0][0] == hole->from) publication_add(&publication, parts[next][0], parts[next][1]), next++;
  for (uint64_t at = hole->inner_from; at < hole->inner_to; at += PAGE_BYTES)
    if (is_open(pages, at / PAGE_BYTES)) publication_add(&publication, at, at + PAGE_BYTES);
  for (; next < count; next++) publication_add(&publication, parts[next][0], parts[next][1]);

  int status = publication_end(&publication);
  if (status == DSM_UNREACHABLE) return link_gone(pages->link);
  return status == DSM_OK ? DSM_OK : dsm_fail(status, "the session refused what was written to the hole");
}

/* Closes the whole pages of the hole: maps the replica in their place. */
static int close_inner(struct pages *pages, const struct hole *hole) {
  if (hole->inner_from == hole->inner_to) return 0;
  uint64_t length = hole->inner_to - hole->inner_from;
  if (link_map_replica(pages->link, hole->inner_from, length) != 0) return -1;
  uint64_t first = hole->inner_from / PAGE_BYTES, end = hole->inner_to / PAGE_BYTES;
  for (uint64_t page = first; page < end; page++) pages->copies.opened[page / 64] &= ~(1ull << (page % 64));
  copies_limit_kept(pages, first, end);
  return 0;
}

int hole_fill(struct pages *pages, int id) {
  struct hole *hole = NULL;
  uint64_t before;
  pages_lock_blocking_signals(pages, &before);
  int status = link_check(pages->link);
  if (status != DSM_OK) {
    pages_unlock_restoring_signals(pages, &before);
    return status;
  }
  for (int i = 0; i < DSM_HOLES_MAX && pages->holes != NULL; i++)
    if (id > 0 && pages->holes[i].id == id) hole = &pages->holes[i];
  if (hole == NULL) {
    pages_unlock_restoring_signals(pages, &before);
    return dsm_fail(DSM_INVALID, "there is no hole %d; was it filled before?", id);
  }
  /* From here on another thread's write to the hole waits for the lock, and is then ordered like any other store. */
  if (hole->inner_from < hole->inner_to)
    mprotect((void *)(pages->link->base + hole->inner_from), hole->inner_to - hole->inner_from, PROT_READ);
  hole->filling = 1;
  status = publish_changes(pages, hole);
  uint64_t parts[2][2];
  int count = hole_edges(hole, parts);
  if (close_inner(pages, hole) != 0)
    status = dsm_fail(dsm_status_of(errno, DSM_SYSTEM), "cannot map the replica: %s", strerror(errno));
  for (int i = 0; i < count; i++) {
    int closed = close_edge(pages, hole, parts[i][0], parts[i][1]);
    if (status == DSM_OK) status = closed;
  }
  hole->id = 0;
  hole->filling = 0;
  if (atomic_fetch_sub(&pages->count, 1) == 1) pages->policy.openings = 0;
  pages_unlock_restoring_signals(pages, &before);
  return status;
}
