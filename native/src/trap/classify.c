/* Classifies a decoded instruction: which bytes it writes, where, and from which registers. */
#include "trap/classify.h"

#include <string.h>

#include "trap/alu.h"
#include "trap/tool.h"

/* Returns the number of the general register that `reg` is (a part of), or -1. */
static int gpr_number(xed_reg_enum_t reg) {
  xed_reg_enum_t whole = xed_get_largest_enclosing_register(reg);
  return whole >= XED_REG_RAX && whole <= XED_REG_R15 ? (int)(whole - XED_REG_RAX) : -1;
}

static int vector_number(xed_reg_enum_t reg) {
  if (reg >= XED_REG_XMM0 && reg <= XED_REG_XMM31) return (int)(reg - XED_REG_XMM0);
  if (reg >= XED_REG_YMM0 && reg <= XED_REG_YMM31) return (int)(reg - XED_REG_YMM0);
  if (reg >= XED_REG_ZMM0 && reg <= XED_REG_ZMM31) return (int)(reg - XED_REG_ZMM0);
  return -1;
}

/* Registers among an instruction's operands, apart from those its address is made of. */
struct operands {
  int gpr;              /* first explicit or implicit general register, or -1 */
  unsigned gpr_offset;  /* 1 for ah, ch, dh, bh */
  xed_reg_enum_t first; /* first register that is no opmask */
  int vector[2];        /* first two vector registers, or -1 */
  unsigned vector_bytes;
  int opmask;           /* -1 none */
  uint16_t gprs;        /* all general registers named, explicitly or not */
};

static void read_operands(const xed_decoded_inst_t *x, struct operands *o) {
  *o = (struct operands){.gpr = -1, .vector = {-1, -1}, .opmask = -1};
  const xed_inst_t *xi = xed_decoded_inst_inst(x);
  for (unsigned i = 0; i < xed_inst_noperands(xi); i++) {
    xed_operand_enum_t name = xed_operand_name(xed_inst_operand(xi, i));
    if (!xed_operand_is_register(name)) continue;
    xed_reg_enum_t reg = xed_decoded_inst_get_reg(x, name);
    int gpr = gpr_number(reg), vector = vector_number(reg);
    if (reg >= XED_REG_K0 && reg <= XED_REG_K7 && o->opmask < 0) {
      o->opmask = (int)(reg - XED_REG_K0);
      continue;
    }
    if (gpr >= 0) {
      o->gprs |= (uint16_t)(1u << gpr);
      if (o->gpr < 0) {
        o->gpr = gpr;
        o->gpr_offset = reg >= XED_REG_GPR8h_FIRST && reg <= XED_REG_GPR8h_LAST;
      }
    }
    if (vector >= 0) {
      if (o->vector[0] < 0) {
        o->vector[0] = vector;
        o->vector_bytes = xed_get_register_width_bits64(reg) / 8;
      } else if (o->vector[1] < 0) {
        o->vector[1] = vector;
      }
    }
    if (o->first == XED_REG_INVALID) o->first = reg;
  }
}

static void set_address(const xed_decoded_inst_t *x, unsigned operand, struct dsm_insn *insn) {
  xed_reg_enum_t base = xed_decoded_inst_get_base_reg(x, operand), index = xed_decoded_inst_get_index_reg(x, operand);
  xed_reg_enum_t segment = xed_decoded_inst_get_seg_reg(x, operand);
  insn->base = base == XED_REG_INVALID                      ? DSM_BASE_NONE
               : base == XED_REG_RIP || base == XED_REG_EIP ? DSM_BASE_RIP
                                                            : (int8_t)gpr_number(base);
  insn->index = index == XED_REG_INVALID    ? DSM_BASE_NONE
                : vector_number(index) >= 0 ? (int8_t)vector_number(index)
                                            : (int8_t)gpr_number(index);
  insn->scale = (uint8_t)xed_decoded_inst_get_scale(x, operand);
  insn->disp = xed_decoded_inst_get_memory_displacement(x, operand);
  insn->segment = segment == XED_REG_FS ? DSM_SOURCE_FS : segment == XED_REG_GS ? DSM_SOURCE_GS : DSM_SOURCE_NONE;
  if (xed_decoded_inst_get_memop_address_width(x, operand) == 32) insn->flags |= DSM_FLAG_ADDR32;
  insn->width = (uint16_t)xed_decoded_inst_get_memory_operand_length(x, operand);
}

