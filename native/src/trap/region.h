/* The table of address ranges this library answers faults for, and the sink each hands its captured stores to.
 *
 * capture.c decodes a faulting store, works out which bytes it writes where, and gives them to the region's sink. The
 * sink of a session (session/sink.c) sends them to the arbiter; that of the native tests records them.
 *
 * Everything declared `handler-safe` may run inside the SIGSEGV/SIGTRAP handlers: all signals are blocked, nothing is
 * allocated, no lock that a signal could interrupt is taken, errno is preserved by the caller. */
#ifndef DSM_REGION_H
#define DSM_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trap/sink.h"

enum dsm_region_state {
  DSM_REGION_FREE = 0,
  DSM_REGION_ACTIVE = 1,
  DSM_REGION_LEFT = 2,   /* after dsm_close: readable private copy, stores are an error */
};

/* Registers an active region; `base` and `size` are page-aligned. Returns its index, or -1 when the table is full.
 * A region in state LEFT with the same range is taken over. */
int dsm_region_add(uintptr_t base, size_t size, const struct dsm_sink *sink, void *context);
/* State change ACTIVE -> LEFT, after which the sink is never called again (in-flight calls have returned). */
void dsm_region_leave(int index);
/* What a store to a region that was left does. */
enum dsm_late_stores {
  DSM_LATE_FATAL = 0, /* ends the process with a message */
  DSM_LATE_WAIT = 1,  /* waits until a private copy has replaced the map */
  DSM_LATE_OPEN = 2,  /* opens the copy for writing, with a message, and goes on */
};
/* Sets it to DSM_LATE_WAIT, for an active region. */
void dsm_region_await_copy(int index);
/* Ends DSM_LATE_WAIT: DSM_LATE_OPEN if there is a copy, else DSM_LATE_FATAL. */
void dsm_region_copied(int index, int has_copy);
/* Returns whether stores open the copy, or have done so. */
int dsm_region_is_forgiving(int index);
/* Removes the region: faults there then go to the handler of the program. */
void dsm_region_remove(int index);

/* ---- Bytes that the kernel writes, not an instruction of the program ---- */

/* Most bytes of a store that go to the arbiter in one frame. */
#define DSM_STORE_BYTES_MAX 65536u
/* Most bytes dsm_region_write gives to a sink's store() at once. */
#define DSM_WRITE_BYTES_MAX (1u << 20)

#pragma GCC visibility push(hidden)
/* All regions that this process has had lie in [low, high): addresses elsewhere need no lookup. */
extern uintptr_t dsm_regions_low, dsm_regions_high;
#pragma GCC visibility pop

/* Returns false if no byte of [address, address + size) is in a region, true if some may be. handler-safe. */
static inline bool dsm_regions_near(const void *address, size_t size) {
  uintptr_t from = (uintptr_t)address;
  return from < __atomic_load_n(&dsm_regions_high, __ATOMIC_RELAXED) &&
         from + size > __atomic_load_n(&dsm_regions_low, __ATOMIC_RELAXED);
}

/* Finds the first part of [address, address + size) that lies in an active region of this process. *start is its
 * address; returns its length in bytes, 0 if there is none. handler-safe. */
size_t dsm_region_part(uintptr_t address, size_t size, uintptr_t *start);

/* Says which pages of the active region at `base` the process can store to without a trap: those whose bits are set, or
 * DSM_ALL_OPEN, or none (NULL). The bits may change, and be unmapped, at any time. handler-safe. */
#define DSM_ALL_OPEN ((const uint64_t *)1)
void dsm_region_show_open(uintptr_t base, const uint64_t *open);

/* Returns how many of the bytes at [address, address + size) the process can store to without a trap now, from the first
 * one on, in one region. It is a hint: it neither locks nor enters the region, so a signal handler may jump out of it.
 * handler-safe, with SIGSEGV open. */
size_t dsm_region_writable(uintptr_t address, size_t size);

/* The process is about to store to all of these bytes, which lie in a region, by this instruction. Returns a number above
 * 0: so many it can store itself. Below 0: so many, without the sign, are for dsm_region_write(). */
ptrdiff_t dsm_region_open(uintptr_t address, size_t size, uintptr_t instruction);

/* Publishes the bytes as stores to [address, address + size), all of which lies in active regions. 0, or -1 with errno:
 * EFAULT (some of it does not, or does not any more), EIO (the sink failed). Then part of them may be published. */
int dsm_region_write(uintptr_t address, const void *bytes, size_t size);

#endif
