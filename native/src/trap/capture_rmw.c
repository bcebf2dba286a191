/* Integer read-modify-writes: computed here or, LOCK-prefixed, at their place in the order. */
#include "trap/capture_classes.h"

#include <string.h>

#include "trap/alu.h"
#include "trap/frame.h"
#include "trap/plain_store.h"

typedef uint16_t any_uint16 __attribute__((aligned(1), may_alias));
typedef uint32_t any_uint32 __attribute__((aligned(1), may_alias));
typedef uint64_t any_uint64 __attribute__((aligned(1), may_alias));

static uint64_t load(uintptr_t address, unsigned width) {
  switch (width) { /* one access each: an aligned value is never seen torn */
    case 1: return *(const volatile uint8_t *)address;
    case 2: return *(const volatile any_uint16 *)address;
    case 4: return *(const volatile any_uint32 *)address;
    default: return *(const volatile any_uint64 *)address;
  }
}

/* Captures cmpxchg8b and cmpxchg16b. If the instruction is not locked and the values differ, it publishes nothing:
 * writing the old value back, as the processor may, could overwrite concurrent stores of other processes. */
static enum dsm_outcome capture_pair(struct dsm_fault *f, const struct dsm_insn *insn, uintptr_t address) {
  unsigned half = insn->width / 2;
  uint8_t old[16], compare[16], operand[16];
  uint64_t a = dsm_frame_gpr(f->regs, 0), d = dsm_frame_gpr(f->regs, 2);
  uint64_t b = dsm_frame_gpr(f->regs, 3), c = dsm_frame_gpr(f->regs, 1);
  memcpy(compare, &a, half);
  memcpy(compare + half, &d, half);
  memcpy(operand, &b, half);
  memcpy(operand + half, &c, half);
  bool equal;
  if ((insn->flags & DSM_FLAG_LOCK) != 0) {
    if (f->region->sink->atomic(f->region->context, DSM_ATOMIC_CMPXCHG, insn->width, address - f->region->base, operand,
                                compare, old) < 0) {
      return DSM_OUTCOME_FATAL;
    }
    equal = memcmp(old, compare, insn->width) == 0;
  } else {
    memcpy(old, (const void *)address, insn->width);
    equal = memcmp(old, compare, insn->width) == 0;
    if (equal && dsm_publish(f, address, operand, insn->width) < 0) return DSM_OUTCOME_FATAL;
  }
  uint64_t flags = (uint64_t)f->regs[REG_EFL];
  f->regs[REG_EFL] = (greg_t)(equal ? flags | DSM_FLAG_BITS_ZF : flags & ~(uint64_t)DSM_FLAG_BITS_ZF);
  if (!equal) {
    uint64_t low = 0, high = 0;
    memcpy(&low, old, half);
    memcpy(&high, old + half, half);
    dsm_frame_set_gpr(f->regs, 0, 0, half, low);
    dsm_frame_set_gpr(f->regs, 2, 0, half, high);
  }
  dsm_advance(f, insn);
  return DSM_OUTCOME_DONE;
}

/* Returns the atomic operation of the session for a locked instruction. */
static enum dsm_atomic_op atomic_op(enum dsm_alu_op op, unsigned width, uint64_t flags, uint64_t *operand) {
  uint64_t carry = flags & DSM_FLAG_BITS_CF, bit = 1ull << (*operand & (width * 8 - 1));
  switch (op) {
    case DSM_ALU_ADC: *operand += carry; return DSM_ATOMIC_ADD;
    case DSM_ALU_SUB: *operand = 0 - *operand; return DSM_ATOMIC_ADD;
    case DSM_ALU_SBB: *operand = 0 - (*operand + carry); return DSM_ATOMIC_ADD;
    case DSM_ALU_INC: *operand = 1; return DSM_ATOMIC_ADD;
    case DSM_ALU_DEC: *operand = ~0ull; return DSM_ATOMIC_ADD;
    case DSM_ALU_AND: return DSM_ATOMIC_AND;
    case DSM_ALU_OR: return DSM_ATOMIC_OR;
    case DSM_ALU_XOR: return DSM_ATOMIC_XOR;
    case DSM_ALU_NEG: return DSM_ATOMIC_NEG;
    case DSM_ALU_NOT: *operand = ~0ull; return DSM_ATOMIC_XOR;
    case DSM_ALU_BTS: *operand = bit; return DSM_ATOMIC_OR;
    case DSM_ALU_BTR: *operand = ~bit; return DSM_ATOMIC_AND;
    case DSM_ALU_BTC: *operand = bit; return DSM_ATOMIC_XOR;
    case DSM_ALU_XCHG: return DSM_ATOMIC_XCHG;
    case DSM_ALU_CMPXCHG: return DSM_ATOMIC_CMPXCHG;
    default: return DSM_ATOMIC_ADD; /* ADD, XADD */
  }
}