static uint64_t read_signed(const uint8_t *bytes, unsigned width) {
  uint64_t value = 0;
  memcpy(&value, bytes, width);
  return width == 0 || width >= 8 ? value : (uint64_t)((int64_t)(value << (64 - width * 8)) >> (64 - width * 8));
}

static void set_rmw(struct dsm_insn *insn, enum dsm_alu_op op, bool lock) {
  insn->kind = DSM_INSN_RMW;
  insn->op = (uint8_t)op;
  if (lock) insn->flags |= DSM_FLAG_LOCK;
}

/* Integer read-modify-writes. False if it is none. */
static bool classify_rmw(xed_iclass_enum_t iclass, struct dsm_insn *insn) {
#define PAIR(name, op)                                                                                                 \
  case XED_ICLASS_##name: set_rmw(insn, op, false); return true;                                                       \
  case XED_ICLASS_##name##_LOCK: set_rmw(insn, op, true); return true;
  switch (iclass) {
    PAIR(ADD, DSM_ALU_ADD)
    PAIR(ADC, DSM_ALU_ADC)
    PAIR(SUB, DSM_ALU_SUB)
    PAIR(SBB, DSM_ALU_SBB)
    PAIR(AND, DSM_ALU_AND)
    PAIR(OR, DSM_ALU_OR)
    PAIR(XOR, DSM_ALU_XOR)
    PAIR(INC, DSM_ALU_INC)
    PAIR(DEC, DSM_ALU_DEC)
    PAIR(NEG, DSM_ALU_NEG)
    PAIR(NOT, DSM_ALU_NOT)
    PAIR(BTS, DSM_ALU_BTS)
    PAIR(BTR, DSM_ALU_BTR)
    PAIR(BTC, DSM_ALU_BTC)
    PAIR(XADD, DSM_ALU_XADD)
    PAIR(CMPXCHG, DSM_ALU_CMPXCHG)
    PAIR(CMPXCHG8B, DSM_ALU_CMPXCHG_PAIR)
    PAIR(CMPXCHG16B, DSM_ALU_CMPXCHG_PAIR)
    case XED_ICLASS_XCHG: set_rmw(insn, DSM_ALU_XCHG, true); return true;
    default: return false;
  }
#undef PAIR
}

/* The condition in the low four bits of a setcc's opcode, which is the byte before ModRM. */
static bool is_setcc(const struct dsm_insn *insn) {
  return insn->modrm_at >= 2 && insn->bytes[insn->modrm_at - 2] == 0x0f &&
         (insn->bytes[insn->modrm_at - 1] & 0xf0) == 0x90;
}

/* valgrind's signal frame has no vector registers, but they are there when the copy of the instruction runs. */
static bool step_vectors;

