/* Captures a store, class by class. Each function computes which bytes the instruction writes and where, passes them to
 * the sink of the region, and only then changes the registers as the instruction does. An operand that crosses the edge
 * of the map is a fault of the program, since a part of it would lie in no region. */
#include "trap/capture.h"

#include <string.h>

#include "trap/alu.h"
#include "trap/decode.h"
#include "trap/frame.h"
#include "trap/guard.h"
#include "trap/operand.h"
#include "trap/step.h"
#include "trap/string_instruction.h"
#include "trap/tool.h"

/* For functions with large variables: if they were inlined, all paths would need that stack space. */
#define OWN_FRAME __attribute__((noinline))

static void advance(const struct dsm_fault *f, const struct dsm_insn *insn) {
  f->regs[REG_RIP] = (greg_t)(insn->rip + insn->length);
}

static enum dsm_outcome unsupported(struct dsm_fault *f, const char *why) {
  f->why = why;
  return DSM_OUTCOME_UNSUPPORTED;
}

/* Returns whether the operand is in the map and contains the faulting address. */
static bool check_operand(const struct dsm_fault *f, uintptr_t address, size_t length) {
  return dsm_in_region(f, address, length) && f->address - address < length;
}

/* Handles a store for which check_operand() is false. */
static enum dsm_outcome misplaced(struct dsm_fault *f, uintptr_t address, size_t length) {
  if (dsm_in_region(f, address, length))
    return unsupported(f, "its operand is not where the processor reported the fault");
  return dsm_crosses_edge(f, address);
}

static int publish(const struct dsm_fault *f, uintptr_t address, const void *bytes, uint32_t length) {
  struct dsm_run run = {.offset = address - f->region->base, .length = length, .bytes = bytes};
  return f->region->sink->store(f->region->context, &run, 1);
}

/* Captures a plain store. */
static enum dsm_outcome store(struct dsm_fault *f, const struct dsm_insn *insn, uintptr_t address, const void *bytes,
                              uint32_t length) {
  if (!check_operand(f, address, length)) return misplaced(f, address, length);
  if (publish(f, address, bytes, length) < 0) return DSM_OUTCOME_FATAL;
  advance(f, insn);
  return DSM_OUTCOME_DONE;
}

static bool condition(unsigned number, uint64_t flags) {
  bool cf = flags & 1, pf = flags >> 2 & 1, zf = flags >> 6 & 1, sf = flags >> 7 & 1, of = flags >> 11 & 1;
  bool result = false;
  switch (number >> 1) {
    case 0: result = of; break;
    case 1: result = cf; break;
    case 2: result = zf; break;
    case 3: result = cf || zf; break;
    case 4: result = sf; break;
    case 5: result = pf; break;
    case 6: result = sf != of; break;
    case 7: result = zf || sf != of; break;
  }
  return result != (number & 1);
}

/* ---- vector registers ---- */

/* Computes one bit for each byte of the operand that the mask selects. False if the frame does not hold the mask. */
static bool written_bytes(const struct dsm_fault *f, const struct dsm_insn *insn, uint64_t *written) {
  uint64_t all = insn->width >= 64 ? ~0ull : (1ull << insn->width) - 1, chosen = 0;
  if (insn->mask_kind == DSM_MASK_NONE) {
    *written = all;
    return true;
  }
  uint64_t opmask = 0;
  uint8_t mask[64];
  if (insn->mask_kind == DSM_MASK_OPMASK ? !dsm_frame_opmask(f->context, insn->mask, &opmask)
                                         : !dsm_frame_vector(f->context, insn->mask, insn->width, mask)) {
    return false;
  }
  unsigned element = insn->element == 0 ? 1 : insn->element;
  for (unsigned i = 0; i * element < insn->width; i++) {
    bool on =
        insn->mask_kind == DSM_MASK_OPMASK ? (opmask >> i & 1) != 0 : (mask[i * element + element - 1] & 0x80) != 0;
    if (on) chosen |= ((1ull << element) - 1) << (i * element); /* element <= 8 */
  }
  *written = chosen & all;
  return true;
}

