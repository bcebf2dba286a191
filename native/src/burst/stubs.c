/* Code that all copies share: the beginning of a run, and the exit. */
#include "burst/slot.h"
#include "burst/translate.h"

static void write_new_run(struct code *code) {
  code_store(code, RAX, BURST_WORD(stub_rax));
  code_store(code, RDX, BURST_WORD(stub_rdx));
  /* The run before ends where its last store did: run[-1].end = next. */
  static const uint8_t end_run[] = {0x48, 0x89, 0x50, 0xf8}; /* mov [rax - 8], rdx */
  code_load(code, RAX, BURST_WORD(run));
  code_load(code, RDX, BURST_WORD(next));
  code_bytes(code, end_run, sizeof end_run);
  /* high = max(high, next + EDGE) */
  code_add_value(code, RDX, BURST_EDGE_BYTES);
  code_compare(code, RDX, BURST_WORD(high));
  code_jump no_higher = code_branch_later(code, IF_NOT_GREATER);
  code_store(code, RDX, BURST_WORD(high));
  code_land(code, no_higher);
  /* log is moved up so that it equals the offset modulo 64: instructions that need an aligned operand find one, or
   * fault, as in the map. */
  static const uint8_t align[] = {0x29, 0xd0, /* sub eax, edx */
                                  0x83, 0xe0, 0x3f, /* and eax, 63 */
                                  0x48, 0x01, 0xc2}; /* add rdx, rax */
  code_load(code, RAX, BURST_WORD(offset));
  code_store(code, RAX, BURST_WORD(next));
  code_load(code, RDX, BURST_WORD(log));
  code_bytes(code, align, sizeof align);
  code_store(code, RDX, BURST_WORD(log));
  static const uint8_t set_bytes[] = {0x48, 0x89, 0x50, 0x08}; /* mov [rax + 8], rdx: run.bytes */
  static const uint8_t set_offset[] = {0x48, 0x89, 0x10}; /* mov [rax], rdx: run.offset */
  code_load(code, RAX, BURST_WORD(run));
  code_bytes(code, set_bytes, sizeof set_bytes);
  code_load(code, RDX, BURST_WORD(offset));
  code_bytes(code, set_offset, sizeof set_offset);
  code_add_value(code, RAX, sizeof(union burst_run));
  code_store(code, RAX, BURST_WORD(run));
  /* low = min(low, offset, least) */
  code_compare(code, RDX, BURST_WORD(least));
  code_jump is_least = code_branch_later(code, IF_NOT_GREATER);
  code_load(code, RDX, BURST_WORD(least));
  code_land(code, is_least);
  code_compare(code, RDX, BURST_WORD(low));
  code_jump no_lower = code_branch_later(code, IF_NOT_LESS);
  code_store(code, RDX, BURST_WORD(low));
  code_land(code, no_lower);
  code_lower(code, BURST_WORD(runs_left), 1);
  code_jump has_room = code_branch_later(code, IF_SIGN ^ 1u);
  code_set(code, BURST_WORD(budget), 0);
  code_land(code, has_room);
  code_load(code, RAX, BURST_WORD(stub_rax));
  code_load(code, RDX, BURST_WORD(stub_rdx));
  code_jump_word(code, BURST_WORD(back));
}

static void write_exit(struct code *code, uint64_t leave) {
  code_store(code, RSP, BURST_WORD(exit_rsp));
  code_load(code, RSP, BURST_WORD(exit_stack));
  static const uint8_t pushes[] = {0x9c, /* pushfq */
                                   0x50, 0x51, 0x52, 0x53, 0x55, 0x56, 0x57, /* push rax rcx rdx rbx rbp rsi rdi */
                                   0x41, 0x50, 0x41, 0x51, 0x41, 0x52, 0x41, 0x53, /* push r8 to r11 */
                                   0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, /* push r12 to r15 */
                                   0xfc}; /* cld */
  code_bytes(code, pushes, sizeof pushes);
  code_move(code, RDI, RSP);
  code_immediate(code, RAX, leave);
  static const uint8_t call_rax[] = {0xff, 0xd0};
  code_bytes(code, call_rax, sizeof call_rax);
}

void burst_write_stubs(struct code *code, struct burst_stubs *stubs, uint64_t leave) {
  stubs->new_run = code->at;
  write_new_run(code);
  stubs->exit = code->at;
  write_exit(code, leave);
}
