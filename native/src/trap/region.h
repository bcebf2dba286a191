/* The table of address ranges this library answers faults for, and the sink each hands its captured stores to.
 *
 * capture.c knows nothing of sockets: it decodes a faulting store, works out which bytes it writes where, and gives
 * them to the region's sink. client.c's sink sends them to the arbiter; the native tests' sink records them.
 *
 * Everything declared `handler-safe` may run inside the SIGSEGV/SIGTRAP handlers: all signals are blocked, nothing is
 * allocated, no lock that a signal could interrupt is taken, errno is preserved by the caller. */
#ifndef DSM_REGION_H
#define DSM_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers are part of the wire protocol. The new value is:
 * ADD old + operand | AND old & operand | OR old | operand | XOR old ^ operand | XCHG operand |
 * CMPXCHG old == compare ? operand : old. Arithmetic wraps at `width` bytes. SUB is ADD of the negated operand. */
enum dsm_atomic_op {
  DSM_ATOMIC_ADD = 1,
  DSM_ATOMIC_AND = 2,
  DSM_ATOMIC_OR = 3,
  DSM_ATOMIC_XOR = 4,
  DSM_ATOMIC_XCHG = 5,
  DSM_ATOMIC_CMPXCHG = 6,
  DSM_ATOMIC_NEG = 7, /* 0 - old; operand unused */
};

/* One run of consecutive bytes written by a captured store. */
struct dsm_run {
  uint64_t offset;      /* from the region's base, bytes */
  uint32_t length;      /* bytes, at least 1 */
  const uint8_t *bytes; /* what was written */
};

struct dsm_sink {
  /* The faulting address lies in the region. 1: the page is now open for this process (a hole): run the instruction
   * again. 0: capture the store. Negative: fatal. `atomic`: the instruction is LOCK-prefixed or xchg, which must not run on
   * a page that is this process's own. handler-safe. */
  int (*fault)(void *context, uintptr_t address, int atomic);
  /* Publish the runs (in ascending offset order, inside the region, not overlapping) as one entry, and return once the
   * session's order allows the program to go on. 0, or negative: fatal. handler-safe. */
  int (*store)(void *context, const struct dsm_run *runs, uint32_t count);
  /* Execute one atomic operation at its place in the order. `width` is 1, 2, 4, 8 or 16 bytes, little-endian; `old`
   * gets the value before. 0, or negative: fatal. handler-safe. */
  int (*atomic)(void *context, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                const void *compare, void *old);
};

enum dsm_region_state {
  DSM_REGION_FREE = 0,
  DSM_REGION_ACTIVE = 1,
  DSM_REGION_LEFT = 2,   /* after dsm_close: readable private copy, stores are an error */
};

/* Installs the fault handlers (once; safe to call again, re-installs if somebody replaced them), prepares the decoder.
 * 0, or -1 with errno. */
int dsm_capture_init(void);

/* Registers an active region; `base` and `size` are page-aligned. Returns its index, or -1 when the table is full.
 * A region in state LEFT with the same range is taken over. */
int dsm_region_add(uintptr_t base, size_t size, const struct dsm_sink *sink, void *context);
/* State change ACTIVE -> LEFT, after which the sink is never called again (in-flight calls have returned). */
void dsm_region_leave(int index);
/* Forgets the region: faults there go to the handler that was there before. */
void dsm_region_remove(int index);

/* ---- Bytes that no instruction of the program's writes: those the kernel is asked for ---- */

/* Most bytes dsm_region_write gives to a sink's store() at once. */
#define DSM_STORE_BYTES_MAX 65536u

#pragma GCC visibility push(hidden)
/* Every region there has been in this process lies in [low, high): memory elsewhere needs no look at the table. */
extern uintptr_t dsm_regions_low, dsm_regions_high;
#pragma GCC visibility pop

/* False if no byte of [address, address + size) is in a region. True: maybe. handler-safe. */
static inline bool dsm_regions_near(const void *address, size_t size) {
  uintptr_t from = (uintptr_t)address;
  return from < __atomic_load_n(&dsm_regions_high, __ATOMIC_RELAXED) &&
         from + size > __atomic_load_n(&dsm_regions_low, __ATOMIC_RELAXED);
}

/* The first part of [address, address + size) that lies in an active region this process has added: where it begins,
 * and how many bytes of it there are, 0 if there are none. handler-safe. */
size_t dsm_region_part(uintptr_t address, size_t size, uintptr_t *start);

/* Publishes the bytes as stores to [address, address + size), all of which lies in active regions. 0, or -1 with errno:
 * EFAULT (some of it does not, or does not any more), EIO (the sink failed). Then part of them may be published. */
int dsm_region_write(uintptr_t address, const void *bytes, size_t size);

#endif
