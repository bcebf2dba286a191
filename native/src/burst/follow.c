/* Finds the code that a burst goes on in.
 *
 * An instruction is followed only if it is in the lists below; with all others, also unknown ones, the burst ends. So
 * system calls, fences, LOCK, xchg with memory, string instructions, the x87 unit, calls and returns end it, and what
 * could raise a signal that dsm does not handle: division, ud2. */
#include <stdbool.h>
#include <string.h>
#include <xed/xed-interface.h>

#include "burst/insn.h"
#include "trap/alu.h"
#include "trap/classify.h"

/* Units of the budget (burst.c). */
enum { COST_PLAIN = 1, COST_VECTOR = 4, COST_LOAD = 6, COST_STORE = 8 };

static int gpr_number(xed_reg_enum_t reg) {
  xed_reg_enum_t whole = xed_get_largest_enclosing_register(reg);
  return whole >= XED_REG_RAX && whole <= XED_REG_R15 ? (int)(whole - XED_REG_RAX) : BURST_NONE;
}

static bool is_segment(xed_reg_enum_t reg) {
  return reg >= XED_REG_SR_FIRST && reg <= XED_REG_SR_LAST;
}

/* Collects the general registers. False: the instruction changes rsp, or names a segment register. */
static bool read_registers(const xed_decoded_inst_t *x, struct burst_insn *insn) {
  const xed_inst_t *xi = xed_decoded_inst_inst(x);
  for (unsigned i = 0; i < xed_inst_noperands(xi); i++) {
    const xed_operand_t *operand = xed_inst_operand(xi, i);
    xed_operand_enum_t name = xed_operand_name(operand);
    if (!xed_operand_is_register(name)) continue;
    xed_reg_enum_t reg = xed_decoded_inst_get_reg(x, name);
    int number = gpr_number(reg);
    if (is_segment(reg) || (number == 4 && xed_operand_written(operand))) return false;
    if (number >= 0) insn->uses |= (uint16_t)(1u << number);
  }
  return true;
}

static void read_flags(const xed_decoded_inst_t *x, struct burst_insn *insn) {
  const xed_simple_flag_t *flags = xed_decoded_inst_get_rflags_info(x);
  if (flags == NULL) return;
  insn->reads = (uint16_t)(xed_simple_flag_get_read_flag_set(flags)->flat & BURST_FLAGS);
  /* Flags that the manuals call undefined have values, and programs can see them. */
  if (xed_simple_flag_get_must_write(flags))
    insn->kills = (uint16_t)(xed_simple_flag_get_written_flag_set(flags)->flat &
                             ~xed_simple_flag_get_undefined_flag_set(flags)->flat & BURST_FLAGS);
}

/* Reads the address of memory operand 0. False: it is not made of ModRM, 64-bit registers and no segment. */
static bool read_address(const xed_decoded_inst_t *x, struct burst_insn *insn) {
  xed_reg_enum_t base = xed_decoded_inst_get_base_reg(x, 0), index = xed_decoded_inst_get_index_reg(x, 0);
  xed_reg_enum_t segment = xed_decoded_inst_get_seg_reg(x, 0);
  if (insn->modrm_at == 0 || xed3_operand_get_mod(x) == 3 || xed_decoded_inst_get_memop_address_width(x, 0) != 64 ||
      segment == XED_REG_FS || segment == XED_REG_GS)
    return false;
  insn->base = base == XED_REG_INVALID ? BURST_NONE : base == XED_REG_RIP ? BURST_RIP : (int8_t)gpr_number(base);
  insn->index = index == XED_REG_INVALID ? BURST_NONE : (int8_t)gpr_number(index);
  if ((base != XED_REG_INVALID && insn->base == BURST_NONE) || (index != XED_REG_INVALID && insn->index == BURST_NONE))
    return false; /* vector registers */
  unsigned scale = xed_decoded_inst_get_scale(x, 0);
  insn->scale = scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
  int64_t disp = xed_decoded_inst_get_memory_displacement(x, 0);
  insn->disp = (int32_t)disp;
  if (insn->base >= 0 && insn->base < 16) insn->uses |= (uint16_t)(1u << insn->base);
  if (insn->index >= 0) insn->uses |= (uint16_t)(1u << insn->index);
  return disp == insn->disp;
}

