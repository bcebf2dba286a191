/* The code below a debugger's breakpoint. */
#ifndef DSM_BREAKPOINT_H
#define DSM_BREAKPOINT_H

#include <stdint.h>

#define DSM_BREAKPOINT 0xcc /* int3, which stores nothing */

#pragma GCC visibility push(hidden)

/* Reads the instruction at `rip` from the file that its code was mapped from. Returns how many bytes, at most 15; 0 if
 * there is no such file. handler-safe, with all signals blocked. */
unsigned dsm_code_below(uint64_t rip, uint8_t bytes[15]);

#pragma GCC visibility pop

#endif