OWN_FRAME static enum dsm_outcome capture_vector(struct dsm_fault *f, const struct dsm_insn *insn) {
  uintptr_t address = dsm_frame_address(f->regs, insn);
  uint8_t bytes[64];
  uint64_t written;
  if (!dsm_frame_vector(f->context, insn->reg, insn->reg_offset + insn->width, bytes) ||
      !written_bytes(f, insn, &written)) {
    return unsupported(f, "the signal frame lacks its registers");
  }
  if (insn->mask_kind == DSM_MASK_NONE) return store(f, insn, address, bytes + insn->reg_offset, insn->width);
  if (written != 0) {
    unsigned first = (unsigned)__builtin_ctzll(written), end = 64 - (unsigned)__builtin_clzll(written);
    if (!dsm_in_region(f, address + first, end - first)) {
      return dsm_crosses_edge(f, address + first);
    }
    if (dsm_publish_chosen(f, address, bytes + insn->reg_offset, written) < 0) return DSM_OUTCOME_FATAL;
  }
  advance(f, insn);
  return DSM_OUTCOME_DONE;
}

/* ---- integer read-modify-writes ---- */

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
    if (equal && publish(f, address, operand, insn->width) < 0) return DSM_OUTCOME_FATAL;
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
  advance(f, insn);
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

static enum dsm_outcome capture_rmw(struct dsm_fault *f, const struct dsm_insn *insn) {
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
  if (!check_operand(f, address, width)) return misplaced(f, address, width);
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
  if ((insn->flags & DSM_FLAG_LOCK) == 0 && writes && publish(f, address, &value, width) < 0) {
    return DSM_OUTCOME_FATAL;
  }
  if (op == DSM_ALU_XADD || op == DSM_ALU_XCHG) {
    dsm_frame_set_gpr(f->regs, insn->reg, insn->reg_offset, width, old);
  } else if (op == DSM_ALU_CMPXCHG && !equal) {
    dsm_frame_set_gpr(f->regs, 0, 0, width, old);
  }
  f->regs[REG_EFL] = (greg_t)flags;
  advance(f, insn);
  return DSM_OUTCOME_DONE;
}

/* ---- the stack in the map, and two-operand moves ---- */

static enum dsm_outcome capture_push(struct dsm_fault *f, const struct dsm_insn *insn) {
  uint64_t value = 0, rsp = (uint64_t)f->regs[REG_RSP];
  unsigned width = insn->width;
  struct dsm_guard guard;
  switch (insn->source) {
    case DSM_SOURCE_GPR: value = dsm_frame_gpr(f->regs, insn->reg); break;
    case DSM_SOURCE_MEMORY:
      if (dsm_guarded_copy(&value, (const void *)dsm_frame_address(f->regs, insn), width, &guard) != 0) {
        return dsm_fault_becomes(f, &guard);
      }
      break;
    case DSM_SOURCE_FLAGS: value = (uint64_t)f->regs[REG_EFL] & 0x00fcffff; break; /* without VM and RF */
    case DSM_SOURCE_FS: __asm__("mov %%fs, %0" : "=r"(value)); break;
    case DSM_SOURCE_GS: __asm__("mov %%gs, %0" : "=r"(value)); break;
    default: value = insn->imm;
  }
  uint64_t target = insn->source == DSM_SOURCE_IMM ? insn->rip + insn->length + value : value;
  uint64_t pushed = insn->kind == DSM_INSN_CALL ? insn->rip + insn->length : value;
  enum dsm_outcome outcome = store(f, insn, rsp - width, &pushed, width);
  if (outcome == DSM_OUTCOME_DONE) {
    f->regs[REG_RSP] = (greg_t)(rsp - width);
    if (insn->kind == DSM_INSN_CALL) f->regs[REG_RIP] = (greg_t)target;
  }
  return outcome;
}

OWN_FRAME static enum dsm_outcome capture_enter(struct dsm_fault *f, const struct dsm_insn *insn) {
  uint64_t rsp = (uint64_t)f->regs[REG_RSP], rbp = (uint64_t)f->regs[REG_RBP];
  uint64_t words[33], frame = rsp - 8; /* upwards: words[0] is pushed last */
  unsigned level = insn->op, count = level == 0 ? 1 : level + 1;
  struct dsm_guard guard;
  if (insn->width != 8) return unsupported(f, "enter with 16-bit operands");
  words[count - 1] = rbp;
  for (unsigned i = 1; i < level; i++) {
    uint64_t from = rbp - 8 * i, low = rsp - 8 * i; /* low: i words are pushed, from here up */
    uint8_t *word = (uint8_t *)&words[count - 1 - i];
    if (dsm_guarded_copy(word, (const void *)from, 8, &guard) != 0) return dsm_fault_becomes(f, &guard);
    for (unsigned j = 0; j < 8; j++) {
      if (from + j - low < 8 * i) word[j] = ((const uint8_t *)&words[count - i])[from + j - low];
    }
  }
  if (level > 0) words[0] = frame;
  if (!dsm_in_region(f, rsp - 8 * count, 8 * count)) return dsm_crosses_edge(f, rsp - 8 * count);
  if (publish(f, rsp - 8 * count, words, 8 * count) < 0) return DSM_OUTCOME_FATAL;
  f->regs[REG_RBP] = (greg_t)frame;
  f->regs[REG_RSP] = (greg_t)(rsp - 8 * count - insn->imm);
  advance(f, insn);
  return DSM_OUTCOME_DONE;
}

