/* The instructions around a store, as a burst sees them. */
#ifndef DSM_BURST_INSN_H
#define DSM_BURST_INSN_H

#include <stdint.h>

/* Instructions of one translation. */
#define BURST_INSNS_MAX 256u
/* Bytes that one instruction stores, at most. */
#define BURST_STORE_MAX 64u
/* Flags that instructions compute: CF, PF, AF, ZF, SF, OF. */
#define BURST_FLAGS 0x8d5u

enum burst_kind {
  BURST_EXIT = 0, /* not known, or not allowed in a burst: the burst ends before it */
  BURST_PLAIN,    /* runs as it is: no memory, or memory whose address is known not to be in a map */
  BURST_NOTHING,  /* no effect: nop, prefetch */
  BURST_LEA,      /* the address of rip-relative memory */
  BURST_LOAD,     /* reads memory */
  BURST_STORE,    /* writes memory, without reading it */
  BURST_RMW,      /* reads, computes, writes: no LOCK */
  BURST_JUMP,     /* direct */
  BURST_BRANCH,   /* direct, on a condition */
};

enum { BURST_NONE = -1, BURST_RIP = 16 };

struct burst_insn {
  uint64_t rip;
  uint64_t target;   /* of a jump or branch */
  uint8_t bytes[15];
  uint8_t length;
  uint8_t kind;      /* enum burst_kind */
  uint8_t width;     /* bytes of the memory operand, at most BURST_STORE_MAX */
  uint8_t condition; /* of a branch: as in its opcode */
  uint8_t modrm_at;  /* where ModRM is in `bytes`; 0: there is none */
  uint8_t scale;     /* 0 to 3: the index times 1, 2, 4, 8 */
  uint8_t cost;      /* in units of the budget */
  int8_t base;       /* general register by the processor's number, BURST_RIP or BURST_NONE */
  int8_t index;
  int8_t result;     /* of BURST_LEA: the register */
  int32_t disp;
  uint16_t uses;     /* a bit for each general register that it reads or writes */
  uint16_t reads;    /* flags */
  uint16_t kills;    /* flags that it surely overwrites */
  uint16_t live;     /* flags whose values before it may still be read */
  int16_t next; /* index of the instruction that follows it; BURST_NONE: not in the translation, or none follows */
  int16_t to; /* index of the target, likewise */
};

static inline uint64_t burst_after(const struct burst_insn *insn) {
  return insn->rip + insn->length;
}

/* Reads code of the program. */
struct burst_reader {
  /* Copies up to 15 bytes from `rip` on. Returns how many are readable. */
  unsigned (*read)(void *context, uint64_t rip, uint8_t bytes[15]);
  void *context;
};

#pragma GCC visibility push(hidden)

/* Follows the code from `rip` on, along straight lines and direct jumps. Returns how many instructions it has found, 1 to
 * BURST_INSNS_MAX, the one at `rip` first. handler-safe. */
unsigned burst_follow(const struct burst_reader *reader, uint64_t rip, struct burst_insn insns[BURST_INSNS_MAX]);

#pragma GCC visibility pop

#endif