/* Stores of (a part of) a vector register whose bytes are in the signal frame. False if it is none. */
static bool classify_vector(xed_iclass_enum_t iclass, const struct operands *o, struct dsm_insn *insn) {
  unsigned offset = 0;
  // clang-format off
  switch (iclass) {
    case XED_ICLASS_MOVD: case XED_ICLASS_MOVQ: case XED_ICLASS_MOVSS: case XED_ICLASS_MOVSD_XMM:
    case XED_ICLASS_MOVAPS: case XED_ICLASS_MOVAPD: case XED_ICLASS_MOVUPS: case XED_ICLASS_MOVUPD:
    case XED_ICLASS_MOVDQA: case XED_ICLASS_MOVDQU: case XED_ICLASS_MOVNTDQ: case XED_ICLASS_MOVNTPS:
    case XED_ICLASS_MOVNTPD: case XED_ICLASS_MOVNTSS: case XED_ICLASS_MOVNTSD: case XED_ICLASS_MOVLPS:
    case XED_ICLASS_MOVLPD: case XED_ICLASS_VMOVD: case XED_ICLASS_VMOVQ: case XED_ICLASS_VMOVW:
    case XED_ICLASS_VMOVSS: case XED_ICLASS_VMOVSD: case XED_ICLASS_VMOVSH: case XED_ICLASS_VMOVAPS:
    case XED_ICLASS_VMOVAPD: case XED_ICLASS_VMOVUPS: case XED_ICLASS_VMOVUPD: case XED_ICLASS_VMOVDQA:
    case XED_ICLASS_VMOVDQU: case XED_ICLASS_VMOVDQA32: case XED_ICLASS_VMOVDQA64: case XED_ICLASS_VMOVDQU8:
    case XED_ICLASS_VMOVDQU16: case XED_ICLASS_VMOVDQU32: case XED_ICLASS_VMOVDQU64: case XED_ICLASS_VMOVNTDQ:
    case XED_ICLASS_VMOVNTPS: case XED_ICLASS_VMOVNTPD: case XED_ICLASS_VMOVLPS: case XED_ICLASS_VMOVLPD:
    case XED_ICLASS_MASKMOVDQU: case XED_ICLASS_VMASKMOVDQU: case XED_ICLASS_VMASKMOVPS:
    case XED_ICLASS_VMASKMOVPD: case XED_ICLASS_VPMASKMOVD: case XED_ICLASS_VPMASKMOVQ:
      break;
    case XED_ICLASS_MOVHPS: case XED_ICLASS_MOVHPD: case XED_ICLASS_VMOVHPS: case XED_ICLASS_VMOVHPD:
      offset = 8;
      break;
    case XED_ICLASS_EXTRACTPS: case XED_ICLASS_VEXTRACTPS: case XED_ICLASS_PEXTRB: case XED_ICLASS_PEXTRD:
    case XED_ICLASS_PEXTRQ: case XED_ICLASS_PEXTRW_SSE4: case XED_ICLASS_VPEXTRB: case XED_ICLASS_VPEXTRW:
    case XED_ICLASS_VPEXTRD: case XED_ICLASS_VPEXTRQ: case XED_ICLASS_VEXTRACTF128: case XED_ICLASS_VEXTRACTI128:
    case XED_ICLASS_VEXTRACTF32X4: case XED_ICLASS_VEXTRACTF64X2: case XED_ICLASS_VEXTRACTI32X4:
    case XED_ICLASS_VEXTRACTI64X2: case XED_ICLASS_VEXTRACTF32X8: case XED_ICLASS_VEXTRACTF64X4:
    case XED_ICLASS_VEXTRACTI32X8: case XED_ICLASS_VEXTRACTI64X4:
      if (insn->width == 0 || o->vector_bytes < insn->width) return false;
      offset = ((unsigned)insn->imm & (o->vector_bytes / insn->width - 1)) * insn->width;
      break;
    default: return false;
  }
  // clang-format on
  if (o->vector[0] < 0 || offset + insn->width > 64) return false;
  insn->reg = (uint8_t)o->vector[0];
  insn->reg_offset = (uint8_t)offset;
  // clang-format off
  switch (iclass) {
    case XED_ICLASS_VMASKMOVPS: case XED_ICLASS_VMASKMOVPD: case XED_ICLASS_VPMASKMOVD: case XED_ICLASS_VPMASKMOVQ:
      if (o->vector[1] < 0) return false;
      insn->mask_kind = DSM_MASK_SIGN; /* mask in VEX.vvvv, which XED names first */
      insn->mask = (uint8_t)o->vector[0];
      insn->reg = (uint8_t)o->vector[1];
      break;
    case XED_ICLASS_MASKMOVDQU: case XED_ICLASS_VMASKMOVDQU:
      if (o->vector[1] < 0) return false;
      insn->mask_kind = DSM_MASK_SIGN;
      insn->mask = (uint8_t)o->vector[1];
      break;
    default:
      if (o->opmask > 0) {
        insn->mask_kind = DSM_MASK_OPMASK;
        insn->mask = (uint8_t)o->opmask;
      }
  }
  // clang-format on
  insn->kind = DSM_INSN_VECTOR;
  return true;
}

