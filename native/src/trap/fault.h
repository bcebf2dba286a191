/* The fault handlers. */
#ifndef DSM_FAULT_H
#define DSM_FAULT_H

#pragma GCC visibility push(hidden)

/* Installs the fault handlers (once; safe to call again, and re-installs handlers that were replaced), prepares the decoder.
 * 0, or -1 with errno. */
int dsm_capture_init(void);

#pragma GCC visibility pop

#endif