static enum dsm_outcome capture_pop(struct dsm_fault *f, const struct dsm_insn *insn) {
  uint64_t value = 0, rsp = (uint64_t)f->regs[REG_RSP];
  struct dsm_guard guard;
  if (dsm_guarded_copy(&value, (const void *)rsp, insn->width, &guard) != 0) return dsm_fault_becomes(f, &guard);
  f->regs[REG_RSP] = (greg_t)(rsp + insn->width); /* an address made with rsp is made with the new one */
  enum dsm_outcome outcome = store(f, insn, dsm_frame_address(f->regs, insn), &value, insn->width);
  if (outcome != DSM_OUTCOME_DONE) f->regs[REG_RSP] = (greg_t)rsp;
  return outcome;
}

OWN_FRAME static enum dsm_outcome capture_movdir64b(struct dsm_fault *f, const struct dsm_insn *insn) {
  uint8_t bytes[64];
  struct dsm_guard guard;
  uint64_t to = dsm_frame_gpr(f->regs, insn->reg);
  if ((insn->flags & DSM_FLAG_ADDR32) != 0) to = (uint32_t)to;
  if (dsm_guarded_copy(bytes, (const void *)dsm_frame_address(f->regs, insn), sizeof(bytes), &guard) != 0) {
    return dsm_fault_becomes(f, &guard);
  }
  return store(f, insn, to, bytes, sizeof(bytes));
}

static enum dsm_outcome capture_clzero(struct dsm_fault *f, const struct dsm_insn *insn) {
  static const uint8_t zeros[64];
  return store(f, insn, dsm_frame_address(f->regs, insn) & ~63ull, zeros, sizeof(zeros));
}

/* ---- scatters ---- */

/* Works from the lowest element up, as the processor does, and may stop before the last one: with the bits of those
 * done cleared in the mask, the instruction goes on where it was. It stops at an element that overlaps one already
 * taken, so that an entry's runs do not overlap, and at one outside the map once some inside are taken. */
OWN_FRAME static enum dsm_outcome capture_scatter(struct dsm_fault *f, const struct dsm_insn *insn) {
  uint8_t bytes[64], indices[64];
  uint64_t mask;
  struct dsm_run runs[16];
  uint32_t count = 0;
  if (!dsm_frame_vector(f->context, insn->reg, insn->reg_offset, bytes) ||
      !dsm_frame_vector(f->context, (unsigned)insn->index, insn->op, indices) ||
      !dsm_frame_opmask(f->context, insn->mask, &mask)) {
    return unsupported(f, "the signal frame lacks its registers");
  }
  struct dsm_insn plain = *insn;
  plain.index = DSM_BASE_NONE;
  plain.segment = DSM_SOURCE_NONE;
  uint64_t base = dsm_frame_address(f->regs, &plain), segment_base = dsm_frame_segment_base(insn->segment);
  unsigned elements = insn->op / insn->element < insn->reg_offset / insn->width ? insn->op / insn->element
                                                                                : insn->reg_offset / insn->width;
  uint64_t left = elements >= 64 ? mask : mask & ((1ull << elements) - 1);
  for (unsigned i = 0; i < elements; i++) {
    if ((left >> i & 1) == 0) continue;
    int64_t index = 0;
    if (insn->element == 4) {
      int32_t narrow;
      memcpy(&narrow, indices + i * 4, 4);
      index = narrow;
    } else {
      memcpy(&index, indices + i * 8, 8);
    }
    uint64_t address = base + (uint64_t)index * insn->scale;
    if ((insn->flags & DSM_FLAG_ADDR32) != 0) address = (uint32_t)address;
    address += segment_base;
    const uint8_t *from = bytes + i * insn->width;
    if (!dsm_in_region(f, address, insn->width)) {
      if (count != 0) break;
      if (address - f->region->base + insn->width - 1 < f->region->size + insn->width - 1) { /* partly in the map */
        dsm_frame_set_opmask(f->context, insn->mask, left);
        return dsm_crosses_edge(f, address);
      }
      struct dsm_guard guard;
      if (dsm_guarded_copy((void *)address, from, insn->width, &guard) != 0) {
        dsm_frame_set_opmask(f->context, insn->mask, left);
        return dsm_fault_becomes(f, &guard);
      }
    } else {
      uint64_t offset = address - f->region->base;
      uint32_t at = count;
      while (at > 0 && runs[at - 1].offset > offset) at--;
      if (at > 0 && runs[at - 1].offset == offset) {
        runs[at - 1].bytes = from; /* the later one wins */
      } else if ((at > 0 && runs[at - 1].offset + insn->width > offset) ||
                 (at < count && offset + insn->width > runs[at].offset)) {
        break;
      } else {
        for (uint32_t j = count; j > at; j--) runs[j] = runs[j - 1];
        runs[at] = (struct dsm_run){.offset = offset, .length = insn->width, .bytes = from};
        count++;
      }
    }
    left &= ~(1ull << i);
  }
  if (count != 0 && f->region->sink->store(f->region->context, runs, count) < 0) return DSM_OUTCOME_FATAL;
  dsm_frame_set_opmask(f->context, insn->mask, left); /* at the end all of it is zero */
  if (left == 0) advance(f, insn);
  return DSM_OUTCOME_DONE;
}

