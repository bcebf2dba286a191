/* The sink: the interface by which the traps pass on captured stores. */
#ifndef DSM_SINK_H
#define DSM_SINK_H

#include <stdbool.h>
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

/* What a burst of stores may do. */
struct dsm_burst_rules {
  uint32_t bytes;  /* most of a batch; 0: no burst now */
  bool is_strict;  /* no load from the map while stores wait in the batch; else only none that overlaps them */
};

struct dsm_sink {
  /* Handles a fault at an address in the region. Returns 1 if the page is now open for this process (retry the
   * instruction), 0 to capture the store, negative if fatal. `atomic`: the instruction is LOCK-prefixed or xchg, which
   * must not run on a private page. `instruction`: its address. handler-safe. */
  int (*fault)(void *context, uintptr_t address, int atomic, uintptr_t instruction);
  /* The program is about to store to all of these bytes, by this instruction. Returns a number above 0: so many from the
   * first one on can be stored to without a trap now. Below 0: so many, without the sign, are to be given to store().
   * NULL: all of them are. handler-safe. */
  int64_t (*open)(void *context, uint64_t offset, uint64_t length, uintptr_t instruction);
  /* Publish the runs (in ascending offset order, inside the region, not overlapping) as one entry, and return once the
   * session's order allows the program to go on. 0, or negative: fatal. handler-safe. */
  int (*store)(void *context, const struct dsm_run *runs, uint32_t count);
  /* Execute one atomic operation at its place in the order. `width` is 1, 2, 4, 8 or 16 bytes, little-endian; `old`
   * gets the value before. 0, or negative: fatal. handler-safe. */
  int (*atomic)(void *context, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                const void *compare, void *old);
  /* The program is about to store, and perhaps often. NULL: no burst. handler-safe. */
  struct dsm_burst_rules (*burst_rules)(void *context);
  /* Publish the runs of a burst, and return once the session's order allows the program to go on. They are in the
   * program's order and may overlap; each stands for stores in ascending order. No reader may see them in another order.
   * They may become several entries. 0, or negative: fatal. handler-safe. */
  int (*burst)(void *context, const struct dsm_run *runs, uint32_t count);
  /* Returns the name of the session, for messages. NULL: it has none. handler-safe. */
  const char *(*name)(const void *context);
};

#endif
