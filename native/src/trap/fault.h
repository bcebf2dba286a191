/* The fault handlers. */
#ifndef DSM_FAULT_H
#define DSM_FAULT_H

#include <stdbool.h>

#include "trap/fault_state.h"

/* Bursts, for the handlers: the folder burst/ is above this one. Both are called with all signals blocked. */
struct dsm_burst_hooks {
  /* Returns whether the program goes on in a burst, which begins with the store of the fault: the frame leads there, and
   * the region stays entered until its end. */
  bool (*begin)(struct dsm_fault *fault);
  /* Returns whether the signal came while the thread was in a burst, and handles it. */
  bool (*interrupted)(const siginfo_t *info, ucontext_t *context);
};

#pragma GCC visibility push(hidden)

/* Sets the hooks, NULL: none. */
void dsm_fault_set_burst(const struct dsm_burst_hooks *hooks);

/* Installs the fault handlers (safe to call again: reinstalls replaced handlers) and prepares the decoder. Returns 0,
 * or -1 with errno. */
int dsm_capture_init(void);

/* Ends the process as the handlers do if a sink has failed, and has said so: by SIGBUS, at once. */
_Noreturn void dsm_end_of_failed_store(void);

#pragma GCC visibility pop

#endif
