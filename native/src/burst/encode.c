#include "burst/encode.h"

#include <string.h>

#define REX_W 0x48u
#define REX_R 4u
#define REX_X 2u
#define REX_B 1u
#define PREFIX_GS 0x65u
#define DISTANCE_BYTES 4

static void byte(struct code *code, unsigned value) {
  *code->at++ = (uint8_t)value;
}

static void four(struct code *code, uint32_t value) {
  memcpy(code->at, &value, 4);
  code->at += 4;
}

void code_bytes(struct code *code, const uint8_t *bytes, unsigned count) {
  memcpy(code->at, bytes, count);
  code->at += count;
}

/* gs: [REX] opcode ModRM SIB disp32: the operand is an address without base and index. `reg`: register or /digit. */
static void word_operation(struct code *code, unsigned rex, unsigned opcode, unsigned reg, uint32_t word) {
  byte(code, PREFIX_GS);
  rex |= reg >= 8 ? REX_R : 0;
  if (rex != 0) byte(code, 0x40 | rex);
  byte(code, opcode);
  byte(code, 0x04 | (reg & 7) << 3); /* mod 0, rm 4: a SIB follows */
  byte(code, 0x25);                  /* no index, no base: disp32 */
  four(code, word);
}

void code_load(struct code *code, unsigned reg, uint32_t word) {
  word_operation(code, 8, 0x8b, reg, word);
}

void code_store(struct code *code, unsigned reg, uint32_t word) {
  word_operation(code, 8, 0x89, reg, word);
}

void code_load_32(struct code *code, unsigned reg, uint32_t word) {
  word_operation(code, 0, 0x8b, reg, word);
}

void code_store_32(struct code *code, unsigned reg, uint32_t word) {
  word_operation(code, 0, 0x89, reg, word);
}

void code_compare(struct code *code, unsigned reg, uint32_t word) {
  word_operation(code, 8, 0x3b, reg, word);
}

void code_subtract(struct code *code, unsigned reg, uint32_t word) {
  word_operation(code, 8, 0x2b, reg, word);
}

void code_set(struct code *code, uint32_t word, int32_t value) {
  word_operation(code, 8, 0xc7, 0, word);
  four(code, (uint32_t)value);
}

void code_lower(struct code *code, uint32_t word, int32_t value) {
  word_operation(code, 8, 0x81, 5, word);
  four(code, (uint32_t)value);
}

void code_test(struct code *code, uint32_t word, uint32_t bits) {
  word_operation(code, 0, 0xf7, 0, word);
  four(code, bits);
}

void code_jump_word(struct code *code, uint32_t word) {
  word_operation(code, 0, 0xff, 4, word);
}

static void register_operation(struct code *code, unsigned opcode, unsigned to, unsigned from) {
  byte(code, REX_W | (from >= 8 ? REX_R : 0) | (to >= 8 ? REX_B : 0));
  byte(code, opcode);
  byte(code, 0xc0 | (from & 7) << 3 | (to & 7));
}

void code_move(struct code *code, unsigned to, unsigned from) {
  register_operation(code, 0x89, to, from);
}

void code_add(struct code *code, unsigned to, unsigned from) {
  register_operation(code, 0x01, to, from);
}

void code_add_value(struct code *code, unsigned to, int32_t value) {
  register_operation(code, 0x81, to, 0); /* /0 */
  four(code, (uint32_t)value);
}

void code_immediate(struct code *code, unsigned reg, uint64_t value) {
  if (value <= UINT32_MAX) { /* mov reg32, imm32 */
    if (reg >= 8) byte(code, 0x40 | REX_B);
    byte(code, 0xb8 | (reg & 7));
    four(code, (uint32_t)value);
  } else { /* mov reg, imm64 */
    byte(code, REX_W | (reg >= 8 ? REX_B : 0));
    byte(code, 0xb8 | (reg & 7));
    code_bytes(code, (const uint8_t *)&value, 8);
  }
}

void code_lea(struct code *code, unsigned to, unsigned base, int32_t disp) {
  byte(code, REX_W | (to >= 8 ? REX_R : 0) | (base >= 8 ? REX_B : 0));
  byte(code, 0x8d);
  byte(code, 0x80 | (to & 7) << 3 | (base & 7)); /* mod 2: disp32 */
  four(code, (uint32_t)disp);
}

