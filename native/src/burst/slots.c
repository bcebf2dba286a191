/* Slots belong to threads, by their ids, because a thread still runs on its slot's stack when it leaves a
 * burst. A thread that has ended leaves its slot to the next one that needs one. */
#include "burst/slot.h"

#include <asm/prctl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trap/frame.h"
#include "trap/syscall.h"

#define HWCAP2_FSGSBASE_BIT 2

static struct burst_slot *slots[BURST_SLOTS]; /* NULL: not mapped yet */
static uint32_t owners[BURST_SLOTS]; /* ids of threads; 0: none yet */
static bool has_instructions; /* rdgsbase and wrgsbase */

void burst_slots_init(void) {
  memset(slots, 0, sizeof slots);
  memset(owners, 0, sizeof owners);
  has_instructions = (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT) != 0;
}

/* Maps a slot: at a multiple of its size, so twice as much first. NULL: no memory. */
static struct burst_slot *map_slot(void) {
  const uintptr_t size = BURST_SLOT_BYTES;
  void *fresh = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fresh == MAP_FAILED) return NULL;
  uintptr_t begin = (uintptr_t)fresh, slot = (begin + size - 1) & ~(size - 1);
  if (slot > begin) munmap(fresh, slot - begin);
  if (slot < begin + size) munmap((void *)(slot + size), begin + size - slot);
  madvise((void *)slot, size, MADV_DONTFORK);
  return (struct burst_slot *)slot;
}

/* Returns the slot of an owner, and maps it first if need be. */
static struct burst_slot *slot_at(unsigned index) {
  if (slots[index] == NULL) __atomic_store_n(&slots[index], map_slot(), __ATOMIC_RELEASE);
  return slots[index];
}

static bool has_ended(uint32_t thread) {
  return dsm_syscall(SYS_tgkill, getpid(), thread, 0, 0) < 0;
}

struct burst_slot *burst_slot_of_thread(void) {
  uint32_t self = (uint32_t)dsm_syscall(SYS_gettid, 0, 0, 0, 0);
  for (unsigned i = 0; i < BURST_SLOTS; i++) {
    uint32_t owner = __atomic_load_n(&owners[i], __ATOMIC_RELAXED);
    if (owner == self) return slot_at(i);
    if (owner == 0) break;
  }
  for (unsigned i = 0; i < BURST_SLOTS; i++) {
    uint32_t owner = __atomic_load_n(&owners[i], __ATOMIC_RELAXED);
    if ((owner == 0 || has_ended(owner)) &&
        __atomic_compare_exchange_n(&owners[i], &owner, self, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
      return slot_at(i);
  }
  return NULL;
}

struct burst_slot *burst_slot_at(uint64_t address) {
  for (unsigned i = 0; i < BURST_SLOTS && __atomic_load_n(&owners[i], __ATOMIC_RELAXED) != 0; i++) {
    struct burst_slot *slot = __atomic_load_n(&slots[i], __ATOMIC_ACQUIRE);
    if (slot != NULL && address - (uint64_t)slot < BURST_SLOT_BYTES) return slot;
  }
  return NULL;
}

uint64_t burst_gs_base(void) {
  uint64_t base;
  if (!has_instructions) return dsm_frame_segment_base(DSM_SOURCE_GS);
  __asm__ volatile("rdgsbase %0" : "=r"(base));
  return base;
}

void burst_set_gs_base(uint64_t base) {
  if (has_instructions)
    __asm__ volatile("wrgsbase %0" ::"r"(base));
  else
    dsm_syscall(SYS_arch_prctl, ARCH_SET_GS, (long)base, 0, 0);
}