static bool classify_string(const xed_decoded_inst_t *x, xed_iclass_enum_t iclass, struct dsm_insn *insn) {
  // clang-format off
  switch (iclass) {
    case XED_ICLASS_MOVSB: case XED_ICLASS_MOVSW: case XED_ICLASS_MOVSD: case XED_ICLASS_MOVSQ:
    case XED_ICLASS_REP_MOVSB: case XED_ICLASS_REP_MOVSW: case XED_ICLASS_REP_MOVSD: case XED_ICLASS_REP_MOVSQ: {
      insn->kind = DSM_INSN_MOVS;
      xed_reg_enum_t segment = xed_decoded_inst_get_seg_reg(x, 1); /* of the source: rdi's is always es */
      insn->segment = segment == XED_REG_FS ? DSM_SOURCE_FS : segment == XED_REG_GS ? DSM_SOURCE_GS : DSM_SOURCE_NONE;
      break;
    }
    case XED_ICLASS_STOSB: case XED_ICLASS_STOSW: case XED_ICLASS_STOSD: case XED_ICLASS_STOSQ:
    case XED_ICLASS_REP_STOSB: case XED_ICLASS_REP_STOSW: case XED_ICLASS_REP_STOSD: case XED_ICLASS_REP_STOSQ:
      insn->kind = DSM_INSN_STOS;
      break;
    default: return false;
  }
  // clang-format on
  if (xed3_operand_get_rep(x) != 0) insn->flags |= DSM_FLAG_REP; /* F2 repeats these as F3 does */
  return true;
}

/* push, call, enter, and pop to memory. False if it is none. */
static bool classify_stack(const xed_decoded_inst_t *x, xed_iclass_enum_t iclass, const struct operands *o,
                           struct dsm_insn *insn) {
  bool memory_source = xed_decoded_inst_number_of_memory_operands(x) == 2;
  unsigned width = insn->width;
  // clang-format off
  switch (iclass) {
    case XED_ICLASS_POP:
      insn->kind = DSM_INSN_POP;
      return true;
    case XED_ICLASS_PUSHF: case XED_ICLASS_PUSHFQ:
      insn->kind = DSM_INSN_PUSH;
      insn->source = DSM_SOURCE_FLAGS;
      return true;
    case XED_ICLASS_PUSH: insn->kind = DSM_INSN_PUSH; break;
    case XED_ICLASS_CALL_NEAR: insn->kind = DSM_INSN_CALL; break;
    case XED_ICLASS_ENTER:
      insn->kind = DSM_INSN_ENTER;
      insn->imm &= 0xffff;
      insn->op = insn->bytes[insn->length - 1] & 31;
      return true;
    default: return false;
  }
  // clang-format on
  if (memory_source) {
    insn->source = DSM_SOURCE_MEMORY;
    set_address(x, 0, insn);
    insn->width = (uint16_t)width;
  } else if (iclass == XED_ICLASS_PUSH && o->first == XED_REG_FS) {
    insn->source = DSM_SOURCE_FS;
  } else if (iclass == XED_ICLASS_PUSH && o->first == XED_REG_GS) {
    insn->source = DSM_SOURCE_GS;
  } else if (o->first != XED_REG_INVALID && gpr_number(o->first) >= 0 && xed3_operand_get_brdisp_width(x) == 0 &&
             insn->tail == 0) {
    insn->source = DSM_SOURCE_GPR;
    insn->reg = (uint8_t)gpr_number(o->first);
  } else {
    insn->source = DSM_SOURCE_IMM;
    if (iclass == XED_ICLASS_CALL_NEAR) insn->imm = (uint64_t)xed_decoded_inst_get_branch_displacement(x);
  }
  return true;
}

