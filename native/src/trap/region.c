/* The region table. Lookups take no lock: a thread enters a region by counting itself in and then looking whether the
 * region is still what it was; a thread that changes a region does so first and then waits for the count to reach
 * zero. */
#include "trap/region.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trap/guard.h"
#include "trap/region_entry.h"
#include "trap/signals.h"
#include "trap/step.h"
#include "trap/syscall.h"
#include "trap/tool.h"

#define REGIONS_MAX 64
#define PAGE_BYTES 4096u

static struct dsm_region regions[REGIONS_MAX];
/* No entry from this one on was ever used. */
static unsigned regions_used;

uintptr_t dsm_regions_low = UINTPTR_MAX, dsm_regions_high;

/* In a page of its own, which the kernel clears in a forked child. */
uint64_t *dsm_token_page;
static uint64_t tokens_given;

int dsm_process_token_renew(void) {
  if (dsm_token_page == NULL) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *fresh = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) return -1;
    if (madvise(fresh, page, MADV_WIPEONFORK) != 0) {
      int reason = errno;
      munmap(fresh, page);
      errno = reason;
      return -1;
    }
    dsm_token_page = fresh;
  }
  if (dsm_process_token() != 0) return 0;
  __atomic_store_n(dsm_token_page, ++tokens_given, __ATOMIC_RELEASE);
  return 1;
}

struct dsm_region *dsm_region_enter(uintptr_t address) {
  for (unsigned i = 0; i < __atomic_load_n(&regions_used, __ATOMIC_RELAXED); i++) {
    struct dsm_region *r = &regions[i];
    uintptr_t base = __atomic_load_n(&r->base, __ATOMIC_RELAXED);
    size_t size = __atomic_load_n(&r->size, __ATOMIC_RELAXED);
    if (address - base >= size) continue;
    __atomic_fetch_add(&r->inside, 1, __ATOMIC_SEQ_CST);
    uint32_t state = __atomic_load_n(&r->state, __ATOMIC_SEQ_CST);
    if ((state == DSM_REGION_ACTIVE || state == DSM_REGION_LEFT) &&
        address - __atomic_load_n(&r->base, __ATOMIC_RELAXED) < __atomic_load_n(&r->size, __ATOMIC_RELAXED)) {
      return r;
    }
    dsm_region_exit(r);
  }
  return NULL;
}

struct dsm_region *dsm_region_enter_near(uintptr_t address, uintptr_t behind, uintptr_t before) {
  uint64_t token = dsm_process_token();
  uintptr_t inside = 0, nearest = UINTPTR_MAX;
  for (unsigned i = 0; i < __atomic_load_n(&regions_used, __ATOMIC_RELAXED); i++) {
    struct dsm_region *r = &regions[i];
    if (__atomic_load_n(&r->state, __ATOMIC_ACQUIRE) != DSM_REGION_ACTIVE || r->owner != token) continue;
    uintptr_t base = __atomic_load_n(&r->base, __ATOMIC_RELAXED);
    uintptr_t end = base + __atomic_load_n(&r->size, __ATOMIC_RELAXED);
    int is_behind = address >= end;
    uintptr_t distance = is_behind ? address - end : base - address;
    if (distance > (is_behind ? behind : before) || distance >= nearest) continue;
    nearest = distance;
    inside = is_behind ? end - 1 : base;
  }
  struct dsm_region *region = nearest == UINTPTR_MAX ? NULL : dsm_region_enter(inside);
  if (region == NULL || __atomic_load_n(&region->state, __ATOMIC_ACQUIRE) == DSM_REGION_ACTIVE) return region;
  dsm_region_exit(region);
  return NULL;
}

void dsm_region_exit(struct dsm_region *region) {
  uint32_t before = __atomic_fetch_sub(&region->inside, 1, __ATOMIC_SEQ_CST);
  if (before == 1 && __atomic_load_n(&region->state, __ATOMIC_SEQ_CST) != DSM_REGION_ACTIVE) {
    dsm_syscall(SYS_futex, (long)&region->inside, FUTEX_WAKE_PRIVATE, INT32_MAX, 0);
  }
}

/* Waits until no thread is inside. In a forked child the threads of the parent do not exist, so there is no wait. */
static void drain(struct dsm_region *r) {
  if (r->owner != dsm_process_token()) return;
  uint32_t inside;
  while ((inside = __atomic_load_n(&r->inside, __ATOMIC_SEQ_CST)) != 0) {
    dsm_syscall(SYS_futex, (long)&r->inside, FUTEX_WAIT_PRIVATE, (long)inside, 0);
  }
}

