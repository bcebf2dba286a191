/* A store whose bytes are known: what the classes of instructions share. handler-safe. */
#ifndef DSM_PLAIN_STORE_H
#define DSM_PLAIN_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trap/fault_state.h"
#include "trap/instruction.h"
#include "trap/operand.h"

/* Moves the instruction pointer past the instruction. */
static inline void dsm_advance(const struct dsm_fault *f, const struct dsm_insn *insn) {
  f->regs[REG_RIP] = (greg_t)(insn->rip + insn->length);
}

/* Returns whether the operand is in the map and contains the faulting address. */
static inline bool dsm_check_operand(const struct dsm_fault *f, uintptr_t address, size_t length) {
  return dsm_in_region(f, address, length) && f->address - address < length;
}

#pragma GCC visibility push(hidden)

/* Keeps why the store cannot be captured. Returns DSM_OUTCOME_UNSUPPORTED. */
enum dsm_outcome dsm_unsupported(struct dsm_fault *f, const char *why);

/* Handles a store for which dsm_check_operand() is false. */
enum dsm_outcome dsm_misplaced(struct dsm_fault *f, uintptr_t address, size_t length);

/* Passes the bytes to the sink. Returns 0, or negative if fatal. */
int dsm_publish(const struct dsm_fault *f, uintptr_t address, const void *bytes, uint32_t length);

/* Captures a plain store. */
enum dsm_outcome dsm_store(struct dsm_fault *f, const struct dsm_insn *insn, uintptr_t address, const void *bytes,
                           uint32_t length);

#pragma GCC visibility pop

#endif
