/* The memory operand of the store being captured. handler-safe. */
#ifndef DSM_OPERAND_H
#define DSM_OPERAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trap/fault_state.h"
#include "trap/region_entry.h"

/* Returns whether [address, address + length) lies in the region of the fault. */
static inline bool dsm_in_region(const struct dsm_fault *f, uintptr_t address, size_t length) {
  uintptr_t offset = address - f->region->base;
  return offset < f->region->size && length <= f->region->size - offset;
}

#pragma GCC visibility push(hidden)

/* Turns the fault into one of the program, because the operand at `address` lies only partly in the map; if it starts
 * inside, the fault is at the first byte after the map. Returns DSM_OUTCOME_CHAIN. */
enum dsm_outcome dsm_crosses_edge(struct dsm_fault *fault, uintptr_t address);
/* Publishes the bytes selected by `written` (one bit a byte, at most 64). Returns 0, or negative if fatal. */
int dsm_publish_chosen(const struct dsm_fault *fault, uintptr_t address, const uint8_t *bytes, uint64_t written);

#pragma GCC visibility pop

#endif
