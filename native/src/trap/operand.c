#include "trap/operand.h"

#define ERROR_BIT_PRESENT 1
#define RUNS_OF_64_BYTES 32 /* most runs that 64 bits can choose */

enum dsm_outcome dsm_crosses_edge(struct dsm_fault *f, uintptr_t address) {
  uintptr_t end = f->region->base + f->region->size;
  if (address - f->region->base >= f->region->size) {
    f->why = "it begins before the map";
    return DSM_OUTCOME_CHAIN;
  }
  f->why = "it goes on behind the end of the map; start the session with a larger --size (DSM_SIZE)";
  f->info->si_code = SEGV_MAPERR;
  f->info->si_addr = (void *)end;
  f->regs[REG_CR2] = (greg_t)end;
  f->regs[REG_ERR] &= ~(greg_t)ERROR_BIT_PRESENT;
  return DSM_OUTCOME_CHAIN;
}

int dsm_publish_chosen(const struct dsm_fault *f, uintptr_t address, const uint8_t *bytes, uint64_t written) {
  struct dsm_run runs[RUNS_OF_64_BYTES];
  uint32_t count = 0;
  uint64_t offset = address - f->region->base;
  for (unsigned i = 0; i < 64 && written >> i != 0;) {
    i += (unsigned)__builtin_ctzll(written >> i);
    uint64_t rest = ~(written >> i);
    unsigned length = rest == 0 ? 64 : (unsigned)__builtin_ctzll(rest);
    if (length > 64 - i) length = 64 - i;
    runs[count++] = (struct dsm_run){.offset = offset + i, .length = length, .bytes = bytes + i};
    i += length;
  }
  return count == 0 ? 0 : f->region->sink->store(f->region->context, runs, count);
}