/* Instructions that may run in a burst, by what they do. */
static bool is_known_category(xed_category_enum_t category) {
  // clang-format off
  switch (category) {
    case XED_CATEGORY_ADOX_ADCX: case XED_CATEGORY_AES: case XED_CATEGORY_AVX: case XED_CATEGORY_AVX2:
    case XED_CATEGORY_AVX512: case XED_CATEGORY_AVX512_BITALG: case XED_CATEGORY_AVX512_VBMI:
    case XED_CATEGORY_BINARY: case XED_CATEGORY_BITBYTE: case XED_CATEGORY_BLEND: case XED_CATEGORY_BMI1:
    case XED_CATEGORY_BMI2: case XED_CATEGORY_BROADCAST: case XED_CATEGORY_CMOV: case XED_CATEGORY_COMPRESS:
    case XED_CATEGORY_CONFLICT: case XED_CATEGORY_CONVERT: case XED_CATEGORY_DATAXFER: case XED_CATEGORY_EXPAND:
    case XED_CATEGORY_FLAGOP: case XED_CATEGORY_FP16: case XED_CATEGORY_GFNI: case XED_CATEGORY_IFMA:
    case XED_CATEGORY_KMASK: case XED_CATEGORY_LOGICAL: case XED_CATEGORY_LOGICAL_FP: case XED_CATEGORY_LZCNT:
    case XED_CATEGORY_PCLMULQDQ: case XED_CATEGORY_ROTATE: case XED_CATEGORY_SETCC: case XED_CATEGORY_SHA:
    case XED_CATEGORY_SHIFT: case XED_CATEGORY_SSE: case XED_CATEGORY_STTNI: case XED_CATEGORY_VAES:
    case XED_CATEGORY_VBMI2: case XED_CATEGORY_VFMA: case XED_CATEGORY_VPCLMULQDQ:
      return true;
    default: return false;
  }
  // clang-format on
}

static bool is_known(const xed_decoded_inst_t *x) {
  xed_extension_enum_t extension = xed_decoded_inst_get_extension(x);
  if (!is_known_category(xed_decoded_inst_get_category(x)) || extension == XED_EXTENSION_X87 ||
      extension == XED_EXTENSION_MMX || extension == XED_EXTENSION_RTM || extension == XED_EXTENSION_XOP ||
      xed_decoded_inst_get_attribute(x, XED_ATTRIBUTE_LOCKED) ||
      xed_decoded_inst_get_attribute(x, XED_ATTRIBUTE_GATHER) ||
      xed_decoded_inst_get_attribute(x, XED_ATTRIBUTE_SCATTER) ||
      xed_decoded_inst_get_attribute(x, XED_ATTRIBUTE_RING0))
    return false;
  // clang-format off
  switch (xed_decoded_inst_get_iclass(x)) {
    case XED_ICLASS_DIV: case XED_ICLASS_IDIV: case XED_ICLASS_LDMXCSR: case XED_ICLASS_VLDMXCSR:
    case XED_ICLASS_FXRSTOR: case XED_ICLASS_FXRSTOR64: case XED_ICLASS_MOV_CR: case XED_ICLASS_MOV_DR:
    case XED_ICLASS_CLI: case XED_ICLASS_STI: case XED_ICLASS_POPF: case XED_ICLASS_POPFQ:
      return false;
    default: return true;
  }
  // clang-format on
}

static bool is_vector(const xed_decoded_inst_t *x) {
  xed_extension_enum_t extension = xed_decoded_inst_get_extension(x);
  return extension != XED_EXTENSION_BASE && extension != XED_EXTENSION_BMI1 && extension != XED_EXTENSION_BMI2 &&
         extension != XED_EXTENSION_LONGMODE;
}

