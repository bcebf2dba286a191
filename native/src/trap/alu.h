/* The integer unit: the result of a read-modify-write instruction, computed by the processor itself. */
#ifndef DSM_ALU_H
#define DSM_ALU_H

#include <stdint.h>

#pragma GCC visibility push(hidden)

enum dsm_alu_op {
  DSM_ALU_ADD,
  DSM_ALU_ADC,
  DSM_ALU_SUB,
  DSM_ALU_SBB,
  DSM_ALU_AND,
  DSM_ALU_OR,
  DSM_ALU_XOR,
  DSM_ALU_INC,
  DSM_ALU_DEC,
  DSM_ALU_NEG,
  DSM_ALU_NOT,
  DSM_ALU_BTS,
  DSM_ALU_BTR,
  DSM_ALU_BTC,
  DSM_ALU_XADD,
  DSM_ALU_XCHG,
  DSM_ALU_CMPXCHG,
  DSM_ALU_CMPXCHG_PAIR, /* cmpxchg8b, cmpxchg16b */
  DSM_ALU_CMP,          /* flags only: of cmpxchg */
};

#define DSM_FLAG_BITS_CF 0x001u
#define DSM_FLAG_BITS_ZF 0x040u
#define DSM_FLAG_BITS_ALL 0x8d5u /* OF SF ZF AF PF CF */

/* Returns the new value of `old` after `op` with `operand` at `width` bytes (1, 2, 4 or 8), and sets the status flags
 * in *flags as the instruction does. XADD counts as ADD; XCHG and the CMPXCHGs are not computed here. For the bit
 * operations `operand` is the bit's number in `old`, and only CF changes. */
uint64_t dsm_alu(enum dsm_alu_op op, unsigned width, uint64_t old, uint64_t operand, uint64_t *flags);

#pragma GCC visibility pop

#endif