/* Widens the bounds, low first: a thread that sees the new high must not miss the region because of the old low. */
static void widen_bounds(uintptr_t low, uintptr_t high) {
  uintptr_t seen = __atomic_load_n(&dsm_regions_low, __ATOMIC_RELAXED);
  while (low < seen &&
         !__atomic_compare_exchange_n(&dsm_regions_low, &seen, low, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
  }
  seen = __atomic_load_n(&dsm_regions_high, __ATOMIC_RELAXED);
  while (high > seen &&
         !__atomic_compare_exchange_n(&dsm_regions_high, &seen, high, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
  }
}

static void widen_used(unsigned used) {
  unsigned seen = __atomic_load_n(&regions_used, __ATOMIC_RELAXED);
  while (used > seen &&
         !__atomic_compare_exchange_n(&regions_used, &seen, used, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
  }
}

int dsm_region_add(uintptr_t base, size_t size, const struct dsm_sink *sink, void *context) {
  int renewed = dsm_process_token_renew();
  if (renewed < 0 || (renewed == 1 && dsm_step_init() != 0)) return -1;
  for (int pass = 0; pass < 2; pass++) {
    /* First pass: the same range, left; second: any free entry. */
    for (int i = 0; i < REGIONS_MAX; i++) {
      struct dsm_region *r = &regions[i];
      uint32_t wanted = pass == 0 ? DSM_REGION_LEFT : DSM_REGION_FREE;
      if (pass == 0 && (__atomic_load_n(&r->base, __ATOMIC_RELAXED) != base ||
                        __atomic_load_n(&r->size, __ATOMIC_RELAXED) != size)) {
        continue;
      }
      if (!__atomic_compare_exchange_n(&r->state, &wanted, DSM_REGION_ADDING, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED)) {
        continue;
      }
      drain(r);
      if (r->owner != dsm_process_token()) __atomic_store_n(&r->inside, 0, __ATOMIC_RELAXED);
      r->owner = dsm_process_token();
      r->sink = sink;
      r->context = context;
      __atomic_store_n(&r->late, DSM_LATE_FATAL, __ATOMIC_RELAXED);
      __atomic_store_n(&r->base, base, __ATOMIC_RELAXED);
      __atomic_store_n(&r->size, size, __ATOMIC_RELAXED);
      __atomic_store_n(&r->open, NULL, __ATOMIC_RELAXED);
      widen_used((unsigned)i + 1);
      widen_bounds(base, base + size);
      __atomic_store_n(&r->state, DSM_REGION_ACTIVE, __ATOMIC_SEQ_CST);
      return i;
    }
  }
  return -1;
}

void dsm_region_leave(int index) {
  if (index < 0 || index >= REGIONS_MAX) return;
  __atomic_store_n(&regions[index].open, NULL, __ATOMIC_RELAXED);
  __atomic_store_n(&regions[index].state, DSM_REGION_LEFT, __ATOMIC_SEQ_CST);
  drain(&regions[index]);
}

void dsm_region_await_copy(int index) {
  if (index < 0 || index >= REGIONS_MAX) return;
  __atomic_store_n(&regions[index].late, DSM_LATE_WAIT, __ATOMIC_SEQ_CST);
}

void dsm_region_copied(int index, int has_copy) {
  if (index < 0 || index >= REGIONS_MAX) return;
  uint32_t wanted = DSM_LATE_WAIT;
  __atomic_compare_exchange_n(&regions[index].late, &wanted, has_copy ? DSM_LATE_OPEN : DSM_LATE_FATAL, false,
                              __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

int dsm_region_is_forgiving(int index) {
  return index >= 0 && index < REGIONS_MAX && __atomic_load_n(&regions[index].late, __ATOMIC_SEQ_CST) == DSM_LATE_OPEN;
}

void dsm_region_remove(int index) {
  if (index < 0 || index >= REGIONS_MAX) return;
  struct dsm_region *r = &regions[index];
  __atomic_store_n(&r->state, DSM_REGION_ADDING, __ATOMIC_SEQ_CST); /* no thread enters or takes the entry */
  drain(r);
  __atomic_store_n(&r->base, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&r->size, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&r->state, DSM_REGION_FREE, __ATOMIC_SEQ_CST);
}

size_t dsm_region_part(uintptr_t address, size_t size, uintptr_t *start) {
  uintptr_t end = address + size, from = end, to = end;
  uint64_t token = dsm_process_token();
  if (end < address) return 0;
  for (unsigned i = 0; i < __atomic_load_n(&regions_used, __ATOMIC_RELAXED); i++) {
    struct dsm_region *r = &regions[i];
    if (__atomic_load_n(&r->state, __ATOMIC_ACQUIRE) != DSM_REGION_ACTIVE || r->owner != token) continue;
    uintptr_t low = __atomic_load_n(&r->base, __ATOMIC_RELAXED);
    uintptr_t high = low + __atomic_load_n(&r->size, __ATOMIC_RELAXED);
    if (low < address) low = address;
    if (high > end) high = end;
    if (low < high && low < from) from = low, to = high;
  }
  *start = from;
  return to - from;
}

/* Enters the region if it is active and this process's. */
static struct dsm_region *enter_own(uintptr_t address) {
  struct dsm_region *r = dsm_region_enter(address);
  if (r == NULL) return NULL;
  if (__atomic_load_n(&r->state, __ATOMIC_ACQUIRE) == DSM_REGION_ACTIVE && r->owner == dsm_process_token()) return r;
  dsm_region_exit(r);
  return NULL;
}

static size_t inside_of(const struct dsm_region *r, uintptr_t address, size_t size) {
  size_t inside = r->base + r->size - address;
  return size < inside ? size : inside;
}

void dsm_region_show_open(uintptr_t base, const uint64_t *open) {
  struct dsm_region *r = enter_own(base);
  if (r == NULL) return;
  __atomic_store_n(&r->open, open, __ATOMIC_RELEASE);
  dsm_region_exit(r);
}

/* Counts the bytes from `offset` on, at most `size`, that lie in open pages. */
static size_t open_bytes(const uint64_t *open, uintptr_t offset, size_t size) {
  uintptr_t page = offset / PAGE_BYTES, end = (offset + size - 1) / PAGE_BYTES + 1;
  while (page < end) {
    uint64_t word;
    struct dsm_guard guard;
    if (dsm_guarded_copy_run(&word, open + page / 64, sizeof word, &guard) != 0) break;
    uint64_t closed = ~word >> page % 64;
    if (closed != 0) {
      page += (unsigned)__builtin_ctzll(closed);
      break;
    }
    page = (page / 64 + 1) * 64;
  }
  uintptr_t to = page * PAGE_BYTES;
  if (to <= offset) return 0;
  return to - offset < size ? to - offset : size;
}

size_t dsm_region_writable(uintptr_t address, size_t size) {
  unsigned used = __atomic_load_n(&regions_used, __ATOMIC_RELAXED);
  for (unsigned i = 0; i < used; i++) {
    const struct dsm_region *r = &regions[i];
    uintptr_t base = __atomic_load_n(&r->base, __ATOMIC_RELAXED);
    size_t inside = __atomic_load_n(&r->size, __ATOMIC_RELAXED);
    if (address - base >= inside) continue;
    const uint64_t *open = __atomic_load_n(&r->open, __ATOMIC_ACQUIRE);
    inside -= address - base;
    if (size < inside) inside = size;
    if (open == NULL || inside == 0) return 0;
    return open == DSM_ALL_OPEN ? inside : open_bytes(open, address - base, inside);
  }
  return 0;
}

ptrdiff_t dsm_region_open(uintptr_t address, size_t size, uintptr_t instruction) {
  int saved_errno = errno;
  uint64_t before;
  dsm_signals_block(&before);
  tool_enter();
  struct dsm_region *r = enter_own(address);
  ptrdiff_t opened = (ptrdiff_t)size;
  if (r != NULL) {
    size_t inside = inside_of(r, address, size);
    opened = -(ptrdiff_t)inside;
    if (r->sink->open != NULL) opened = r->sink->open(r->context, address - r->base, inside, instruction);
    dsm_region_exit(r);
  }
  tool_leave();
  dsm_signals_restore(&before);
  errno = saved_errno;
  return opened;
}

/* Makes one store to one region. Returns the number of bytes stored, or 0 with errno. All signals are blocked. */
static size_t write_some(uintptr_t address, const void *bytes, size_t size) {
  struct dsm_region *r = enter_own(address);
  size_t length = 0;
  errno = EFAULT;
  if (r == NULL) return 0;
  /* Ends at a multiple of the limit of a frame, so that no aligned word is divided. */
  length = DSM_WRITE_BYTES_MAX - address % DSM_STORE_BYTES_MAX;
  if (length > inside_of(r, address, size)) length = inside_of(r, address, size);
  struct dsm_run run = {.offset = address - r->base, .length = (uint32_t)length, .bytes = bytes};
  if (r->sink->store(r->context, &run, 1) < 0) {
    errno = EIO;
    length = 0;
  }
  dsm_region_exit(r);
  return length;
}

int dsm_region_write(uintptr_t address, const void *bytes, size_t size) {
  const uint8_t *from = bytes;
  int saved_errno = errno;
  uint64_t all = ~0ull, before;
  /* On a stack in the map, to which the kernel cannot write either, a store would trap while signals are blocked. */
  if (dsm_syscall(SYS_rt_sigprocmask, SIG_SETMASK, 0, (long)&before, sizeof(before)) != 0) {
    errno = EFAULT;
    return -1;
  }
  while (size > 0) {
    /* The sink expects to be called as the fault handlers call it. */
    dsm_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&before, sizeof(all));
    tool_enter();
    size_t written = write_some(address, from, size);
    tool_leave();
    dsm_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof(before));
    if (written == 0) return -1;
    address += written;
    from += written;
    size -= written;
  }
  errno = saved_errno;
  return 0;
}