enum dsm_outcome dsm_capture_rmw(struct dsm_fault *f, const struct dsm_insn *insn) {
  enum dsm_alu_op op = insn->op;
  unsigned width = insn->width, bits = width * 8;
  uintptr_t address = dsm_frame_address(f->regs, insn);
  uint64_t operand = insn->imm;
  if (insn->source == DSM_SOURCE_GPR) operand = dsm_frame_gpr(f->regs, insn->reg) >> (insn->reg_offset * 8);
  if (insn->source == DSM_SOURCE_GPR && (op == DSM_ALU_BTS || op == DSM_ALU_BTR || op == DSM_ALU_BTC)) {
    /* A bit number in a register is signed and may reach outside the operand, in steps of its size. */
    int64_t number = (int64_t)(operand << (64 - bits)) >> (64 - bits);
    address += (uint64_t)(number >> __builtin_ctz(bits)) * width;
    if ((insn->flags & DSM_FLAG_ADDR32) != 0) address = (uint32_t)address;
  }
  if (!dsm_check_operand(f, address, width)) return dsm_misplaced(f, address, width);
  if (op == DSM_ALU_CMPXCHG_PAIR) return capture_pair(f, insn, address);

  uint64_t flags = (uint64_t)f->regs[REG_EFL], accumulator = dsm_frame_gpr(f->regs, 0), old = 0;
  uint64_t mask = width == 8 ? ~0ull : (1ull << bits) - 1;
  if ((insn->flags & DSM_FLAG_LOCK) != 0) {
    uint64_t sent = operand;
    enum dsm_atomic_op atomic = atomic_op(op, width, flags, &sent);
    if (f->region->sink->atomic(f->region->context, atomic, width, address - f->region->base, &sent, &accumulator,
                                &old) < 0) {
      return DSM_OUTCOME_FATAL;
    }
    old &= mask;
  } else {
    old = load(address, width);
  }
  bool equal = ((old ^ accumulator) & mask) == 0;
  uint64_t value;
  if (op == DSM_ALU_CMPXCHG) {
    dsm_alu(DSM_ALU_CMP, width, accumulator, old, &flags);
    value = operand;
  } else {
    value = op == DSM_ALU_XCHG ? operand : dsm_alu(op, width, old, operand, &flags);
  }
  bool writes = op != DSM_ALU_CMPXCHG || equal; /* see capture_pair */
  if ((insn->flags & DSM_FLAG_LOCK) == 0 && writes && dsm_publish(f, address, &value, width) < 0) {
    return DSM_OUTCOME_FATAL;
  }
  if (op == DSM_ALU_XADD || op == DSM_ALU_XCHG) {
    dsm_frame_set_gpr(f->regs, insn->reg, insn->reg_offset, width, old);
  } else if (op == DSM_ALU_CMPXCHG && !equal) {
    dsm_frame_set_gpr(f->regs, 0, 0, width, old);
  }
  f->regs[REG_EFL] = (greg_t)flags;
  dsm_advance(f, insn);
  return DSM_OUTCOME_DONE;
}
