/* Decodes instructions for capture.c, and keeps them in a cache. */
#ifndef DSM_DECODE_H
#define DSM_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "trap/instruction.h"

#pragma GCC visibility push(hidden)

/* Prepares XED's tables. Call before the handlers are installed. */
void dsm_decode_init(void);

/* Decodes the instruction at rip, which the processor has just tried to execute. False if XED does not know it.
 * handler-safe and thread-safe. */
bool dsm_decode(uint64_t rip, struct dsm_insn *insn);

#pragma GCC visibility pop

#endif
