#include "trap/plain_store.h"

enum dsm_outcome dsm_unsupported(struct dsm_fault *f, const char *why) {
  f->why = why;
  return DSM_OUTCOME_UNSUPPORTED;
}

enum dsm_outcome dsm_misplaced(struct dsm_fault *f, uintptr_t address, size_t length) {
  if (dsm_in_region(f, address, length))
    return dsm_unsupported(f, "its operand is not where the processor reported the fault");
  return dsm_crosses_edge(f, address);
}

int dsm_publish(const struct dsm_fault *f, uintptr_t address, const void *bytes, uint32_t length) {
  struct dsm_run run = {.offset = address - f->region->base, .length = length, .bytes = bytes};
  return f->region->sink->store(f->region->context, &run, 1);
}

enum dsm_outcome dsm_store(struct dsm_fault *f, const struct dsm_insn *insn, uintptr_t address, const void *bytes,
                           uint32_t length) {
  if (!dsm_check_operand(f, address, length)) return dsm_misplaced(f, address, length);
  if (dsm_publish(f, address, bytes, length) < 0) return DSM_OUTCOME_FATAL;
  dsm_advance(f, insn);
  return DSM_OUTCOME_DONE;
}
