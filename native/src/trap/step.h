/* Displaced stepping: the instruction runs on private memory (step.c). handler-safe, but for dsm_step_init(). */
#ifndef DSM_STEP_H
#define DSM_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "trap/instruction.h"
#include "trap/fault_state.h"

#define DSM_STEP_SLOTS 64           /* threads that can be in a step or a string instruction at once; others wait */
#define DSM_STEP_OPERAND_MAX 16320u /* bytes of the largest operand that can be stepped */
#define DSM_SLOT_BYTES 65536u       /* private buffer of a slot */

#pragma GCC visibility push(hidden)

/* Maps the slots. 0, or -1 with errno. Not handler-safe; called once, and again in a forked child. */
int dsm_step_init(void);
unsigned dsm_slot_claim(void);
void dsm_slot_release(unsigned slot);
uint8_t *dsm_slot_buffer(unsigned slot);

/* Sets up the displaced copy of `insn`, whose operand is [address, address + width). */
enum dsm_outcome dsm_step_begin(struct dsm_fault *fault, const struct dsm_insn *insn, uintptr_t address,
                                uint32_t width);
/* Returns whether RIP is in the copy of a slot. */
bool dsm_step_is_at(uint64_t rip);
/* Handles the signal of a step's end, at an RIP in the code of a slot. DONE or FATAL: the step is over and its region
 * exited. STEPPING: the second background is running. UNSUPPORTED: RIP is not at the step's end; nothing was
 * changed. */
enum dsm_outcome dsm_step_end(ucontext_t *context);
/* Call before dsm_step_end if the signal was sent by kill() or its like: it is raised again when the step is over. */
void dsm_step_defer_signal(uint64_t rip);

#pragma GCC visibility pop

#endif
