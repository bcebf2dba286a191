/* What an instruction writes, from XED's description of it. */
#ifndef DSM_CLASSIFY_H
#define DSM_CLASSIFY_H

#include <xed/xed-interface.h>

#include "trap/instruction.h"

#pragma GCC visibility push(hidden)

/* Finds out what tool runs the program. Call before the first dsm_classify(). */
void dsm_classify_init(void);

/* Fills the kind, the operand and the registers of an instruction, whose bytes and length are there. handler-safe. */
void dsm_classify(const xed_decoded_inst_t *x, struct dsm_insn *insn);

#pragma GCC visibility pop

#endif
