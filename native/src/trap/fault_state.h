/* The fault being handled, and its possible outcomes.
 *
 * The code that handles it runs on the thread that faulted, with every signal blocked, on the stack that the kernel
 * chose: an alternate stack may be 8 KiB, of which an AVX-512 frame takes 3.5, so no path uses more than 3 KiB. */
#ifndef DSM_FAULT_STATE_H
#define DSM_FAULT_STATE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

struct dsm_region;

struct dsm_fault {
  ucontext_t *context;
  greg_t *regs;
  siginfo_t *info;
  struct dsm_region *region; /* entered */
  uintptr_t address;         /* the faulting one, inside the region */
  bool is_direct; /* the kernel called dsm's handler; else a handler of the program did */
  const char *why; /* set with DSM_OUTCOME_UNSUPPORTED, and with CHAIN if dsm knows what is wrong; else NULL */
};

enum dsm_outcome {
  DSM_OUTCOME_DONE, /* captured, registers advanced: return to the program */
  DSM_OUTCOME_STEPPING, /* the displaced copy is set up: return to it; the region stays entered */
  DSM_OUTCOME_FATAL, /* the sink failed and has said so */
  DSM_OUTCOME_UNSUPPORTED, /* cannot be captured faithfully */
  DSM_OUTCOME_CHAIN, /* info and registers now describe a fault of the program's own: hand it on */
};

#endif
