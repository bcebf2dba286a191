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

static struct burst_slot *slots;
static uint32_t owners[BURST_SLOTS]; /* ids of threads; 0: none yet */
static bool has_instructions; /* rdgsbase and wrgsbase */

int burst_slots_init(void) {
  size_t size = (BURST_SLOTS + 1) * (size_t)BURST_SLOT_BYTES;
  uint8_t *fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fresh == MAP_FAILED) return -1;
  madvise(fresh, size, MADV_DONTFORK);
  uintptr_t first = ((uintptr_t)fresh + BURST_SLOT_BYTES - 1) & ~(uintptr_t)(BURST_SLOT_BYTES - 1);
  memset(owners, 0, sizeof owners);
  slots = (struct burst_slot *)first;
  has_instructions = (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT) != 0;
  return 0;
}

static bool has_ended(uint32_t thread) {
  return dsm_syscall(SYS_tgkill, getpid(), thread, 0, 0) < 0;
}

struct burst_slot *burst_slot_of_thread(void) {
  uint32_t self = (uint32_t)dsm_syscall(SYS_gettid, 0, 0, 0, 0);
  for (unsigned i = 0; i < BURST_SLOTS; i++) {
    uint32_t owner = __atomic_load_n(&owners[i], __ATOMIC_RELAXED);
    if (owner == self) return &slots[i];
    if (owner == 0) break;
  }
  for (unsigned i = 0; i < BURST_SLOTS; i++) {
    uint32_t owner = __atomic_load_n(&owners[i], __ATOMIC_RELAXED);
    if ((owner == 0 || has_ended(owner)) &&
        __atomic_compare_exchange_n(&owners[i], &owner, self, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
      return &slots[i];
  }
  return NULL;
}

struct burst_slot *burst_slot_at(uint64_t address) {
  uint64_t offset = address - (uint64_t)slots;
  return slots != NULL && offset < BURST_SLOTS * (uint64_t)BURST_SLOT_BYTES ? &slots[offset / BURST_SLOT_BYTES] : NULL;
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
