#include "trap/alu.h"

/* CF is set from `carry` first, because adc, sbb, inc and dec need or keep it. lahf and seto fetch the flags without
 * touching the stack, so no red zone is in danger. */
#define RUN(type, text)                                                                                                \
  do {                                                                                                                 \
    type value = (type)old, second = (type)operand;                                                                    \
    __asm__("addb $-1, %[carry]\n\t" text "\n\tlahf\n\tseto %%al"                                                      \
            : "=&a"(ax), [value] "+&r"(value), [carry] "+&r"(carry)                                                    \
            : [second] "r"(second)                                                                                     \
            : "cc");                                                                                                   \
    result = value;                                                                                                    \
  } while (0)

#define BY_WIDTH(text)                                                                                                 \
  switch (width) {                                                                                                     \
    case 1: RUN(uint8_t, text); break;                                                                                 \
    case 2: RUN(uint16_t, text); break;                                                                                \
    case 4: RUN(uint32_t, text); break;                                                                                \
    default: RUN(uint64_t, text); break;                                                                               \
  }

uint64_t dsm_alu(enum dsm_alu_op op, unsigned width, uint64_t old, uint64_t operand, uint64_t *flags) {
  uint32_t ax = 0;
  uint8_t carry = *flags & DSM_FLAG_BITS_CF;
  uint64_t result = old, bit = 1ull << (operand & (width * 8 - 1));
  switch (op) {
    case DSM_ALU_XADD:
    case DSM_ALU_ADD: BY_WIDTH("add %[second], %[value]"); break;
    case DSM_ALU_ADC: BY_WIDTH("adc %[second], %[value]"); break;
    case DSM_ALU_SUB: BY_WIDTH("sub %[second], %[value]"); break;
    case DSM_ALU_SBB: BY_WIDTH("sbb %[second], %[value]"); break;
    case DSM_ALU_AND: BY_WIDTH("and %[second], %[value]"); break;
    case DSM_ALU_OR: BY_WIDTH("or %[second], %[value]"); break;
    case DSM_ALU_XOR: BY_WIDTH("xor %[second], %[value]"); break;
    case DSM_ALU_INC: BY_WIDTH("inc %[value]"); break;
    case DSM_ALU_DEC: BY_WIDTH("dec %[value]"); break;
    case DSM_ALU_NEG: BY_WIDTH("neg %[value]"); break;
    case DSM_ALU_CMP: BY_WIDTH("cmp %[second], %[value]"); break;
    case DSM_ALU_NOT: return ~old;
    case DSM_ALU_BTS:
    case DSM_ALU_BTR:
    case DSM_ALU_BTC:
      *flags = (*flags & ~(uint64_t)DSM_FLAG_BITS_CF) | ((old & bit) != 0 ? DSM_FLAG_BITS_CF : 0);
      return op == DSM_ALU_BTS ? old | bit : op == DSM_ALU_BTR ? old & ~bit : old ^ bit;
    case DSM_ALU_XCHG:
    case DSM_ALU_CMPXCHG:
    case DSM_ALU_CMPXCHG_PAIR: return old;
  }
  *flags = (*flags & ~(uint64_t)DSM_FLAG_BITS_ALL) | ((ax >> 8) & 0xd5u) | ((ax & 1) != 0 ? 0x800u : 0);
  return result;
}