static bool is_scatter(const xed_decoded_inst_t *x) {
  return xed_decoded_inst_get_attribute(x, XED_ATTRIBUTE_SCATTER) != 0 &&
         xed_decoded_inst_get_attribute(x, XED_ATTRIBUTE_PREFETCH) == 0;
}

/* Chooses what the displaced copy needs; see step.c. */
static void classify_step(const xed_decoded_inst_t *x, xed_iclass_enum_t iclass, const struct operands *o,
                          struct dsm_insn *insn) {
  insn->kind = DSM_INSN_STEP;
  // clang-format off
  switch (iclass) {
    case XED_ICLASS_XSAVE: case XED_ICLASS_XSAVE64: case XED_ICLASS_XSAVEOPT: case XED_ICLASS_XSAVEOPT64:
      insn->flags |= DSM_FLAG_XSAVE | DSM_FLAG_PARTIAL;
      break;
    case XED_ICLASS_XSAVEC: case XED_ICLASS_XSAVEC64:
      insn->flags |= DSM_FLAG_XSAVEC | DSM_FLAG_PARTIAL;
      break;
    case XED_ICLASS_FXSAVE: case XED_ICLASS_FXSAVE64: insn->flags |= DSM_FLAG_PARTIAL; break;
    case XED_ICLASS_MASKMOVQ: case XED_ICLASS_MASKMOVDQU: case XED_ICLASS_VMASKMOVDQU:
      insn->flags |= DSM_FLAG_PARTIAL;
      insn->modrm_at = 0;
      insn->step_reg = 7;
      return;
    /* These do more than write their operand in private: an atomic across nodes, tile data, hidden state. */
    case XED_ICLASS_TILESTORED: case XED_ICLASS_AADD: case XED_ICLASS_AAND: case XED_ICLASS_AOR:
    case XED_ICLASS_AXOR: case XED_ICLASS_CALL_FAR: case XED_ICLASS_WRSSD: case XED_ICLASS_WRSSQ:
      insn->kind = DSM_INSN_UNSUPPORTED;
      return;
    default:
      if (iclass >= XED_ICLASS_CMPBEXADD && iclass <= XED_ICLASS_CMPZXADD &&
          strstr(xed_iclass_enum_t2str(iclass), "XADD") != NULL) {
        insn->kind = DSM_INSN_UNSUPPORTED;
        return;
      }
      if (xed_decoded_inst_masking(x)) insn->flags |= DSM_FLAG_PARTIAL;
      if (xed_decoded_inst_get_extension(x) == XED_EXTENSION_X87) insn->flags |= DSM_FLAG_X87;
  }
  // clang-format on
  if (insn->modrm_at == 0 || xed_decoded_inst_number_of_memory_operands(x) != 1) return;
  /* A register of the bank ModRM.rm selects already (REX.B and its VEX and EVEX forms stay as they are), that the
   * instruction does not touch otherwise and that needs neither SIB nor displacement. */
  static const uint8_t low[] = {6, 7, 3, 1, 2, 0}, high[] = {8, 9, 10, 11, 14, 15};
  const uint8_t *bank = xed3_operand_get_rexb(x) != 0 ? high : low;
  for (unsigned i = 0; i < 6; i++) {
    if ((o->gprs & 1u << bank[i]) == 0) {
      insn->step_reg = bank[i];
      return;
    }
  }
}

