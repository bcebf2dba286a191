/* Captures of the larger classes of instructions; capture.c has the others. handler-safe. */
#ifndef DSM_CAPTURE_CLASSES_H
#define DSM_CAPTURE_CLASSES_H

#include "trap/fault_state.h"
#include "trap/instruction.h"

#pragma GCC visibility push(hidden)

/* ---- capture_rmw.c: integer read-modify-writes ---- */

enum dsm_outcome dsm_capture_rmw(struct dsm_fault *f, const struct dsm_insn *insn);

/* ---- capture_stack.c: the stack in the map ---- */

/* Captures push and call. */
enum dsm_outcome dsm_capture_push(struct dsm_fault *f, const struct dsm_insn *insn);
enum dsm_outcome dsm_capture_enter(struct dsm_fault *f, const struct dsm_insn *insn);
enum dsm_outcome dsm_capture_pop(struct dsm_fault *f, const struct dsm_insn *insn);

/* ---- capture_scatter.c ---- */

/* Works from the lowest element up, as the processor does, and may stop before the last one: with the bits of those
 * done cleared in the mask, the instruction goes on where it was. It stops at an element that overlaps one already
 * taken, so that an entry's runs do not overlap, and at one outside the map once some inside are taken. */
enum dsm_outcome dsm_capture_scatter(struct dsm_fault *f, const struct dsm_insn *insn);

#pragma GCC visibility pop

#endif