static bool is_shift(xed_iclass_enum_t iclass) {
  return iclass == XED_ICLASS_SHL || iclass == XED_ICLASS_SHR || iclass == XED_ICLASS_SAR || iclass == XED_ICLASS_ROL ||
         iclass == XED_ICLASS_ROR;
}

static enum burst_kind kind_of_store(const xed_decoded_inst_t *x, const struct burst_insn *insn) {
  struct dsm_insn store = {.rip = insn->rip, .length = insn->length};
  memcpy(store.bytes, insn->bytes, sizeof store.bytes);
  dsm_classify(x, &store);
  switch ((enum dsm_insn_kind)store.kind) {
    case DSM_INSN_GPR:
    case DSM_INSN_IMM:
    case DSM_INSN_MOVBE:
    case DSM_INSN_SETCC: return BURST_STORE;
    case DSM_INSN_VECTOR: return store.mask_kind == DSM_MASK_NONE ? BURST_STORE : BURST_EXIT;
    case DSM_INSN_RMW:
      return store.op <= DSM_ALU_NOT && (store.flags & DSM_FLAG_LOCK) == 0 && insn->width <= 8 ? BURST_RMW : BURST_EXIT;
    case DSM_INSN_STEP: return is_shift(xed_decoded_inst_get_iclass(x)) && insn->width <= 8 ? BURST_RMW : BURST_EXIT;
    default: return BURST_EXIT;
  }
}

static enum burst_kind kind_of_jump(const xed_decoded_inst_t *x, struct burst_insn *insn) {
  unsigned bits = xed3_operand_get_brdisp_width(x);
  xed_iclass_enum_t iclass = xed_decoded_inst_get_iclass(x);
  if (bits != 8 && bits != 32) return BURST_EXIT;
  insn->target = burst_after(insn) + (uint64_t)(int64_t)xed_decoded_inst_get_branch_displacement(x);
  if (iclass == XED_ICLASS_JMP) return BURST_JUMP;
  /* jrcxz, loop and xbegin have opcodes of other forms. */
  unsigned opcode = insn->bytes[insn->length - (bits == 8 ? 2 : 5)];
  bool is_condition = bits == 8 ? (opcode & 0xf0) == 0x70
                                : (opcode & 0xf0) == 0x80 && insn->length >= 6 && insn->bytes[insn->length - 6] == 0x0f;
  insn->condition = opcode & 15;
  return is_condition ? BURST_BRANCH : BURST_EXIT;
}

static enum burst_kind kind_of(const xed_decoded_inst_t *x, struct burst_insn *insn) {
  xed_category_enum_t category = xed_decoded_inst_get_category(x);
  xed_iclass_enum_t iclass = xed_decoded_inst_get_iclass(x);
  insn->cost = COST_PLAIN;
  read_flags(x, insn);
  if (category == XED_CATEGORY_COND_BR || category == XED_CATEGORY_UNCOND_BR) return kind_of_jump(x, insn);
  if (category == XED_CATEGORY_NOP || category == XED_CATEGORY_WIDENOP || category == XED_CATEGORY_PREFETCH)
    return BURST_NOTHING;
  if (!read_registers(x, insn)) return BURST_EXIT;
  if (iclass == XED_ICLASS_LEA) {
    if (xed_decoded_inst_get_base_reg(x, 0) != XED_REG_RIP) return BURST_PLAIN;
    insn->result = (int8_t)gpr_number(xed_decoded_inst_get_reg(x, XED_OPERAND_REG0));
    return xed_decoded_inst_get_operand_width(x) == 64 && read_address(x, insn) ? BURST_LEA : BURST_EXIT;
  }
  if (!is_known(x)) return BURST_EXIT;
  if (is_vector(x)) insn->cost = COST_VECTOR;
  unsigned count = xed_decoded_inst_number_of_memory_operands(x);
  if (count == 0) return BURST_PLAIN;
  unsigned bytes = xed_decoded_inst_get_memory_operand_length(x, 0);
  if (count > 1 || bytes == 0 || bytes > BURST_STORE_MAX || !read_address(x, insn)) return BURST_EXIT;
  insn->width = (uint8_t)bytes;
  if (xed_decoded_inst_mem_written(x, 0)) {
    insn->cost = COST_STORE;
    return kind_of_store(x, insn);
  }
  insn->cost = COST_LOAD;
  /* The bit's number reaches beyond the operand. */
  return category == XED_CATEGORY_BITBYTE && iclass == XED_ICLASS_BT ? BURST_EXIT : BURST_LOAD;
}

