/* The registers in the signal frame. handler-safe, but for dsm_frame_init(). */
#ifndef DSM_FRAME_H
#define DSM_FRAME_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "trap/instruction.h"

#pragma GCC visibility push(hidden)

/* Finds where the processor puts the parts of its XSAVE area. Not handler-safe. */
void dsm_frame_init(void);
extern const uint8_t dsm_frame_gregs[16]; /* REG_RAX ... by the processor's numbers */
uint64_t dsm_frame_gpr(const greg_t *regs, unsigned reg);
/* Writes `width` bytes of a general register as an instruction does: 4 clears the upper half, 1 and 2 keep the rest. */
void dsm_frame_set_gpr(greg_t *regs, unsigned reg, unsigned offset, unsigned width, uint64_t value);
/* All 64 bytes of vector register `reg`. False if the frame does not have all that was asked for. */
bool dsm_frame_vector(const ucontext_t *context, unsigned reg, unsigned bytes, uint8_t out[64]);
bool dsm_frame_opmask(const ucontext_t *context, unsigned reg, uint64_t *value);
bool dsm_frame_set_opmask(ucontext_t *context, unsigned reg, uint64_t value);
/* Bytes an XSAVE (XSAVEC) of the components in `mask` may touch. */
unsigned dsm_frame_xsave_bytes(uint64_t mask, bool compacted);
/* Base of fs or gs. */
uint64_t dsm_frame_segment_base(unsigned segment);

/* Address of the memory operand, segment base included. */
uintptr_t dsm_frame_address(const greg_t *regs, const struct dsm_insn *insn);

#pragma GCC visibility pop

#endif
