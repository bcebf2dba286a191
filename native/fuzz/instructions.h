/* The machine code of the native tests' table of store instructions, as inputs to begin with. */
#ifndef INSTRUCTIONS_H
#define INSTRUCTIONS_H

#include "../../test/native/rows.h"

#define INSTRUCTION_MAX 15

extern const struct row __start_rows[], __stop_rows[];
const char state_end[1] = {0}; /* where the rows would jump to; they are not run */

#endif
