#define _GNU_SOURCE
#include "hole.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "copy.h"
#include "lent.h"
#include "runs.h"
#include "session.h"
#include "signals.h"
#include "status.h"
#include "written.h"

/* Most pages opened by one fault when a process writes one page after the other. */
#define PAGES_AT_ONCE_MAX 64u
/* Every run of pages opened is a mapping, and the kernel allows a process 65,530 of them. A process that has opened
 * this many is given whole chunks from then on, which merge. */
#define OPENINGS_MAX 8192u
#define CHUNK_PAGES 512u
/* Under release: captured stores to a page after which it is opened. Structures with a lock or a counter in them are
 * rarely stored to so often between two synchronising operations; arrays are. */
#define STORES_TO_OPEN 16u
/* From this many pages on their memory is asked for at once: a fault for each page of a copy costs more than the copy. */
#define POPULATE_PAGES_MIN 8u
/* Pages of holes that were filled whose copies keep their memory for the next hole, as long as there are no more: new memory
 * costs several times what is done with it. 64 MiB, for copy and twin each. */
#define KEPT_PAGES_MAX 16384u
/* A publication with no more runs than this goes to the arbiter as one frame; the parts of a larger one are taken from the
 * staging area. */
#define INLINE_MAX (16u << 10)

#define STAGED_PARTS_MAX (WIRE_STAGING_SIZE / WIRE_PUBLISH_PART_MAX)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE_FLOOR(offset) ((offset) & ~(uint64_t)(PAGE_BYTES - 1))
#define PAGE_CEIL(offset) PAGE_FLOOR((offset) + PAGE_BYTES - 1)

/* The fault handler takes this lock too, so whoever holds it outside the handler has blocked all signals: nothing can
 * interrupt a holder on its own thread. */
