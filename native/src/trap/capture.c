/* Captures a store: decodes it, and chooses by its class. Each function of a class computes which bytes the instruction
 * writes and where, passes them to the sink of the region, and only then changes the registers as the instruction does.
 * An operand that crosses the edge of the map is a fault of the program, since a part of it would lie in no region. */
#include "trap/capture.h"

#include <string.h>

#include "trap/capture_classes.h"
#include "trap/decode.h"
#include "trap/frame.h"
#include "trap/guard.h"
#include "trap/operand.h"
#include "trap/plain_store.h"
#include "trap/step.h"
#include "trap/string_instruction.h"
#include "trap/tool.h"

/* For functions with large variables: if they were inlined, all paths would need that stack space. */
#define OWN_FRAME __attribute__((noinline))

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
    return dsm_unsupported(f, "the signal frame lacks its registers");
  }
  if (insn->mask_kind == DSM_MASK_NONE) return dsm_store(f, insn, address, bytes + insn->reg_offset, insn->width);
  if (written != 0) {
    unsigned first = (unsigned)__builtin_ctzll(written), end = 64 - (unsigned)__builtin_clzll(written);
    if (!dsm_in_region(f, address + first, end - first)) {
      return dsm_crosses_edge(f, address + first);
    }
    if (dsm_publish_chosen(f, address, bytes + insn->reg_offset, written) < 0) return DSM_OUTCOME_FATAL;
  }
  dsm_advance(f, insn);
  return DSM_OUTCOME_DONE;
}

OWN_FRAME static enum dsm_outcome capture_movdir64b(struct dsm_fault *f, const struct dsm_insn *insn) {
  uint8_t bytes[64];
  struct dsm_guard guard;
  uint64_t to = dsm_frame_gpr(f->regs, insn->reg);
  if ((insn->flags & DSM_FLAG_ADDR32) != 0) to = (uint32_t)to;
  if (dsm_guarded_copy(bytes, (const void *)dsm_frame_address(f->regs, insn), sizeof(bytes), &guard) != 0) {
    return dsm_fault_becomes(f, &guard);
  }
  return dsm_store(f, insn, to, bytes, sizeof(bytes));
}

static enum dsm_outcome capture_clzero(struct dsm_fault *f, const struct dsm_insn *insn) {
  static const uint8_t zeros[64];
  return dsm_store(f, insn, dsm_frame_address(f->regs, insn) & ~63ull, zeros, sizeof(zeros));
}

static enum dsm_outcome capture_step(struct dsm_fault *f, const struct dsm_insn *insn) {
  uintptr_t address = dsm_frame_address(f->regs, insn);
  uint32_t width = insn->width;
  if ((insn->flags & (DSM_FLAG_X87 | DSM_FLAG_XSAVE | DSM_FLAG_XSAVEC)) != 0 && tool_is_valgrind()) {
    return dsm_unsupported(f, "valgrind has changed the x87 unit before such a store (long double)");
  }
  if ((insn->flags & (DSM_FLAG_XSAVE | DSM_FLAG_XSAVEC)) != 0) {
    uint64_t mask = (uint32_t)dsm_frame_gpr(f->regs, 0) | dsm_frame_gpr(f->regs, 2) << 32;
    width = dsm_frame_xsave_bytes(mask, (insn->flags & DSM_FLAG_XSAVEC) != 0);
  }
  if (width == 0) return dsm_unsupported(f, "its operand has no known size");
  if (!dsm_check_operand(f, address, width)) return dsm_misplaced(f, address, width);
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
    return dsm_unsupported(f, "it is not an instruction dsm knows");
  }
  switch ((enum dsm_insn_kind)insn.kind) {
    case DSM_INSN_GPR:
      value = dsm_frame_gpr(f->regs, insn.reg) >> (insn.reg_offset * 8);
      return dsm_store(f, &insn, dsm_frame_address(f->regs, &insn), &value, insn.width);
    case DSM_INSN_IMM: return dsm_store(f, &insn, dsm_frame_address(f->regs, &insn), &insn.imm, insn.width);
    case DSM_INSN_MOVBE:
      value = __builtin_bswap64(dsm_frame_gpr(f->regs, insn.reg)) >> (64 - insn.width * 8);
      return dsm_store(f, &insn, dsm_frame_address(f->regs, &insn), &value, insn.width);
    case DSM_INSN_SETCC:
      value = condition(insn.op, (uint64_t)f->regs[REG_EFL]);
      return dsm_store(f, &insn, dsm_frame_address(f->regs, &insn), &value, 1);
    case DSM_INSN_VECTOR: return capture_vector(f, &insn);
    case DSM_INSN_RMW: return dsm_capture_rmw(f, &insn);
    case DSM_INSN_MOVS:
    case DSM_INSN_STOS: return dsm_capture_string(f, &insn);
    case DSM_INSN_SCATTER: return dsm_capture_scatter(f, &insn);
    case DSM_INSN_PUSH:
    case DSM_INSN_CALL: return dsm_capture_push(f, &insn);
    case DSM_INSN_ENTER: return dsm_capture_enter(f, &insn);
    case DSM_INSN_POP: return dsm_capture_pop(f, &insn);
    case DSM_INSN_MOVDIR64B: return capture_movdir64b(f, &insn);
    case DSM_INSN_CLZERO: return capture_clzero(f, &insn);
    case DSM_INSN_STEP: return capture_step(f, &insn);
    case DSM_INSN_UNSUPPORTED: break;
  }
  return dsm_unsupported(f, "dsm does not know what it writes");
}