void code_lea_address(struct code *code, unsigned to, const struct burst_insn *insn) {
  if (insn->base == BURST_RIP) {
    code_immediate(code, to, burst_after(insn) + (uint64_t)(int64_t)insn->disp);
    return;
  }
  unsigned base = (unsigned)insn->base & 15, index = (unsigned)insn->index & 15;
  byte(code, REX_W | (to >= 8 ? REX_R : 0) | (insn->index >= 8 ? REX_X : 0) | (insn->base >= 8 ? REX_B : 0));
  byte(code, 0x8d);
  byte(code, (insn->base < 0 ? 0x04u : 0x84u) | (to & 7) << 3); /* SIB; disp32 also without a base */
  byte(code, (unsigned)insn->scale << 6 | (insn->index < 0 ? 4u : index & 7) << 3 | (insn->base < 0 ? 5u : base & 7));
  four(code, (uint32_t)insn->disp);
}

code_jump code_lea_later(struct code *code, unsigned to) {
  byte(code, REX_W | (to >= 8 ? REX_R : 0));
  byte(code, 0x8d);
  byte(code, 0x05 | (to & 7) << 3); /* mod 0, rm 5: rip + disp32 */
  four(code, 0);
  return code->at - DISTANCE_BYTES;
}

/* [66] REX opcode ModRM. The REX is there always: with it byte registers 4 to 7 are spl, bpl, sil and dil. */
static void memory_operation(struct code *code, unsigned opcode, unsigned reg, unsigned base, unsigned width) {
  if (width == 2) byte(code, 0x66);
  byte(code, (width == 8 ? REX_W : 0x40u) | (reg >= 8 ? REX_R : 0));
  byte(code, width == 1 ? opcode - 1 : opcode);
  byte(code, (reg & 7) << 3 | base);
}

void code_read(struct code *code, unsigned reg, unsigned base, unsigned width) {
  memory_operation(code, 0x8b, reg, base, width);
}

void code_write(struct code *code, unsigned reg, unsigned base, unsigned width) {
  memory_operation(code, 0x89, reg, base, width);
}

code_jump code_jump_later(struct code *code) {
  byte(code, 0xe9);
  four(code, 0);
  return code->at - DISTANCE_BYTES;
}

code_jump code_branch_later(struct code *code, unsigned condition) {
  byte(code, 0x0f);
  byte(code, 0x80 | condition);
  four(code, 0);
  return code->at - DISTANCE_BYTES;
}

void code_land_at(code_jump jump, const uint8_t *target) {
  int32_t distance = (int32_t)(target - (jump + DISTANCE_BYTES));
  memcpy(jump, &distance, DISTANCE_BYTES);
}

void code_land(struct code *code, code_jump jump) {
  code_land_at(jump, code->at);
}

void code_jump_to(struct code *code, const uint8_t *target) {
  code_land_at(code_jump_later(code), target);
}

void code_copy(struct code *code, const struct burst_insn *insn) {
  code_bytes(code, insn->bytes, insn->length);
}

/* Where the bytes behind the memory operand begin: behind ModRM, SIB and displacement. */
static unsigned operand_end(const struct burst_insn *insn) {
  const uint8_t *bytes = insn->bytes;
  unsigned at = insn->modrm_at, mod = bytes[at] >> 6, rm = bytes[at] & 7;
  unsigned end = at + 1;
  bool needs_disp32 = mod == 2 || (mod == 0 && rm == 5);
  if (rm == 4) {
    needs_disp32 |= mod == 0 && (bytes[end] & 7) == 5;
    end++;
  }
  return end + (needs_disp32 ? 4 : mod == 1 ? 1 : 0);
}

static bool is_segment_prefix(uint8_t byte) {
  return byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e;
}

void code_copy_with(struct code *code, const struct burst_insn *insn, unsigned reg) {
  uint8_t head[15];
  unsigned length = 0, from = 0;
  /* Segment prefixes mean nothing here. The others stay in their sequence; a REX that is not the last one has no effect,
   * and must not get one by what is left out behind it. */
  for (; from < insn->modrm_at; from++) {
    uint8_t value = insn->bytes[from];
    bool is_rex = (value & 0xf0) == 0x40;
    if (is_segment_prefix(value)) continue;
    if (value != 0x66 && value != 0xf2 && value != 0xf3 && !is_rex) break;
    uint8_t after = insn->bytes[from + 1];
    bool is_last =
        !is_segment_prefix(after) && after != 0x66 && after != 0xf2 && after != 0xf3 && (after & 0xf0) != 0x40;
    if (!is_rex)
      head[length++] = value;
    else if (is_last)
      head[length++] = (uint8_t)(value & ~(REX_X | REX_B));
  }
  unsigned first = length;
  while (from < insn->modrm_at) head[length++] = insn->bytes[from++];
  /* VEX of three bytes, and EVEX: X and B, inverted, are in the byte behind the first. */
  if (head[first] == 0xc4 || head[first] == 0x62) head[first + 1] |= 0x60;
  code_bytes(code, head, length);
  byte(code, (insn->bytes[insn->modrm_at] & 0x38u) | reg);
  unsigned end = operand_end(insn);
  code_bytes(code, insn->bytes + end, insn->length - end);
}
