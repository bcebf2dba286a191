/* Instructions that store to a stack in the map, and pop to memory. */
#include "trap/capture_classes.h"

#include "trap/frame.h"
#include "trap/guard.h"
#include "trap/plain_store.h"

enum dsm_outcome dsm_capture_push(struct dsm_fault *f, const struct dsm_insn *insn) {
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
  enum dsm_outcome outcome = dsm_store(f, insn, rsp - width, &pushed, width);
  if (outcome == DSM_OUTCOME_DONE) {
    f->regs[REG_RSP] = (greg_t)(rsp - width);
    if (insn->kind == DSM_INSN_CALL) f->regs[REG_RIP] = (greg_t)target;
  }
  return outcome;
}

enum dsm_outcome dsm_capture_enter(struct dsm_fault *f, const struct dsm_insn *insn) {
  uint64_t rsp = (uint64_t)f->regs[REG_RSP], rbp = (uint64_t)f->regs[REG_RBP];
  uint64_t words[33], frame = rsp - 8; /* upwards: words[0] is pushed last */
  unsigned level = insn->op, count = level == 0 ? 1 : level + 1;
  struct dsm_guard guard;
  if (insn->width != 8) return dsm_unsupported(f, "enter with 16-bit operands");
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
  if (dsm_publish(f, rsp - 8 * count, words, 8 * count) < 0) return DSM_OUTCOME_FATAL;
  f->regs[REG_RBP] = (greg_t)frame;
  f->regs[REG_RSP] = (greg_t)(rsp - 8 * count - insn->imm);
  dsm_advance(f, insn);
  return DSM_OUTCOME_DONE;
}

enum dsm_outcome dsm_capture_pop(struct dsm_fault *f, const struct dsm_insn *insn) {
  uint64_t value = 0, rsp = (uint64_t)f->regs[REG_RSP];
  struct dsm_guard guard;
  if (dsm_guarded_copy(&value, (const void *)rsp, insn->width, &guard) != 0) return dsm_fault_becomes(f, &guard);
  f->regs[REG_RSP] = (greg_t)(rsp + insn->width); /* an address made with rsp is made with the new one */
  enum dsm_outcome outcome = dsm_store(f, insn, dsm_frame_address(f->regs, insn), &value, insn->width);
  if (outcome != DSM_OUTCOME_DONE) f->regs[REG_RSP] = (greg_t)rsp;
  return outcome;
}