void dsm_classify(const xed_decoded_inst_t *x, struct dsm_insn *insn) {
  xed_iclass_enum_t iclass = xed_decoded_inst_get_iclass(x);
  struct operands o;
  read_operands(x, &o);

  insn->base = insn->index = DSM_BASE_NONE;
  insn->step_reg = 0xff;
  insn->modrm_at = (uint8_t)xed3_operand_get_pos_modrm(x);
  unsigned imm_bytes = xed3_operand_get_imm_width(x) / 8u;
  unsigned imm_at = xed3_operand_get_pos_imm(x);
  if (imm_at == 0) imm_bytes = 0; /* an implied one, as in rol $1 */
  if (imm_bytes != 0) {
    insn->tail = (uint8_t)(insn->length - imm_at);
    insn->imm = read_signed(insn->bytes + imm_at, imm_bytes);
  }

  if (iclass == XED_ICLASS_CLZERO) {
    insn->kind = DSM_INSN_CLZERO;
    insn->base = 0;
    insn->width = 64;
    if (xed3_operand_get_asz(x) != 0) insn->flags |= DSM_FLAG_ADDR32;
    return;
  }
  unsigned count = xed_decoded_inst_number_of_memory_operands(x), written = count;
  for (unsigned i = 0; i < count && written == count; i++) {
    if (xed_decoded_inst_mem_written(x, i)) written = i;
  }
  if (written == count) return; /* writes no memory: unsupported */
  set_address(x, written, insn);
  unsigned first_operand = 0;
  const xed_inst_t *xi = xed_decoded_inst_inst(x);
  for (unsigned i = 0; i < xed_inst_noperands(xi); i++) {
    if (xed_operand_name(xed_inst_operand(xi, i)) == XED_OPERAND_MEM0) first_operand = i;
  }
  insn->element = (uint8_t)(xed_decoded_inst_operand_element_size_bits(x, first_operand) / 8);

  if (classify_string(x, iclass, insn)) return;
  if (classify_stack(x, iclass, &o, insn)) return;
  if (iclass == XED_ICLASS_MOVDIR64B) {
    insn->kind = DSM_INSN_MOVDIR64B;
    insn->reg = (uint8_t)o.gpr;
    set_address(x, 0, insn); /* the source */
    return;
  }
  if (is_scatter(x)) {
    insn->kind = DSM_INSN_SCATTER;
    insn->reg = (uint8_t)o.vector[0];
    insn->mask = (uint8_t)o.opmask;
    insn->mask_kind = DSM_MASK_OPMASK;
    insn->reg_offset = (uint8_t)o.vector_bytes;
    insn->element = xed_decoded_inst_get_attribute(x, XED_ATTRIBUTE_DWORD_INDICES) != 0 ? 4 : 8;
    insn->op = (uint8_t)(xed_get_register_width_bits64(xed_decoded_inst_get_index_reg(x, written)) / 8);
    return;
  }
  if (classify_rmw(iclass, insn)) {
    insn->source = o.gpr >= 0 && insn->tail == 0 ? DSM_SOURCE_GPR : DSM_SOURCE_IMM;
    insn->reg = (uint8_t)o.gpr;
    insn->reg_offset = (uint8_t)o.gpr_offset;
    return;
  }
  if (iclass == XED_ICLASS_MOV || iclass == XED_ICLASS_MOVNTI || iclass == XED_ICLASS_MOVDIRI ||
      iclass == XED_ICLASS_MOVBE || ((iclass == XED_ICLASS_MOVD || iclass == XED_ICLASS_MOVQ) && o.gpr >= 0)) {
    if (o.gpr >= 0) {
      insn->kind = iclass == XED_ICLASS_MOVBE ? DSM_INSN_MOVBE : DSM_INSN_GPR;
      insn->reg = (uint8_t)o.gpr;
      insn->reg_offset = (uint8_t)o.gpr_offset;
      return;
    }
    if (o.first == XED_REG_INVALID && imm_bytes != 0) {
      insn->kind = DSM_INSN_IMM;
      return;
    }
  }
  if (xed_decoded_inst_get_category(x) == XED_CATEGORY_SETCC && is_setcc(insn)) {
    insn->kind = DSM_INSN_SETCC;
    insn->op = insn->bytes[insn->modrm_at - 1] & 15;
    return;
  }
  struct dsm_insn vector = *insn;
  bool is_vector = classify_vector(iclass, &o, &vector);
  if (is_vector && !step_vectors) {
    *insn = vector;
    return;
  }
  classify_step(x, iclass, &o, insn);
  if (is_vector && vector.mask_kind != DSM_MASK_NONE) insn->flags |= DSM_FLAG_PARTIAL;
}

void dsm_classify_init(void) {
  step_vectors = tool_is_valgrind();
}
