/* Signal actions as the kernel has them, by the raw system call: sanitizers stand in front of sigaction(). */
#ifndef DSM_KERNEL_ACTION_H
#define DSM_KERNEL_ACTION_H

#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "trap/syscall.h"

struct dsm_kernel_action {
  uintptr_t handler;
  uint64_t flags;
  uintptr_t restorer;
  uint64_t mask;
};

#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000
#endif

#pragma GCC visibility push(hidden)

/* What a handler returns to: the system call that ends a signal frame. */
extern void dsm_restore_frame(void) __asm__("__restore_rt");

/* Does what sigaction() of a C library does. Returns 0, or -1 with errno. */
int dsm_system_sigaction(int signo, const struct sigaction *action, struct sigaction *old);

#pragma GCC visibility pop

/* Returns 0, or a negative error number. */
static inline long dsm_kernel_action(int signo, const struct dsm_kernel_action *new, struct dsm_kernel_action *old) {
  return dsm_syscall(SYS_rt_sigaction, signo, (long)new, (long)old, DSM_SIGSET_BYTES);
}

#endif
