/* Starts a program that outlives this process and is independent of it.
 *
 * The program that joins a session may have signal handlers, threads, children it waits for, a large memory, and may
 * run under a sanitizer, valgrind or a debugger. None of this must affect the started program, and vice versa. */
#ifndef DSM_LAUNCH_H
#define DSM_LAUNCH_H

#pragma GCC visibility push(hidden)

/* Runs `path` as an independent process: in a process session of its own, in "/", standard output is `output`, standard
 * input and error are /dev/null, no other descriptor, no signal blocked, ignored or handled, umask 077.
 *
 * The process is not a child that wait() could return or that raises SIGCHLD, also if this process adopts orphans (process
 * 1 of a container, a subreaper). It leaves no zombie here.
 *
 * Returns 0, or an errno if nothing was started. A later failure is written to `output` as one line, "failed START
 * ERRNO" (a process could not be started) or "failed RUN ERRNO" (`path` could not be run). */
int launch(const char *path, char *const arguments[], char *const environment[], int output);

/* Returns a copy of the environment for the started program, without variables that would load code into it
 * (LD_PRELOAD, LD_AUDIT: sanitizers, valgrind, profilers), change what dsm does (BUN_BE_BUN, BUN_OPTIONS) or mark the
 * processes of a run (DSM_RUN_RECORD). The caller frees the array, not its strings. Returns NULL if out of memory. */
char **launch_environment(void);

#pragma GCC visibility pop

#endif
