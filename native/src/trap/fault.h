/* The fault handlers. */
#ifndef DSM_FAULT_H
#define DSM_FAULT_H

#pragma GCC visibility push(hidden)

/* Installs the fault handlers (safe to call again: reinstalls replaced handlers) and prepares the decoder. Returns 0,
 * or -1 with errno. */
int dsm_capture_init(void);

/* Ends the process as the handlers do if a sink has failed, and has said so: by SIGBUS, at once. */
_Noreturn void dsm_end_of_failed_store(void);

#pragma GCC visibility pop

#endif