/* ---- everything ---- */

static enum dsm_outcome capture_step(struct dsm_fault *f, const struct dsm_insn *insn) {
  uintptr_t address = dsm_frame_address(f->regs, insn);
  uint32_t width = insn->width;
  if ((insn->flags & (DSM_FLAG_X87 | DSM_FLAG_XSAVE | DSM_FLAG_XSAVEC)) != 0 && tool_is_valgrind()) {
    return unsupported(f, "valgrind has changed the x87 unit before such a store (long double)");
  }
  if ((insn->flags & (DSM_FLAG_XSAVE | DSM_FLAG_XSAVEC)) != 0) {
    uint64_t mask = (uint32_t)dsm_frame_gpr(f->regs, 0) | dsm_frame_gpr(f->regs, 2) << 32;
    width = dsm_frame_xsave_bytes(mask, (insn->flags & DSM_FLAG_XSAVEC) != 0);
  }
  if (width == 0) return unsupported(f, "its operand has no known size");
  if (!check_operand(f, address, width)) return misplaced(f, address, width);
  return dsm_step_begin(f, insn, address, width);
}

int dsm_capture_is_atomic(const struct dsm_fault *f) {
  struct dsm_insn insn;
  return dsm_decode((uint64_t)f->regs[REG_RIP], &insn) && (insn.flags & DSM_FLAG_LOCK) != 0;
}

enum dsm_outcome dsm_capture(struct dsm_fault *f) {
  struct dsm_insn insn;
  uint64_t value;
  if (!dsm_decode((uint64_t)f->regs[REG_RIP], &insn)) {
    return unsupported(f, "it is not an instruction dsm knows");
  }
  switch ((enum dsm_insn_kind)insn.kind) {
    case DSM_INSN_GPR:
      value = dsm_frame_gpr(f->regs, insn.reg) >> (insn.reg_offset * 8);
      return store(f, &insn, dsm_frame_address(f->regs, &insn), &value, insn.width);
    case DSM_INSN_IMM: return store(f, &insn, dsm_frame_address(f->regs, &insn), &insn.imm, insn.width);
    case DSM_INSN_MOVBE:
      value = __builtin_bswap64(dsm_frame_gpr(f->regs, insn.reg)) >> (64 - insn.width * 8);
      return store(f, &insn, dsm_frame_address(f->regs, &insn), &value, insn.width);
    case DSM_INSN_SETCC:
      value = condition(insn.op, (uint64_t)f->regs[REG_EFL]);
      return store(f, &insn, dsm_frame_address(f->regs, &insn), &value, 1);
    case DSM_INSN_VECTOR: return capture_vector(f, &insn);
    case DSM_INSN_RMW: return capture_rmw(f, &insn);
    case DSM_INSN_MOVS:
    case DSM_INSN_STOS: return dsm_capture_string(f, &insn);
    case DSM_INSN_SCATTER: return capture_scatter(f, &insn);
    case DSM_INSN_PUSH:
    case DSM_INSN_CALL: return capture_push(f, &insn);
    case DSM_INSN_ENTER: return capture_enter(f, &insn);
    case DSM_INSN_POP: return capture_pop(f, &insn);
    case DSM_INSN_MOVDIR64B: return capture_movdir64b(f, &insn);
    case DSM_INSN_CLZERO: return capture_clzero(f, &insn);
    case DSM_INSN_STEP: return capture_step(f, &insn);
    case DSM_INSN_UNSUPPORTED: break;
  }
  return unsupported(f, "dsm does not know what it writes");
}
