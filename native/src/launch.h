/* Starting a program that outlives this process and is none of its business.
 *
 * The program that joins a session may have signal handlers, threads, children it waits for, a large memory, and may
 * run under a sanitizer, valgrind or a debugger. Nothing of it is to show in what is started, and the other way round. */
#ifndef DSM_LAUNCH_H
#define DSM_LAUNCH_H

#pragma GCC visibility push(hidden)

/* Runs `path` as a process of its own: a session of its own, in "/", standard output is `output`, standard input and
 * error are /dev/null, no other descriptor, no signal blocked, ignored or handled, file mode mask 077.
 *
 * It is no child that this process's wait() could return or that raises SIGCHLD; of a process that adopts orphans it is
 * one, as they all are. It leaves no zombie here.
 *
 * 0, or an errno: nothing was started. What fails after that is written to `output` as one line, "failed START ERRNO"
 * (a process could not be started) or "failed RUN ERRNO" (`path` could not be run). */
int launch(const char *path, char *const arguments[], char *const environment[], int output);

/* A copy of this process's environment for what outlives it: without what would load code into it (LD_PRELOAD,
 * LD_AUDIT: sanitizers, valgrind, profilers) or make dsm something else (BUN_BE_BUN, BUN_OPTIONS). The caller frees the
 * array, not its strings. NULL: no memory. */
char **launch_environment(void);

#pragma GCC visibility pop

#endif
