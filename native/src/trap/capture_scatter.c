/* Scatters: stores of the elements of a vector register to places of their own. */
#include "trap/capture_classes.h"

#include <string.h>

#include "trap/frame.h"
#include "trap/guard.h"
#include "trap/plain_store.h"

enum dsm_outcome dsm_capture_scatter(struct dsm_fault *f, const struct dsm_insn *insn) {
  uint8_t bytes[64], indices[64];
  uint64_t mask;
  struct dsm_run runs[16];
  uint32_t count = 0;
  if (!dsm_frame_vector(f->context, insn->reg, insn->reg_offset, bytes) ||
      !dsm_frame_vector(f->context, (unsigned)insn->index, insn->op, indices) ||
      !dsm_frame_opmask(f->context, insn->mask, &mask)) {
    return dsm_unsupported(f, "the signal frame lacks its registers");
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
  if (left == 0) dsm_advance(f, insn);
  return DSM_OUTCOME_DONE;
}
