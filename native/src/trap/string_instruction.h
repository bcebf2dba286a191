/* movs and stos, alone and repeated. handler-safe. */
#ifndef DSM_STRING_INSTRUCTION_H
#define DSM_STRING_INSTRUCTION_H

#include "trap/instruction.h"
#include "trap/fault_state.h"

#pragma GCC visibility push(hidden)

enum dsm_outcome dsm_capture_string(struct dsm_fault *fault, const struct dsm_insn *insn);

#pragma GCC visibility pop

#endif