static void decode(const struct burst_reader *reader, uint64_t rip, struct burst_insn *insn) {
  xed_decoded_inst_t x;
  *insn = (struct burst_insn){.rip = rip, .kind = BURST_EXIT, .base = BURST_NONE, .index = BURST_NONE};
  unsigned readable = reader->read(reader->context, rip, insn->bytes);
  if (readable == 0) return;
  xed_decoded_inst_zero(&x);
  xed_decoded_inst_set_mode(&x, XED_MACHINE_MODE_LONG_64, XED_ADDRESS_WIDTH_64b);
  xed3_operand_set_no_apx(&x, 1);
  if (xed_decode(&x, insn->bytes, readable) != XED_ERROR_NONE) return;
  insn->length = (uint8_t)xed_decoded_inst_get_length(&x);
  insn->modrm_at = (uint8_t)xed3_operand_get_pos_modrm(&x);
  insn->kind = (uint8_t)kind_of(&x, insn);
}

static int find(const struct burst_insn *insns, unsigned count, uint64_t rip) {
  for (unsigned i = 0; i < count; i++)
    if (insns[i].rip == rip) return (int)i;
  return BURST_NONE;
}

/* Computes the flags that are live before each instruction. All are where the program goes on by itself. */
static void find_live_flags(struct burst_insn *insns, unsigned count) {
  for (bool again = true; again;) {
    again = false;
    for (unsigned i = count; i-- > 0;) {
      struct burst_insn *insn = &insns[i];
      unsigned after = 0;
      if (insn->kind != BURST_JUMP) after |= insn->next < 0 ? BURST_FLAGS : insns[insn->next].live;
      if (insn->kind == BURST_JUMP || insn->kind == BURST_BRANCH)
        after |= insn->to < 0 ? BURST_FLAGS : insns[insn->to].live;
      unsigned live = insn->kind == BURST_EXIT ? BURST_FLAGS : insn->reads | (after & ~(unsigned)insn->kills);
      again |= live != insn->live;
      insn->live = (uint16_t)live;
    }
  }
}

unsigned burst_follow(const struct burst_reader *reader, uint64_t rip, struct burst_insn insns[BURST_INSNS_MAX]) {
  unsigned count = 0;
  /* Targets of branches, in the order they were met, are found among the instructions: `scan` is the next to look at. */
  for (unsigned scan = 0;;) {
    while (count < BURST_INSNS_MAX && find(insns, count, rip) < 0) {
      struct burst_insn *insn = &insns[count++];
      decode(reader, rip, insn);
      if (insn->kind == BURST_EXIT) break;
      rip = insn->kind == BURST_JUMP ? insn->target : burst_after(insn);
    }
    while (scan < count && !(insns[scan].kind == BURST_BRANCH && find(insns, count, insns[scan].target) < 0)) scan++;
    if (scan == count || count == BURST_INSNS_MAX) break;
    rip = insns[scan++].target;
  }
  for (unsigned i = 0; i < count; i++) {
    struct burst_insn *insn = &insns[i];
    bool jumps = insn->kind == BURST_JUMP || insn->kind == BURST_BRANCH;
    insn->next = insn->kind == BURST_EXIT || insn->kind == BURST_JUMP ? BURST_NONE
                                                                      : (int16_t)find(insns, count, burst_after(insn));
    insn->to = jumps ? (int16_t)find(insns, count, insn->target) : BURST_NONE;
  }
  find_live_flags(insns, count);
  return count;
}
