#define _GNU_SOURCE
#include "pages/release.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/status.h"
#include "pages/copies.h"
#include "pages/history.h"
#include "pages/hole_table.h"
#include "pages/lock.h"
#include "pages/publication.h"
#include "pages/ring.h"
#include "pages/written.h"

/* The longest store that is queued as it is made: that of a register. */
#define QUEUED_STORE_MAX 64u
/* What a queued store counts for when it is asked whether a page was filled. */
#define QUEUED_STORE_BYTES 4u

int may_detach(struct pages *pages, uint64_t page) {
  return pages->release.is_on && pages->release.atomics[page] == 0 && !hole_in_page(pages, NULL, page * PAGE_BYTES);
}

static void note_detached(struct pages *pages, uint64_t first, uint64_t end) {
  struct release_state *release = &pages->release;
  set_bits(pages->copies.detached, first, end);
  if (release->private_end == 0 || first < release->private_first) release->private_first = first;
  if (end > release->private_end) release->private_end = end;
  atomic_store(&release->any_private, 1);
}

int detach_page(struct pages *pages, uint64_t page) {
  if (copies_make(pages, page, page + 1, PROT_READ) != 0) return -1;
  note_detached(pages, page, page + 1);
  return 0;
}

/* How many stores to the page were queued in this section, or the last one. */
static uint32_t queued_stores(const struct release_state *release, uint64_t page) {
  const struct queued_stores *queued = &release->queued[page];
  return queued->section == atomic_load(&release->section) ? queued->count : 0;
}

int queue_store(struct pages *pages, const struct dsm_run *run) {
  struct release_state *release = &pages->release;
  uint64_t page = run->offset / PAGE_BYTES;
  if (!atomic_load(&release->in_section) || pages->ring == NULL || run->length > QUEUED_STORE_MAX) return 0;
  uint32_t count = queued_stores(release, page);
  if (count >= STORES_TO_OPEN || ring_store_quietly(pages->ring, run) <= 0) return 0;
  release->queued[page] = (struct queued_stores){.section = atomic_load(&release->section), .count = count + 1};
  return 1;
}

int open_expected(struct pages *pages, uint64_t page) {
  struct release_state *release = &pages->release;
  uint64_t end = page + 1, page_count = pages->link->size / PAGE_BYTES;
  while (end < page + PAGES_RUN_MAX && end < page_count && history_follows(&release->history, page, end) &&
         !is_detached(pages, end) && may_detach(pages, end))
    end++;
  release->expected = UINT64_MAX;
  if (copies_make(pages, page, end, PROT_READ | PROT_WRITE) != 0) return -1;
  note_detached(pages, page, end);
  set_bits(pages->copies.opened, page, end);
  history_open(&release->history, page, end, release->expected_by);
  pages->policy.last_opened = end - 1;
  pages->policy.run_of_pages = 1;
  return 0;
}