static void lock(struct hole_table *table) {
  unsigned state = 0;
  if (atomic_compare_exchange_strong(&table->lock, &state, 1))
    return;
  while (atomic_exchange(&table->lock, 2) != 0)
    syscall(SYS_futex, &table->lock, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

static void unlock(struct hole_table *table) {
  if (atomic_exchange(&table->lock, 0) == 2)
    syscall(SYS_futex, &table->lock, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void lock_blocking_signals(struct hole_table *table, uint64_t *before) {
  dsm_signals_block(before);
  lock(table);
}

static void unlock_restoring_signals(struct hole_table *table, const uint64_t *before) {
  unlock(table);
  dsm_signals_restore(before);
}

void hole_table_init(struct hole_table *table) {
  memset(table, 0, sizeof *table);
  table->shadow_fd = -1;
  table->next_id = 1;
  table->last_opened = UINT64_MAX - 1; /* no page follows it */
}

static int is_open(const struct hole_table *table, uint64_t page) {
  return (table->opened[page / 64] >> (page % 64)) & 1;
}

static int is_backed(const struct hole_table *table, uint64_t page) {
  return (table->backed[page / 64] >> (page % 64)) & 1;
}

static void set_backed(struct hole_table *table, uint64_t page, int backed) {
  if (is_backed(table, page) == backed)
    return;
  table->backed[page / 64] ^= 1ull << (page % 64);
  table->backed_pages += backed ? 1 : -1ull;
}

static int is_loose(const struct hole_table *table, uint64_t page) {
  return (table->loose[page / 64] >> (page % 64)) & 1;
}

static int page_shared(struct hole_table *table, const struct hole *except, uint64_t page_offset);

/* Which bytes of a hole are private: of one dug in direct mode those of its whole pages, also when that is over. */
static uint64_t private_from(const struct hole *hole) {
  return hole->whole_pages ? hole->inner_from : hole->from;
}

static uint64_t private_to(const struct hole *hole) {
  return hole->whole_pages ? hole->inner_to : hole->to;
}

/* The hole that has this byte, or NULL. */
static struct hole *hole_at(struct hole_table *table, uint64_t offset) {
  for (int i = 0; i < DSM_HOLES_MAX; i++)
    if (table->holes[i].id != 0 && !table->holes[i].filling && offset >= private_from(&table->holes[i]) &&
        offset < private_to(&table->holes[i]))
      return &table->holes[i];
  return NULL;
}

static int is_inner(const struct hole *hole, uint64_t offset) {
  return offset >= hole->inner_from && offset < hole->inner_to;
}

/* Whether a page outside all holes may be opened: under release, unless atomic operations happen there. Lock held. */
static int may_loosen(struct hole_table *table, uint64_t page) {
  return table->releases && table->atomics[page] == 0 && !page_shared(table, NULL, page * PAGE_BYTES);
}

/* How many pages to prepare for a write to `page`: more each time while a process writes one after the other. */
static uint32_t next_run(const struct hole_table *table, uint64_t page) {
  uint32_t run = page == table->last_opened + 1 ? table->run_of_pages * 2 : 1;
  return run < PAGES_AT_ONCE_MAX ? run : PAGES_AT_ONCE_MAX;
}

/* Which pages of a hole to open for a write to `page`, which is not open: [*first, *end). */
static void choose_pages(struct hole_table *table, const struct hole *hole, uint64_t page, uint64_t *first,
                         uint64_t *end) {
  uint64_t inner_first = hole->inner_from / PAGE_BYTES, inner_end = hole->inner_to / PAGE_BYTES;
  if (table->openings >= OPENINGS_MAX) {
    uint64_t chunk = page / CHUNK_PAGES * CHUNK_PAGES;
    *first = chunk > inner_first ? chunk : inner_first;
    *end = chunk + CHUNK_PAGES < inner_end ? chunk + CHUNK_PAGES : inner_end;
    return;
  }
  uint32_t run = next_run(table, page);
  *first = page;
  *end = page + 1;
  while (*end < page + run && *end < inner_end && !is_open(table, *end))
    ++*end;
}

static void set_bits(uint64_t *bits, uint64_t first, uint64_t end) {
  for (uint64_t page = first; page < end; page++)
    bits[page / 64] |= 1ull << (page % 64);
}

/* Gives this process copies of the pages, mapped in their place with `protection`. Lock held. 0, or -1. */
static int copy_pages(dsm_session *session, uint64_t first, uint64_t end, int protection) {
  struct hole_table *table = &session->holes;
  /* Want of memory is found out here and not by the copy, as a SIGBUS. */
  int backed = 1;
  for (uint64_t page = first; page < end; page++)
    backed &= is_backed(table, page);
  if (!backed &&
      syscall(SYS_fallocate, table->shadow_fd, 0, first * PAGE_BYTES, (end - first) * PAGE_BYTES) != 0)
    return -1;
  size_t bytes = (size_t)(end - first) * PAGE_BYTES;
  if (end - first >= POPULATE_PAGES_MIN && !is_backed(table, first) && !is_backed(table, end - 1)) {
    /* Where the kernel is older than that (Linux 5.14) the copies do it. */
    madvise(table->shadow + first * PAGE_BYTES, bytes, MADV_POPULATE_WRITE);
    madvise(table->twin + first * PAGE_BYTES, bytes, MADV_POPULATE_WRITE);
  }
  for (uint64_t page = first; page < end; page++) {
    if (is_open(table, page) || is_loose(table, page))
      continue;
    /* The replica may change while we copy, a word at a time; the twin is made from the copy, so both begin the
     * same. */
    uint64_t at = page * PAGE_BYTES;
    copy_words(table->shadow + at, table->alias + at, PAGE_BYTES);
    memcpy(table->twin + at, table->shadow + at, PAGE_BYTES);
  }
  void *place = (void *)(session->base + first * PAGE_BYTES);
  if (mmap(place, bytes, protection, MAP_SHARED | MAP_FIXED | MAP_POPULATE, table->shadow_fd,
           (off_t)(first * PAGE_BYTES)) == MAP_FAILED)
    return -1;
  madvise(place, bytes, MADV_DONTFORK);
  for (uint64_t page = first; page < end; page++)
    set_backed(table, page, 1);
  table->openings++;
  return 0;
}

/* Opens the page of a hole, and the pages behind it if this process writes one after the other. Lock held. 0, or -1. */
static int open_pages(dsm_session *session, const struct hole *hole, uint64_t offset) {
  struct hole_table *table = &session->holes;
  uint64_t first, end;
  choose_pages(table, hole, offset / PAGE_BYTES, &first, &end);
  if (copy_pages(session, first, end, PROT_READ | PROT_WRITE) != 0)
    return -1;
  set_bits(table->opened, first, end);
  table->last_opened = end - 1;
  table->run_of_pages = (uint32_t)(end - first);
  return 0;
}

/* The page becomes this process's own, but stays closed: its stores are still captured. Lock held. 0, or -1. */
static int loosen_page(dsm_session *session, uint64_t page) {
  struct hole_table *table = &session->holes;
  if (copy_pages(session, page, page + 1, PROT_READ) != 0)
    return -1;
  set_bits(table->loose, page, page + 1);
  return 0;
}

/* A plain store under release to a page that is not open: whether the page is open now. A page is opened when enough has
 * been stored there, or to the page before it; until then an atomic operation there still traps. Pages ahead are only
 * made ready, and trap once more, until the process has filled so many in a row that the next ones are surely filled
 * too. Lock held. */
static int open_loose(dsm_session *session, uint64_t page) {
  struct hole_table *table = &session->holes;
  int follows = page == table->last_opened + 1;
  int is_many = table->openings >= OPENINGS_MAX;
  int is_ready = is_loose(table, page);
  if (!is_many && !follows && !(is_ready && table->stores[page] >= STORES_TO_OPEN))
    return 0;
  uint64_t opened_end = page + 1;
  if (!is_ready || is_many) {
    uint32_t run = is_many ? CHUNK_PAGES : next_run(table, page);
    int ahead = is_many || (follows && table->run_of_pages == PAGES_AT_ONCE_MAX);
    uint64_t end = page + 1;
    while (end < page + run && end < session->size / PAGE_BYTES && !is_loose(table, end) && may_loosen(table, end))
      end++;
    if (copy_pages(session, page, end, PROT_READ | (ahead ? PROT_WRITE : 0)) != 0)
      return 0;
    set_bits(table->loose, page, end);
    table->run_of_pages = run;
    if (ahead)
      opened_end = end;
    is_ready = !ahead;
  }
  if (is_ready && mprotect((void *)(session->base + page * PAGE_BYTES), PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
    return 0;
  set_bits(table->opened, page, opened_end);
  table->last_opened = opened_end - 1;
  return 1;
}

int hole_fault(dsm_session *session, uintptr_t address, int atomic) {
  struct hole_table *table = &session->holes;
  if (atomic_load_explicit(&table->count, memory_order_acquire) == 0)
    return 0;
  uint64_t offset = address - session->base, page = offset / PAGE_BYTES;
  int opened = 0;
  lock(table);
  const struct hole *hole = hole_at(table, offset);
  if (hole != NULL)
    opened = is_inner(hole, offset) && (is_open(table, page) || open_pages(session, hole, offset) == 0);
  else if (table->releases && atomic_load(&session->dead))
    opened = -1;
  else if (!atomic && may_loosen(table, page))
    opened = is_open(table, page) || open_loose(session, page);
  unlock(table);
  return opened;
}

int hole_store(dsm_session *session, struct hole_store *store, struct dsm_run *rest, uint32_t room) {
  struct hole_table *table = &session->holes;
  uint32_t left = 0;
  int failed = 0;
  lock(table);
  while (store->count > 0 && left < room && !failed) {
    uint64_t at = store->runs->offset + store->done;
    uint64_t to = store->runs->offset + store->runs->length;
    const uint8_t *bytes = store->runs->bytes + store->done;
    const struct hole *hole = hole_at(table, at);
    if (hole != NULL) {
      if (to > private_to(hole))
        to = private_to(hole);
      if (is_inner(hole, at)) {
        if (to > PAGE_FLOOR(at) + PAGE_BYTES)
          to = PAGE_FLOOR(at) + PAGE_BYTES;
        failed = !is_open(table, at / PAGE_BYTES) && open_pages(session, hole, at) != 0;
      } else if (at < hole->inner_from && to > hole->inner_from) {
        to = hole->inner_from;
      }
      if (!failed)
        copy_words(table->shadow + at, bytes, to - at);
    } else {
      for (int h = 0; h < DSM_HOLES_MAX; h++) {
        const struct hole *other = &table->holes[h];
        if (other->id != 0 && !other->filling && private_from(other) > at && private_from(other) < to &&
            private_from(other) < private_to(other))
          to = private_from(other);
      }
      if (table->releases && to > PAGE_FLOOR(at) + PAGE_BYTES)
        to = PAGE_FLOOR(at) + PAGE_BYTES;
      uint64_t page = at / PAGE_BYTES;
      int ours = table->releases && (is_open(table, page) || is_loose(table, page) ||
                                     (may_loosen(table, page) && loosen_page(session, page) == 0));
      if (ours) {
        copy_words(table->shadow + at, bytes, to - at);
        written_mark(table->written, table->shadow, table->twin, at, to);
        if (table->stores[page] < STORES_TO_OPEN)
          table->stores[page]++;
      } else {
        rest[left++] = (struct dsm_run){.offset = at, .length = (uint32_t)(to - at), .bytes = bytes};
      }
    }
    store->done += (uint32_t)(to - at);
    if (store->done == store->runs->length) {
      store->runs++;
      store->count--;
      store->done = 0;
    }
  }
  unlock(table);
  return failed ? -1 : (int)left;
}

/* What session.ts's MapBytes.atomic() does, on one process's own bytes. */
static void execute(enum dsm_atomic_op op, uint32_t width, uint8_t *place, const void *operand, const void *compare,
                    void *old) {
  unsigned __int128 before = 0, with = 0, expected = 0, after = 0;
  memcpy(&before, place, width);
  memcpy(&with, operand, width);
  memcpy(&expected, compare, width);
  switch (op) {
  case DSM_ATOMIC_ADD:
    after = before + with;
    break;
  case DSM_ATOMIC_AND:
    after = before & with;
    break;
  case DSM_ATOMIC_OR:
    after = before | with;
    break;
  case DSM_ATOMIC_XOR:
    after = before ^ with;
    break;
  case DSM_ATOMIC_XCHG:
    after = with;
    break;
  case DSM_ATOMIC_CMPXCHG:
    after = before == expected ? with : before;
    break;
  case DSM_ATOMIC_NEG:
    after = -before;
    break;
  }
  memcpy(old, &before, width);
  copy_words(place, (const uint8_t *)&after, width);
}

int hole_atomic(dsm_session *session, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                const void *compare, void *old) {
  static const uint8_t zeros[16];
  struct hole_table *table = &session->holes;
  int done = 0;
  lock(table);
  struct hole *first = hole_at(table, offset);
  struct hole *last = hole_at(table, offset + width - 1);
  if (first != last)
    done = -1;
  else if (first != NULL) {
    done = 1;
    for (uint64_t at = offset; at < offset + width; at += width - 1 > 0 ? width - 1 : 1)
      if (is_inner(first, at) && !is_open(table, at / PAGE_BYTES) && open_pages(session, first, at) != 0)
        done = -2;
    if (done == 1)
      execute(op, width, table->shadow + offset, operand != NULL ? operand : zeros, compare != NULL ? compare : zeros,
              old);
  }
  unlock(table);
  return done;
}

static void unmap(void *place, size_t size) {
  if (place != NULL && place != MAP_FAILED)
    munmap(place, size);
}

static void *map_file(int fd, uint64_t offset, size_t size, int protection) {
  return mmap(NULL, size, protection, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
}

static void *map_anonymous(size_t size) {
  return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static size_t bitmap_bytes(const dsm_session *session) {
  return (session->size / PAGE_BYTES + 63) / 64 * 8;
}

static void free_shadow(dsm_session *session) {
  struct hole_table *table = &session->holes;
  unmap(table->shadow, session->size);
  unmap(table->twin, session->size);
  unmap(table->opened, bitmap_bytes(session));
  unmap(table->alias, session->size);
  unmap(table->staging, WIRE_STAGING_SIZE);
  unmap(table->written, WRITTEN_BYTES(session->size));
  free(table->holes);
  free(table->loose);
  free(table->backed);
  free(table->stores);
  if (table->shadow_fd >= 0)
    close(table->shadow_fd);
  table->shadow = table->twin = table->alias = table->staging = table->written = NULL;
  table->opened = table->loose = table->backed = NULL;
  table->stores = NULL;
  table->holes = NULL;
  table->backed_pages = 0;
  table->shadow_fd = -1;
}

/* The file of the shadow. Where direct mode lasts as long as the session, the arbiter need not see it. A status. */
static int open_shadow(dsm_session *session) {
  struct hole_table *table = &session->holes;
  table->lent = 0;
  if (!session->direct || session->elastic) {
    int status = lent_memory(session, &table->shadow_fd);
    table->lent = table->shadow_fd >= 0;
    if (status != DSM_OK || table->lent)
      return status;
  }
  table->shadow_fd = memfd_create("dsm-shadow", MFD_CLOEXEC);
  if (table->shadow_fd >= 0 && ftruncate(table->shadow_fd, (off_t)session->size) == 0)
    return DSM_OK;
  return dsm_fail(dsm_status_of(errno, DSM_NO_MEMORY), "no memory for a hole: %s", strerror(errno));
}

/* Memory for shadow, twin, bits and staging, once per session. Costs address space until it is used. */
static int make_shadow(dsm_session *session) {
  struct hole_table *table = &session->holes;
  if (table->shadow_fd >= 0)
    return DSM_OK;
  int status = open_shadow(session);
  if (status != DSM_OK) {
    free_shadow(session);
    return status;
  }
  table->holes = calloc(DSM_HOLES_MAX, sizeof *table->holes);
  table->loose = calloc(1, bitmap_bytes(session));
  table->backed = calloc(1, bitmap_bytes(session));
  table->stores = calloc(1, session->size / PAGE_BYTES);
  table->shadow = map_file(table->shadow_fd, 0, session->size, PROT_READ | PROT_WRITE);
  table->alias = map_file(session->map_fd, 0, session->size, session->direct ? PROT_READ | PROT_WRITE : PROT_READ);
  table->twin = map_anonymous(session->size);
  table->opened = map_anonymous(bitmap_bytes(session));
  /* A child has no use for it, and would make each of its pages cost a copy. */
  if (table->twin != MAP_FAILED)
    madvise(table->twin, session->size, MADV_DONTFORK);
  if (table->holes == NULL || table->loose == NULL || table->backed == NULL || table->stores == NULL ||
      table->shadow == MAP_FAILED || table->twin == MAP_FAILED || table->opened == MAP_FAILED || table->alias == MAP_FAILED)
    goto failed;
  if (!session->direct || session->elastic) {
    table->staging = table->lent ? map_file(table->shadow_fd, session->size, WIRE_STAGING_SIZE, PROT_READ | PROT_WRITE)
                                 : map_anonymous(WIRE_STAGING_SIZE);
    if (table->staging == MAP_FAILED)
      goto failed;
  }
  return DSM_OK;
failed:;
  int saved = errno;
  free_shadow(session);
  return dsm_fail(dsm_status_of(saved, DSM_NO_MEMORY), "cannot make the memory of holes: %s", strerror(saved));
}

static int release_locked(dsm_session *session);

/* Tells the arbiter which bytes of an edge page are the hole's (or no longer are). */
static int tell_edge(dsm_session *session, uint8_t kind, uint64_t from, uint64_t to) {
  struct wire_header header = {
      .kind = kind,
      .offset = PAGE_FLOOR(from),
      .length = (uint32_t)(to - from),
      .aux = (uint32_t)(from - PAGE_FLOOR(from)),
  };
  return session_request(session, &header, NULL, 0, 0, -1);
}

/* Whether another open hole has bytes in this page. */
static int page_shared(struct hole_table *table, const struct hole *except, uint64_t page_offset) {
  for (int i = 0; i < DSM_HOLES_MAX; i++) {
    const struct hole *hole = &table->holes[i];
    if (hole != except && hole->id != 0 && private_from(hole) < private_to(hole) &&
        private_from(hole) < page_offset + PAGE_BYTES && private_to(hole) > page_offset)
      return 1;
  }
  return 0;
}

/* The parts of a hole that cover a page only partly: at most two, [0] before and [1] behind its whole pages. */
static int edges(const struct hole *hole, uint64_t parts[2][2]) {
  int count = 0;
  if (hole->whole_pages)
    return 0;
  uint64_t head_end = hole->inner_from < hole->inner_to ? hole->inner_from : hole->to;
  if (hole->inner_from < hole->inner_to || PAGE_FLOOR(hole->from) == PAGE_FLOOR(hole->to - 1)) {
    if (hole->from < head_end) {
      parts[count][0] = hole->from;
      parts[count++][1] = head_end;
    }
    if (hole->inner_from < hole->inner_to && hole->inner_to < hole->to) {
      parts[count][0] = hole->inner_to;
      parts[count++][1] = hole->to;
    }
  } else {
    /* Two pages, neither whole. */
    uint64_t boundary = PAGE_CEIL(hole->from);
    parts[count][0] = hole->from;
    parts[count++][1] = boundary;
    parts[count][0] = boundary;
    parts[count++][1] = hole->to;
  }
  return count;
}

static int close_edge(dsm_session *session, const struct hole *hole, uint64_t from, uint64_t to) {
  uint64_t page = PAGE_FLOOR(from);
  if (!page_shared(&session->holes, hole, page) && session_map_replica(session, page, PAGE_BYTES) != 0)
    return dsm_fail(dsm_status_of(errno, DSM_SYSTEM), "cannot map a page: %s", strerror(errno));
  return tell_edge(session, WIRE_UNSHADOW, from, to);
}

static int open_edge(dsm_session *session, uint64_t from, uint64_t to) {
  struct hole_table *table = &session->holes;
  uint64_t page = PAGE_FLOOR(from);
  /* What memory it has is in use now, and not kept for a use to come. */
  set_backed(table, page / PAGE_BYTES, 0);
  int status = tell_edge(session, WIRE_SHADOW, from, to);
  if (status != DSM_OK)
    return status;
  memcpy(table->twin + from, table->shadow + from, to - from);
  void *place = (void *)(session->base + page);
  if (mmap(place, PAGE_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, table->shadow_fd, (off_t)page) == MAP_FAILED) {
    int saved = errno;
    tell_edge(session, WIRE_UNSHADOW, from, to);
    return dsm_fail(dsm_status_of(saved, DSM_SYSTEM), "cannot map a page: %s", strerror(saved));
  }
  madvise(place, PAGE_BYTES, MADV_DONTFORK);
  return DSM_OK;
}

static int dig(dsm_session *session, void *address, size_t size, int *id) {
  if (id == NULL)
    return dsm_fail(DSM_INVALID, "dsm_hole_dig: nowhere to put the hole's number");
  uint64_t offset = (uintptr_t)address - session->base;
  if (size == 0)
    return dsm_fail(DSM_INVALID, "the hole is empty; give it 1 byte or more");
  if ((uintptr_t)address < session->base || offset >= session->size || size > session->size - offset)
    return dsm_fail(DSM_INVALID, "the hole is not inside the map of %llu bytes", (unsigned long long)session->size);

  struct hole_table *table = &session->holes;
  struct hole *hole = NULL;
  struct hole wanted = {.from = offset, .to = offset + size};
  wanted.inner_from = PAGE_CEIL(wanted.from);
  wanted.inner_to = PAGE_FLOOR(wanted.to);
  if (wanted.inner_to <= wanted.inner_from)
    wanted.inner_from = wanted.inner_to = wanted.from;

  uint64_t before;
  lock_blocking_signals(table, &before);
  wanted.whole_pages = session->direct;
  /* Whoever leaves has dropped the holes already, or waits for the lock to do it. */
  int status = session_check(session);
  if (status == DSM_OK)
    status = make_shadow(session);
  /* What was written before is no part of the hole. */
  if (status == DSM_OK && release_locked(session) != 0)
    status = session_gone(session);
  for (int i = 0; i < DSM_HOLES_MAX && status == DSM_OK; i++) {
    const struct hole *other = &table->holes[i];
    if (other->id == 0)
      hole = hole == NULL ? &table->holes[i] : hole;
    else if (other->from < wanted.to && wanted.from < other->to)
      status = dsm_fail(DSM_INVALID, "the hole overlaps hole %d; fill that one first", other->id);
  }
  if (status == DSM_OK && hole == NULL)
    status = dsm_fail(DSM_LIMIT, "this process has %d holes, the limit; fill one first", DSM_HOLES_MAX);
  if (status == DSM_OK) {
    uint64_t parts[2][2];
    int count = edges(&wanted, parts);
    for (int i = 0; i < count && status == DSM_OK; i++) {
      status = open_edge(session, parts[i][0], parts[i][1]);
      if (status != DSM_OK && i == 1)
        close_edge(session, &wanted, parts[0][0], parts[0][1]);
    }
  }
  if (status == DSM_OK) {
    uint64_t inner = wanted.inner_to - wanted.inner_from;
    if (session->direct && inner > 0)
      mprotect((void *)(session->base + wanted.inner_from), inner, PROT_READ);
    wanted.id = table->next_id++;
    *hole = wanted;
    *id = wanted.id;
    atomic_fetch_add(&table->count, 1);
  }
  unlock_restoring_signals(table, &before);
  return status;
}

int dsm_hole_dig(dsm_session *session, void *address, size_t size, int *id) {
  int status = session_begin(session);
  if (status != DSM_OK)
    return status;
  status = dig(session, address, size, id);
  session_end(session);
  return status;
}

/* A publication being made. Its runs are put together in one part of the staging area while the arbiter takes what is in
 * the others, in their order. A part is ours from when the arbiter has said that it took it. */
struct publication {
  dsm_session *session;
  int fd;
  int failed;
  uint32_t untaken; /* parts the arbiter has been told of and has not taken: not all of them while runs are added */
  struct run_writer writer;
};

/* Waits until the arbiter has taken the part it was told of first. */
static void await_taken(struct publication *publication) {
  struct wire_header header;
  if (!publication->failed && (channel_receive_header(publication->fd, &header) != 0 || header.kind != WIRE_TAKEN))
    publication->failed = 1;
  publication->untaken--;
}

/* A part that the arbiter cannot take from our memory goes over the socket, and may be written over at once. */
static void send_part(struct publication *publication) {
  struct run_writer *writer = &publication->writer;
  struct wire_header header = {
      .size = (uint32_t)sizeof header + writer->length,
      .kind = WIRE_PUBLISH,
      .op = WIRE_PUBLISH_MORE,
      .length = writer->length,
  };
  if (!publication->failed)
    publication->failed = channel_send(publication->fd, &header, sizeof header) != 0 ||
                          channel_send(publication->fd, writer->bytes, writer->length) != 0;
  writer->length = 0;
  writer->joins = RUNS_JOIN_NONE;
}

/* Tells the arbiter of a full part and goes on in the next. */
static void stage_part(struct publication *publication) {
  const struct hole_table *table = &publication->session->holes;
  struct run_writer *writer = &publication->writer;
  if (!table->lent) {
    send_part(publication);
    return;
  }
  struct wire_header header = {
      .size = sizeof header,
      .kind = WIRE_PUBLISH,
      .op = WIRE_PUBLISH_STAGED,
      .offset = (uint64_t)(writer->bytes - table->staging),
      .length = writer->length,
  };
  if (!publication->failed)
    publication->failed = channel_send(publication->fd, &header, sizeof header) != 0;
  if (++publication->untaken == STAGED_PARTS_MAX)
    await_taken(publication);
  writer->bytes = table->staging + (header.offset + WIRE_PUBLISH_PART_MAX) % WIRE_STAGING_SIZE;
  writer->length = 0;
  writer->joins = RUNS_JOIN_NONE;
}

/* Adds what differs between shadow and twin in [from, to), and what captured stores wrote there. */
static void add_changes(struct publication *publication, uint64_t from, uint64_t to) {
  const struct hole_table *table = &publication->session->holes;
  while (from < to) {
    uint64_t page_end = PAGE_FLOOR(from) + PAGE_BYTES;
    uint64_t end = to < page_end ? to : page_end;
    if (publication->session->direct)
      runs_copy(table->alias, table->shadow, table->twin, from, end);
    else if (!runs_add(&publication->writer, table->shadow, table->twin,
                       table->stores[from / PAGE_BYTES] > 0 ? table->written : NULL, from, end)) {
      stage_part(publication);
      continue;
    }
    from = end;
  }
}

/* Claims a channel for a publication. handler-safe, as all of its functions. */
static int begin_publication(dsm_session *session, struct publication *publication) {
  *publication = (struct publication){
      .session = session,
      .fd = -1,
      .writer = {.bytes = session->holes.staging, .room = WIRE_PUBLISH_PART_MAX, .joins = RUNS_JOIN_NONE},
  };
  if (session->direct)
    return -1;
  int slot = channel_claim(&session->channels, CHANNEL_STORE);
  publication->fd = channel_descriptor(&session->channels, slot);
  publication->failed = publication->fd < 0;
  return slot;
}

/* Sends the last part, which may be empty and asks for the answer. A status without words. */
static int end_publication(struct publication *publication, int slot) {
  dsm_session *session = publication->session;
  struct reply reply;
  int status = DSM_OK;
  if (slot < 0)
    return DSM_OK;
  if (publication->writer.length > INLINE_MAX)
    stage_part(publication);
  struct wire_header header = {
      .size = (uint32_t)sizeof header + publication->writer.length,
      .kind = WIRE_PUBLISH,
      .op = WIRE_PUBLISH_LAST,
      .length = publication->writer.length,
  };
  struct channel_writer writer = {.fd = publication->fd, .failed = publication->failed};
  writer_add(&writer, &header, sizeof header);
  writer_add(&writer, publication->writer.bytes, publication->writer.length);
  publication->failed = writer_flush(&writer) != 0;
  while (publication->untaken > 0)
    await_taken(publication);
  if (publication->failed || channel_receive(publication->fd, &reply) != 0 || reply.header.kind != WIRE_REPLY) {
    atomic_store(&session->dead, 1);
    channel_break(&session->channels, slot);
    status = DSM_UNREACHABLE;
  } else {
    status = reply.header.op;
  }
  channel_release(&session->channels, slot);
  return status;
}

/* Publishes the loose pages and puts the replica in their place, run by run. Lock held. */
static int release_locked(dsm_session *session) {
  struct hole_table *table = &session->holes;
  if (!table->releases)
    return 0;
  uint64_t pages = session->size / PAGE_BYTES;
  struct publication publication;
  int slot = -1, any = 0;
  for (int closing = 0; closing < 2; closing++) {
    for (uint64_t page = 0; page < pages;) {
      if (table->loose[page / 64] == 0) {
        page = (page / 64 + 1) * 64;
        continue;
      }
      uint64_t first = page;
      while (page < pages && is_loose(table, page))
        page++;
      if (page == first) {
        page++;
        continue;
      }
      uint64_t from = first * PAGE_BYTES, to = page * PAGE_BYTES;
      if (closing) {
        if (session_map_replica(session, from, to - from) != 0) {
          atomic_store(&session->dead, 1);
          return -1;
        }
        for (uint64_t i = first; i < page; i++) {
          table->loose[i / 64] &= ~(1ull << (i % 64));
          table->opened[i / 64] &= ~(1ull << (i % 64));
          if (table->stores[i] > 0) {
            table->stores[i] = 0;
            memset(table->written + WRITTEN_BYTES(i * PAGE_BYTES), 0, WRITTEN_BYTES(PAGE_BYTES));
          }
        }
        continue;
      }
      if (!any)
        slot = begin_publication(session, &publication);
      any = 1;
      /* A write of another thread waits from here on until the pages are closed, and then opens them again. */
      mprotect((void *)(session->base + from), to - from, PROT_READ);
      add_changes(&publication, from, to);
    }
    if (!any)
      return 0;
    if (!closing && end_publication(&publication, slot) != DSM_OK) {
      /* The pages stay as they are, so that what was written there can be saved; a further store finds the session dead. */
      atomic_store(&session->dead, 1);
      return -1;
    }
  }
  table->openings = 0;
  table->last_opened = UINT64_MAX - 1;
  return 0;
}

int hole_release(dsm_session *session) {
  if (!session->holes.releases)
    return 0;
  lock(&session->holes);
  int result = release_locked(session);
  unlock(&session->holes);
  return result;
}

int release_stores(dsm_session *session) {
  if (!session->holes.releases)
    return DSM_OK;
  uint64_t before;
  lock_blocking_signals(&session->holes, &before);
  int result = release_locked(session);
  unlock_restoring_signals(&session->holes, &before);
  return result == 0 ? DSM_OK : session_gone(session);
}

static void releases_begin(struct hole_table *table) {
  table->releases = 1;
  /* From now on every fault asks here. */
  atomic_fetch_add(&table->count, 1);
}

int hole_begin_release(dsm_session *session) {
  int status = make_shadow(session);
  if (status != DSM_OK)
    return status;
  uint64_t pages = session->size / PAGE_BYTES;
  void *atomics = mmap(NULL, pages, PROT_READ, MAP_SHARED, session->map_fd, (off_t)session->size);
  if (atomics == MAP_FAILED)
    return dsm_fail(dsm_status_of(errno, DSM_NO_MEMORY), "cannot map the session's page marks: %s", strerror(errno));
  session->holes.atomics = atomics;
  void *written = map_anonymous(WRITTEN_BYTES(session->size));
  if (written == MAP_FAILED)
    return dsm_fail(dsm_status_of(errno, DSM_NO_MEMORY), "no memory for marks of what is written: %s", strerror(errno));
  madvise(written, WRITTEN_BYTES(session->size), MADV_DONTFORK);
  session->holes.written = written;
  if (!session->direct)
    releases_begin(&session->holes);
  return DSM_OK;
}

/* Closes what of the map is not closed, or this process's own: [from, to) pages. */
static int close_pages(const dsm_session *session, uint64_t from, uint64_t to) {
  return from < to ? mprotect((void *)(session->base + from * PAGE_BYTES), (to - from) * PAGE_BYTES, PROT_READ) : 0;
}

void hole_end_direct(dsm_session *session) {
  struct hole_table *table = &session->holes;
  uint64_t before;
  /* Until now no store has needed dsm's handlers: whoever has replaced them unseen has not been noticed. */
  if (session->direct) dsm_actions_retake();
  lock_blocking_signals(table, &before);
  if (session->direct) {
    uint64_t pages = session->size / PAGE_BYTES, from = 0;
    int failed = 0;
    for (uint64_t page = 0; table->opened != NULL && page < pages; page++) {
      if (!is_open(table, page))
        continue;
      failed |= close_pages(session, from, page);
      from = page + 1;
    }
    failed |= close_pages(session, from, pages);
    if (failed) {
      /* What it stores would be missing elsewhere. */
      static const char text[] = "dsm: a map cannot be closed to writes, and another node waits for that\n";
      syscall(SYS_write, STDERR_FILENO, text, sizeof text - 1);
      abort();
    }
    session->direct = 0;
    if (table->atomics != NULL && !atomic_load(&session->left))
      releases_begin(table);
  }
  unlock_restoring_signals(table, &before);
}

static int publish_changes(dsm_session *session, const struct hole *hole) {
  struct hole_table *table = &session->holes;
  struct publication publication;
  int slot = begin_publication(session, &publication);

  uint64_t parts[2][2];
  int count = edges(hole, parts);
  int next = 0;
  if (count > 0 && parts[0][0] == hole->from)
    add_changes(&publication, parts[next][0], parts[next][1]), next++;
  for (uint64_t at = hole->inner_from; at < hole->inner_to; at += PAGE_BYTES)
    if (is_open(table, at / PAGE_BYTES))
      add_changes(&publication, at, at + PAGE_BYTES);
  for (; next < count; next++)
    add_changes(&publication, parts[next][0], parts[next][1]);

  int status = end_publication(&publication, slot);
  if (status == DSM_UNREACHABLE)
    return session_gone(session);
  return status == DSM_OK ? DSM_OK : dsm_fail(status, "the session refused what was written to the hole");
}

/* Takes the memory of the pages' shadow and twin from them. */
static void drop_memory(struct hole_table *table, uint64_t first, uint64_t end) {
  for (uint64_t page = first; page < end; page++)
    set_backed(table, page, 0);
  off_t from = (off_t)(first * PAGE_BYTES), length = (off_t)((end - first) * PAGE_BYTES);
  fallocate(table->shadow_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, length);
  madvise(table->twin + from, (size_t)length, MADV_DONTNEED);
}

/* Keeps the memory of few pages that are not open, those of the last hole rather than others. */
static void limit_kept(dsm_session *session, uint64_t first, uint64_t end) {
  struct hole_table *table = &session->holes;
  uint64_t pages = session->size / PAGE_BYTES;
  if (table->backed_pages <= KEPT_PAGES_MAX)
    return;
  for (uint64_t page = 0; page < pages; page++) {
    uint64_t begin = page;
    while (page < pages && (page < first || page >= end) && is_backed(table, page) && !is_open(table, page) &&
           !is_loose(table, page))
      page++;
    if (page > begin)
      drop_memory(table, begin, page);
  }
  if (end - first > KEPT_PAGES_MAX)
    drop_memory(table, first, end);
}

/* Gives the pages of the hole's inside back: replica in their place. */
static int close_inner(dsm_session *session, const struct hole *hole) {
  struct hole_table *table = &session->holes;
  if (hole->inner_from == hole->inner_to)
    return 0;
  uint64_t length = hole->inner_to - hole->inner_from;
  if (session_map_replica(session, hole->inner_from, length) != 0)
    return -1;
  uint64_t first = hole->inner_from / PAGE_BYTES, end = hole->inner_to / PAGE_BYTES;
  for (uint64_t page = first; page < end; page++)
    table->opened[page / 64] &= ~(1ull << (page % 64));
  limit_kept(session, first, end);
  return 0;
}

static int fill(dsm_session *session, int id) {
  struct hole_table *table = &session->holes;
  struct hole *hole = NULL;
  uint64_t before;
  lock_blocking_signals(table, &before);
  int status = session_check(session);
  if (status != DSM_OK) {
    unlock_restoring_signals(table, &before);
    return status;
  }
  for (int i = 0; i < DSM_HOLES_MAX && table->holes != NULL; i++)
    if (id > 0 && table->holes[i].id == id)
      hole = &table->holes[i];
  if (hole == NULL) {
    unlock_restoring_signals(table, &before);
    return dsm_fail(DSM_INVALID, "there is no hole %d; was it filled before?", id);
  }
  /* From here on a write into the hole by another thread waits for the lock and is then ordered like any other. */
  if (hole->inner_from < hole->inner_to)
    mprotect((void *)(session->base + hole->inner_from), hole->inner_to - hole->inner_from, PROT_READ);
  hole->filling = 1;
  status = publish_changes(session, hole);
  uint64_t parts[2][2];
  int count = edges(hole, parts);
  if (close_inner(session, hole) != 0)
    status = dsm_fail(dsm_status_of(errno, DSM_SYSTEM), "cannot map the replica: %s", strerror(errno));
  for (int i = 0; i < count; i++) {
    int closed = close_edge(session, hole, parts[i][0], parts[i][1]);
    if (status == DSM_OK)
      status = closed;
  }
  hole->id = 0;
  hole->filling = 0;
  if (atomic_fetch_sub(&table->count, 1) == 1)
    table->openings = 0;
  unlock_restoring_signals(table, &before);
  return status;
}

int dsm_hole_fill(dsm_session *session, int id) {
  int status = session_begin(session);
  if (status != DSM_OK)
    return status;
  status = fill(session, id);
  session_end(session);
  return status;
}

void hole_drop_all(dsm_session *session) {
  struct hole_table *table = &session->holes;
  if (table->shadow_fd < 0)
    return;
  uint64_t before;
  lock_blocking_signals(table, &before);
  table->releases = 0;
  atomic_store(&table->count, 0);
  session_map_replica(session, 0, session->size);
  free_shadow(session);
  unlock_restoring_signals(table, &before);
}
