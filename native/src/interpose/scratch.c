#define _GNU_SOURCE
#include "interpose/scratch.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trap/syscall.h"
#include "trap/tool.h"

#define PART_BYTES (sizeof(struct iovec) + sizeof(uintptr_t))
#define SLOTS 16
#define SLOT_BYTES (BOUNCE_BYTES + PARTS_MAX * PART_BYTES)

/* Slots of larger scratch. A thread owns a slot while it reads. If it is cancelled there, or jumps out by a signal
 * handler, it keeps the slot until the thread has ended and another one needs the slot. */
static uint8_t *slots;
static uint32_t slot_owners[SLOTS]; /* thread ids; 0: free */

/* Takes the slot if `owner` has it. ThreadSanitizer, which does not see what orders its users, is told. */
static bool take_slot(int slot, uint32_t owner, uint32_t self) {
  if (!__atomic_compare_exchange_n(&slot_owners[slot], &owner, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
    return false;
  tool_acquire(&slot_owners[slot]);
  return true;
}

static int claim_slot(void) {
  uint8_t *all = __atomic_load_n(&slots, __ATOMIC_ACQUIRE);
  if (all == NULL) {
    tool_enter();
    void *fresh =
        mmap(NULL, SLOTS * SLOT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    tool_leave();
    if (fresh == MAP_FAILED) return -1;
    if (!__atomic_compare_exchange_n(&slots, &all, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      munmap(fresh, SLOTS * SLOT_BYTES);
    }
  }
  uint32_t self = (uint32_t)dsm_syscall(SYS_gettid, 0, 0, 0, 0);
  for (int i = 0; i < SLOTS; i++) {
    if (take_slot(i, 0, self)) return i;
  }
  for (int i = 0; i < SLOTS; i++) {
    uint32_t owner = __atomic_load_n(&slot_owners[i], __ATOMIC_RELAXED);
    if (owner != 0 && owner != self && dsm_syscall(SYS_tgkill, getpid(), owner, 0, 0) == -ESRCH &&
        take_slot(i, owner, self))
      return i;
  }
  return -1;
}

int scratch_claim(struct scratch *s, struct small_scratch *small, size_t bytes, unsigned parts) {
  *s = (struct scratch){.bytes = small->bytes,
                        .parts = small->parts,
                        .places = small->places,
                        .bytes_max = sizeof(small->bytes),
                        .parts_max = 4,
                        .slot = -1};
  if (bytes <= s->bytes_max && parts <= s->parts_max) return 0;
  s->parts_max = PARTS_MAX;
  if (bytes <= BOUNCE_BYTES && (s->slot = claim_slot()) >= 0) {
    s->bytes = slots + (size_t)s->slot * SLOT_BYTES;
    s->bytes_max = BOUNCE_BYTES;
  } else {
    /* Only pages that data arrives in cost memory. */
    s->bytes_max = (bytes + 15) & ~(size_t)15;
    s->mapped = s->bytes_max + PARTS_MAX * PART_BYTES;
    s->mapping = mmap(NULL, s->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->mapping == MAP_FAILED) return -1;
    s->bytes = s->mapping;
  }
  s->parts = (struct iovec *)(void *)(s->bytes + s->bytes_max);
  s->places = (uintptr_t *)(void *)(s->parts + PARTS_MAX);
  return 0;
}

void scratch_release(struct scratch *s) {
  if (s->slot >= 0) {
    tool_release(&slot_owners[s->slot]);
    __atomic_store_n(&slot_owners[s->slot], 0, __ATOMIC_RELEASE);
  }
  if (s->mapping != NULL) munmap(s->mapping, s->mapped);
}
