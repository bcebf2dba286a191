/* System calls without glibc's errno. handler-safe. */
#ifndef DSM_SYSCALL_H
#define DSM_SYSCALL_H

/* Of a set of signals, as the kernel reads it. */
#define DSM_SIGSET_BYTES 8

#pragma GCC visibility push(hidden)

/* Returns what the kernel returns: a negative errno if it failed. */
long dsm_syscall(long number, long a, long b, long c, long d);

#pragma GCC visibility pop

#endif
