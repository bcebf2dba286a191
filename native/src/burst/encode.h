/* Writes machine code. Each function appends one instruction, and its comment shows it as Intel's manual does; `gs:[word]`
 * is a word of the burst slot. General registers are given by the processor's numbers. */
#ifndef DSM_BURST_ENCODE_H
#define DSM_BURST_ENCODE_H

#include <stdbool.h>
#include <stdint.h>

#include "burst/insn.h"

enum { RAX = 0, RCX = 1, RDX = 2, RBX = 3, RSP = 4, RBP = 5, RSI = 6, RDI = 7 };

/* Conditions, as in opcodes. */
enum {
  IF_BELOW = 2,
  IF_NOT_BELOW = 3,
  IF_EQUAL = 4,
  IF_NOT_EQUAL = 5,
  IF_ABOVE = 7,
  IF_SIGN = 8,
  IF_LESS = 12,
  IF_NOT_LESS = 13,
  IF_NOT_GREATER = 14
};

/* Where code is written. */
struct code {
  uint8_t *at;
};

/* A jump whose target is not known yet: the place of its distance. */
typedef uint8_t *code_jump;

#pragma GCC visibility push(hidden)

void code_bytes(struct code *code, const uint8_t *bytes, unsigned count);

void code_load(struct code *code, unsigned reg, uint32_t word); /* mov reg, gs:[word] */
void code_store(struct code *code, unsigned reg, uint32_t word); /* mov gs:[word], reg */
void code_store_32(struct code *code, unsigned reg, uint32_t word); /* mov gs:[word], reg32 */
void code_load_32(struct code *code, unsigned reg, uint32_t word); /* mov reg32, gs:[word] */
void code_compare(struct code *code, unsigned reg, uint32_t word); /* cmp reg, gs:[word] */
void code_subtract(struct code *code, unsigned reg, uint32_t word); /* sub reg, gs:[word] */
void code_set(struct code *code, uint32_t word, int32_t value); /* mov qword gs:[word], value */
void code_lower(struct code *code, uint32_t word, int32_t value); /* sub qword gs:[word], value */
void code_test(struct code *code, uint32_t word, uint32_t bits); /* test dword gs:[word], bits */
void code_jump_word(struct code *code, uint32_t word); /* jmp gs:[word] */

void code_move(struct code *code, unsigned to, unsigned from); /* mov to, from */
void code_add(struct code *code, unsigned to, unsigned from); /* add to, from */
void code_add_value(struct code *code, unsigned to, int32_t value); /* add to, value */
void code_immediate(struct code *code, unsigned reg, uint64_t value); /* mov reg, value */
void code_lea(struct code *code, unsigned to, unsigned base,
              int32_t disp); /* lea to, [base + disp]; base not rsp, r12 */
void code_lea_address(struct code *code, unsigned to, const struct burst_insn *insn); /* lea to, its operand */
code_jump code_lea_later(struct code *code, unsigned to); /* lea to, [rip + distance] */
/* mov reg, [base] and mov [base], reg of `width` bytes, 1, 2, 4 or 8; base one of rax to rdi but rsp and rbp. */
void code_read(struct code *code, unsigned reg, unsigned base, unsigned width);
void code_write(struct code *code, unsigned reg, unsigned base, unsigned width);

code_jump code_jump_later(struct code *code); /* jmp */
code_jump code_branch_later(struct code *code, unsigned condition); /* jcc */
void code_land(struct code *code, code_jump jump); /* the jump leads to here */
void code_land_at(code_jump jump, const uint8_t *target);
void code_jump_to(struct code *code, const uint8_t *target); /* jmp target */

/* The instruction as it is. It has no rip-relative operand. */
void code_copy(struct code *code, const struct burst_insn *insn);
/* The instruction with [reg] in the place of its memory operand: reg one of rax to rdi but rsp and rbp. */
void code_copy_with(struct code *code, const struct burst_insn *insn, unsigned reg);

#pragma GCC visibility pop

#endif
