/* Makes the translated copy of code: the instructions as they are, but stores to the map append to the slot's log. */
#ifndef DSM_BURST_TRANSLATE_H
#define DSM_BURST_TRANSLATE_H

#include <stdint.h>

#include "burst/encode.h"
#include "burst/insn.h"

/* Most bytes of code that one instruction becomes. */
#define BURST_CODE_PER_INSN 768u
#define BURST_POINTS_MAX (3u * BURST_INSNS_MAX) /* the load and the two forms of a read-modify-write */

/* An instruction of the copy that may fault, and what has to be put back to have the program's state before it. */
struct burst_point {
  uint32_t from, to; /* bytes from the beginning of the copy */
  uint16_t insn;
  uint8_t scratch1, scratch2; /* registers whose values are in the slot's words; BURST_KEPT: none */
  uint8_t has_flags;          /* so are the flags */
};
#define BURST_KEPT 0xffu

/* Code that all copies share. */
struct burst_stubs {
  const uint8_t *new_run; /* begins a run at words.offset; goes on at words.back. Changes flags only */
  const uint8_t *exit;    /* leaves: all is the program's state at words.exit_rip */
};

#pragma GCC visibility push(hidden)

/* Writes the stubs to `code`; `leave` is called by the exit with a struct burst_saved. */
void burst_write_stubs(struct code *code, struct burst_stubs *stubs, uint64_t leave);

/* Writes the copy to `code`, where there is room for BURST_CODE_PER_INSN * count bytes; its entry is its beginning.
 * Returns how many points it has put into `points`. handler-safe; one thread at a time. */
unsigned burst_translate(const struct burst_insn *insns, unsigned count, const struct burst_stubs *stubs,
                         struct code *code, struct burst_point points[BURST_POINTS_MAX]);

#pragma GCC visibility pop

/* The registers as the exit stub pushes them. */
struct burst_saved {
  uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax, flags;
};

#endif