int open_detached(struct pages *pages, uint64_t page, uintptr_t instruction) {
  struct release_state *release = &pages->release;
  int follows = page == pages->policy.last_opened + 1;
  int is_many = pages->policy.openings >= OPENINGS_MAX;
  int is_ready = is_detached(pages, page);
  int is_expected = history_expects(&release->history, page, instruction);
  uint32_t stores = is_ready                            ? release->stores[page]
                    : atomic_load(&release->in_section) ? queued_stores(release, page)
                                                        : 0;
  if (is_expected && !is_ready && !is_many) {
    release->expected = page;
    release->expected_by = instruction;
    return 0;
  }
  /* A loop may store by several instructions: all that take part in the second half of the stores count. */
  if (stores >= STORES_TO_OPEN / 2) history_note_writer(&release->history, instruction);
  if (!is_many && !follows && !(is_ready && is_expected) && stores < STORES_TO_OPEN) return 0;
  uint64_t opened_end = page + 1;
  if (!is_ready || is_many) {
    uint32_t run = is_many ? CHUNK_PAGES : pages_next_run(pages, page);
    int ahead = is_many || (follows && pages->policy.run_of_pages == PAGES_RUN_MAX);
    uint64_t end = page + 1;
    while (end < page + run && end < pages->link->size / PAGE_BYTES && !is_detached(pages, end) &&
           may_detach(pages, end))
      end++;
    if (copies_make(pages, page, end, PROT_READ | (ahead ? PROT_WRITE : 0)) != 0) return 0;
    note_detached(pages, page, end);
    pages->policy.run_of_pages = run;
    if (ahead) opened_end = end;
    is_ready = !ahead;
  }
  if (is_ready && mprotect((void *)(pages->link->base + page * PAGE_BYTES), PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
    return 0;
  set_bits(pages->copies.opened, page, opened_end);
  history_note_writer(&release->history, instruction);
  history_open(&release->history, page, opened_end, instruction);
  pages->policy.last_opened = opened_end - 1;
  return 1;
}

uint64_t release_open_whole(struct pages *pages, uint64_t first, uint64_t end, uintptr_t instruction) {
  uint64_t next = first;
  int is_ready = is_detached(pages, first);
  if (end > first + CHUNK_PAGES) end = first + CHUNK_PAGES;
  while (next < end && !is_open(pages, next) && is_detached(pages, next) == is_ready && may_detach(pages, next)) next++;
  if (next == first) return first;
  void *place = (void *)(pages->link->base + first * PAGE_BYTES);
  int failed = is_ready ? mprotect(place, (next - first) * PAGE_BYTES, PROT_READ | PROT_WRITE)
                        : copies_make(pages, first, next, PROT_READ | PROT_WRITE);
  if (failed) return first;
  note_detached(pages, first, next);
  set_bits(pages->copies.opened, first, next);
  history_note_writer(&pages->release.history, instruction);
  history_open(&pages->release.history, first, next, instruction);
  pages->policy.last_opened = next - 1;
  pages->policy.run_of_pages = next - first < PAGES_RUN_MAX ? (uint32_t)(next - first) : PAGES_RUN_MAX;
  return next;
}

/* Finds the next pages in a row that are private, from `*end` on. Returns whether there are any. */
static int next_detached(const struct pages *pages, uint64_t *first, uint64_t *end) {
  uint64_t page_count = pages->release.private_end;
  uint64_t page = *end > pages->release.private_first ? *end : pages->release.private_first;
  while (page < page_count && !is_detached(pages, page))
    page = pages->copies.detached[page / 64] >> (page % 64) == 0 ? (page / 64 + 1) * 64 : page + 1;
  if (page >= page_count) return 0;
  *first = page;
  while (page < page_count && is_detached(pages, page)) page++;
  *end = page;
  return 1;
}

static int any_open(const struct pages *pages, uint64_t first, uint64_t end) {
  while (first < end && !is_open(pages, first)) first++;
  return first < end;
}

/* Makes the private pages read-only and adds their changes to a publication, which it begins with the first of them.
 * From then on a write of another thread waits until they are closed, and then makes them private again. Returns
 * whether there are any. */
static int add_private_pages(struct pages *pages, struct publication *publication,
                             const struct following_request *following) {
  uint64_t first, end = 0;
  int any = 0;
  while (next_detached(pages, &first, &end)) {
    if (!any) {
      publication_begin(pages, publication, following);
      publication->may_queue = following == NULL;
      any = 1;
    }
    if (any_open(pages, first, end))
      mprotect((void *)(pages->link->base + first * PAGE_BYTES), (end - first) * PAGE_BYTES, PROT_READ);
    for (uint64_t page = first; page < end; page++) {
      uint32_t added = publication_add(publication, page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
      /* What was queued before the page was opened has filled it, too. */
      uint32_t queued = queued_stores(&pages->release, page) * QUEUED_STORE_BYTES;
      history_close(&pages->release.history, page, is_open(pages, page), added + queued);
    }
  }
  return any;
}

/* Maps the replica in the place of the private pages. Returns 0, or -1 with errno. */
static int close_private_pages(struct pages *pages) {
  uint64_t first, end = 0;
  while (next_detached(pages, &first, &end)) {
    if (link_map_replica(pages->link, first * PAGE_BYTES, (end - first) * PAGE_BYTES) != 0) return -1;
    for (uint64_t page = first; page < end; page++) {
      pages->copies.detached[page / 64] &= ~(1ull << (page % 64));
      pages->copies.opened[page / 64] &= ~(1ull << (page % 64));
      if (pages->release.stores[page] > 0) {
        pages->release.stores[page] = 0;
        memset(pages->release.written + WRITTEN_BYTES(page * PAGE_BYTES), 0, WRITTEN_BYTES(PAGE_BYTES));
      }
    }
  }
  pages->release.private_first = pages->release.private_end = 0;
  atomic_store(&pages->release.any_private, 0);
  return 0;
}

/* Ends what add_private_pages() has begun. Returns 0, or -1 if the arbiter is gone: then the pages stay private, so that
 * the program can save its data; a further store finds the session dead. */
static int publish_private_pages(struct pages *pages, struct publication *publication) {
  if (publication_end(publication) != DSM_OK || close_private_pages(pages) != 0) {
    link_lost(pages->link, NULL);
    return -1;
  }
  pages->policy.openings = 0;
  pages->policy.last_opened = UINT64_MAX - 1;
  pages->release.expected = UINT64_MAX;
  history_next(&pages->release.history);
  return 0;
}

int release_locked(struct pages *pages) {
  struct publication publication;
  if (!pages->release.is_on || !add_private_pages(pages, &publication, NULL)) return 0;
  return publish_private_pages(pages, &publication);
}

int release_publish(struct pages *pages) {
  if (!pages->release.is_on) return 0;
  pages_lock(pages);
  int result = release_locked(pages);
  pages_unlock(pages);
  return result;
}

void release_begin_section(struct pages *pages) {
  struct release_state *release = &pages->release;
  if (!release->is_on) return;
  atomic_fetch_add(&release->section, 1);
  atomic_store(&release->in_section, 1);
}

void release_end_section(struct pages *pages) {
  if (!pages->release.is_on) return;
  atomic_store(&pages->release.in_section, 0);
  if (pages->ring != NULL) ring_wake(pages->ring);
}

int release_is_clean(const struct pages *pages) {
  /* In this order: a thread that takes the lock from here on makes its copies from now on. */
  return !pages->release.is_on || (atomic_load(&pages->lock) == 0 && !atomic_load(&pages->release.any_private));
}

int release_stores(struct pages *pages) {
  atomic_store_explicit(&pages->release.in_section, 0, memory_order_relaxed);
  if (release_is_clean(pages)) return DSM_OK;
  uint64_t before;
  pages_lock_blocking_signals(pages, &before);
  int result = release_locked(pages);
  pages_unlock_restoring_signals(pages, &before);
  return result == 0 ? DSM_OK : link_gone(pages->link);
}

int release_request(struct pages *pages, struct wire_header *header, const void *body, size_t body_size, int wait,
                    int timeout_ms, int *abandoned) {
  struct link_call call;
  int status = link_claim(pages->link, &call, wait);
  if (status != DSM_OK) return status;
  atomic_store_explicit(&pages->release.in_section, 0, memory_order_relaxed);
  int any = 0;
  if (pages->release.is_on) {
    const struct following_request following = {&call, header, body, body_size};
    struct publication publication;
    uint64_t before;
    pages_lock_blocking_signals(pages, &before);
    /* Asked again under the lock: another thread may have left the session, and with it its copies. */
    any = pages->release.is_on && add_private_pages(pages, &publication, &following);
    if (any && publish_private_pages(pages, &publication) != 0) call.sent = -1;
    pages_unlock_restoring_signals(pages, &before);
  }
  if (!any) link_send(pages->link, &call, header, body, body_size);
  return link_await(pages->link, &call, header, timeout_ms, abandoned);
}

void release_begin(struct pages *pages) {
  pages->release.is_on = 1;
  /* From now on every fault checks for private pages. */
  atomic_fetch_add(&pages->count, 1);
}

int release_prepare(struct pages *pages) {
  int status = copies_prepare(pages);
  if (status != DSM_OK) return status;
  uint64_t page_count = pages->link->size / PAGE_BYTES;
  void *atomics = mmap(NULL, page_count, PROT_READ, MAP_SHARED, pages->link->map_fd, (off_t)pages->link->size);
  if (atomics == MAP_FAILED)
    return dsm_fail(dsm_status_of(errno, DSM_NO_MEMORY), "cannot map the session's page marks: %s", strerror(errno));
  pages->release.atomics = atomics;
  void *written = mmap(NULL, WRITTEN_BYTES(pages->link->size), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (written == MAP_FAILED)
    return dsm_fail(dsm_status_of(errno, DSM_NO_MEMORY), "no memory for marks of what is written: %s", strerror(errno));
  madvise(written, WRITTEN_BYTES(pages->link->size), MADV_DONTFORK);
  pages->release.written = written;
  void *queued = mmap(NULL, page_count * sizeof(struct queued_stores), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (queued == MAP_FAILED)
    return dsm_fail(dsm_status_of(errno, DSM_NO_MEMORY), "no memory for counts of stores: %s", strerror(errno));
  pages->release.queued = queued;
  if (history_prepare(&pages->release.history, page_count) != 0)
    return dsm_fail(dsm_status_of(errno, DSM_NO_MEMORY), "no memory for the history of pages: %s", strerror(errno));
  pages->release.expected = UINT64_MAX;
  if (!pages->link->direct) release_begin(pages);
  return DSM_OK;
}
