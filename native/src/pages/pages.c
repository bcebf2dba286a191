#define _GNU_SOURCE
#include "pages/pages.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pages/copies.h"
#include "pages/copy.h"
#include "pages/hole.h"
#include "pages/hole_table.h"
#include "pages/lock.h"
#include "pages/publication.h"
#include "pages/release.h"
#include "pages/written.h"

void pages_init(struct pages *pages, struct arbiter_link *link) {
  memset(pages, 0, sizeof *pages);
  pages->link = link;
  pages->copies.file = -1;
  pages->next_id = 1;
  pages->policy.last_opened = UINT64_MAX - 1; /* no page follows it */
}

int pages_fault(struct pages *pages, uintptr_t address, int atomic, uintptr_t instruction) {
  if (atomic_load_explicit(&pages->count, memory_order_acquire) == 0) return 0;
  uint64_t offset = address - pages->link->base, page = offset / PAGE_BYTES;
  int opened = 0;
  pages_lock(pages);
  const struct hole *hole = hole_at(pages, offset);
  if (hole != NULL)
    opened = hole_is_inner(hole, offset) && (is_open(pages, page) || hole_open_pages(pages, hole, offset) == 0);
  else if (pages->release.is_on && atomic_load(&pages->link->dead))
    opened = -1;
  else if (!atomic && may_detach(pages, page))
    opened = is_open(pages, page) || open_detached(pages, page, instruction);
  pages_unlock(pages);
  return opened;
}

int64_t pages_open(struct pages *pages, uint64_t offset, uint64_t length, uintptr_t instruction) {
  if (atomic_load_explicit(&pages->count, memory_order_acquire) == 0) return -(int64_t)length;
  /* The store itself traps, and pages_fault() finds the session dead. */
  if (pages->release.is_on && atomic_load(&pages->link->dead)) return (int64_t)length;
  uint64_t page = offset / PAGE_BYTES, whole_end = (offset + length) / PAGE_BYTES, end = page;
  if (offset % PAGE_BYTES == 0 && whole_end > page) {
    pages_lock(pages);
    end = release_open_whole(pages, page, whole_end, instruction);
    pages_unlock(pages);
  }
  uint64_t to = (end > page ? end : page + 1) * PAGE_BYTES - offset;
  if (to > length) to = length;
  if (end > page || pages_fault(pages, pages->link->base + offset, 0, instruction) == 1) return (int64_t)to;
  return pages->release.is_on ? -(int64_t)to : -(int64_t)length;
}

int pages_publish(struct pages *pages, const struct dsm_run *run) {
  int result = PAGES_NO_STAGING;
  pages_lock(pages);
  if (pages->holes != NULL && hole_in_range(pages, NULL, run->offset, run->offset + run->length)) {
    result = PAGES_HOLE;
  } else if (!pages->link->direct && copies_prepare(pages) == DSM_OK) {
    struct publication publication;
    publication_begin(pages, &publication, NULL);
    publication_add_bytes(&publication, run->offset, run->bytes, run->length);
    result = publication_end(&publication) == DSM_OK ? 0 : -1;
  }
  pages_unlock(pages);
  return result;
}

void pages_store_begins(struct pages *pages) {
  atomic_fetch_add(&pages->under_way, 1);
}

void pages_store_ended(struct pages *pages) {
  if (atomic_fetch_sub(&pages->under_way, 1) == 1 && atomic_load(&pages->awaited))
    syscall(SYS_futex, &pages->under_way, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Makes the page private for a captured store. Returns 0, or -1. */
static int make_private(struct pages *pages, uint64_t page) {
  return page == pages->release.expected ? open_expected(pages, page) : detach_page(pages, page);
}

int pages_store(struct pages *pages, struct store_progress *store, struct dsm_run *rest, uint32_t room) {
  uint32_t left = 0;
  int failed = 0;
  pages_lock(pages);
  while (store->count > 0 && left < room && !failed) {
    uint64_t at = store->runs->offset + store->done;
    uint64_t to = store->runs->offset + store->runs->length;
    const uint8_t *bytes = store->runs->bytes + store->done;
    const struct hole *hole = hole_at(pages, at);
    if (hole != NULL) {
      if (to > hole_private_to(hole)) to = hole_private_to(hole);
      if (hole_is_inner(hole, at)) {
        if (to > PAGE_FLOOR(at) + PAGE_BYTES) to = PAGE_FLOOR(at) + PAGE_BYTES;
        failed = !is_open(pages, at / PAGE_BYTES) && hole_open_pages(pages, hole, at) != 0;
      } else if (at < hole->inner_from && to > hole->inner_from) {
        to = hole->inner_from;
      }
      if (!failed) copy_words(pages->copies.shadow + at, bytes, to - at);
    } else {
      for (int h = 0; h < DSM_HOLES_MAX; h++) {
        const struct hole *other = &pages->holes[h];
        if (other->id != 0 && !other->filling && hole_private_from(other) > at && hole_private_from(other) < to &&
            hole_private_from(other) < hole_private_to(other))
          to = hole_private_from(other);
      }
      if (pages->release.is_on && to > PAGE_FLOOR(at) + PAGE_BYTES) to = PAGE_FLOOR(at) + PAGE_BYTES;
      uint64_t page = at / PAGE_BYTES;
      const struct dsm_run part = {.offset = at, .length = (uint32_t)(to - at), .bytes = bytes};
      int is_private = pages->release.is_on && (is_open(pages, page) || is_detached(pages, page));
      int may_be = pages->release.is_on && !is_private && may_detach(pages, page);
      int is_queued = may_be && page != pages->release.expected && queue_store(pages, &part);
      if (is_private || (may_be && !is_queued && make_private(pages, page) == 0)) {
        copy_words(pages->copies.shadow + at, bytes, to - at);
        written_mark(pages->release.written, pages->copies.shadow, pages->copies.twin, at, to);
        if (pages->release.stores[page] < STORES_TO_OPEN) pages->release.stores[page]++;
      } else if (!is_queued) {
        rest[left++] = part;
      }
    }
    store->done += (uint32_t)(to - at);
    if (store->done == store->runs->length) {
      store->runs++;
      store->count--;
      store->done = 0;
    }
  }
  if (left > 0 && !failed) pages_store_begins(pages);
  pages_unlock(pages);
  return failed ? -1 : (int)left;
}

/* Executes an atomic operation on private bytes, like MapBytes.atomic() of src/core/memory. */
static void execute(enum dsm_atomic_op op, uint32_t width, uint8_t *place, const void *operand, const void *compare,
                    void *old) {
  unsigned __int128 before = 0, with = 0, expected = 0, after = 0;
  memcpy(&before, place, width);
  memcpy(&with, operand, width);
  memcpy(&expected, compare, width);
  switch (op) {
    case DSM_ATOMIC_ADD: after = before + with; break;
    case DSM_ATOMIC_AND: after = before & with; break;
    case DSM_ATOMIC_OR: after = before | with; break;
    case DSM_ATOMIC_XOR: after = before ^ with; break;
    case DSM_ATOMIC_XCHG: after = with; break;
    case DSM_ATOMIC_CMPXCHG: after = before == expected ? with : before; break;
    case DSM_ATOMIC_NEG: after = -before; break;
  }
  memcpy(old, &before, width);
  copy_words(place, (const uint8_t *)&after, width);
}

int pages_atomic(struct pages *pages, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                 const void *compare, void *old) {
  static const uint8_t zeros[16];
  int done = 0;
  pages_lock(pages);
  struct hole *first = hole_at(pages, offset);
  struct hole *last = hole_at(pages, offset + width - 1);
  if (first != last)
    done = -1;
  else if (first != NULL) {
    done = 1;
    for (uint64_t at = offset; at < offset + width; at += width - 1 > 0 ? width - 1 : 1)
      if (hole_is_inner(first, at) && !is_open(pages, at / PAGE_BYTES) && hole_open_pages(pages, first, at) != 0)
        done = -2;
    if (done == 1)
      execute(op, width, pages->copies.shadow + offset, operand != NULL ? operand : zeros,
              compare != NULL ? compare : zeros, old);
  }
  if (done == 0) pages_store_begins(pages);
  pages_unlock(pages);
  return done;
}

/* Makes the pages [from, to) read-only. */
static int close_pages(const struct pages *pages, uint64_t from, uint64_t to) {
  return from < to ? mprotect((void *)(pages->link->base + from * PAGE_BYTES), (to - from) * PAGE_BYTES, PROT_READ) : 0;
}

void pages_close_direct(struct pages *pages) {
  uint64_t before;
  /* Stores did not need dsm's handlers until now: a call that dsm did not see may have replaced them. */
  if (pages->link->direct) dsm_actions_retake();
  pages_lock_blocking_signals(pages, &before);
  if (pages->link->direct) {
    uint64_t page_count = pages->link->size / PAGE_BYTES, from = 0;
    int failed = 0;
    for (uint64_t page = 0; pages->copies.opened != NULL && page < page_count; page++) {
      if (!is_open(pages, page)) continue;
      failed |= close_pages(pages, from, page);
      from = page + 1;
    }
    failed |= close_pages(pages, from, page_count);
    if (failed) {
      /* Its further stores would be lost to other processes. */
      static const char text[] = "dsm: a map cannot be closed to writes, and another node waits for that\n";
      syscall(SYS_write, STDERR_FILENO, text, sizeof text - 1);
      abort();
    }
    pages->link->direct = 0;
    copies_show_open(pages);
    if (pages->release.atomics != NULL && !atomic_load(&pages->link->left)) release_begin(pages);
  }
  pages_unlock_restoring_signals(pages, &before);
}

void pages_drop(struct pages *pages) {
  if (pages->copies.file < 0) return;
  uint64_t before;
  pages_lock_blocking_signals(pages, &before);
  pages->release.is_on = 0;
  atomic_store(&pages->count, 0);
  link_map_replica(pages->link, 0, pages->link->size);
  copies_free(pages);
  pages_unlock_restoring_signals(pages, &before);
}
