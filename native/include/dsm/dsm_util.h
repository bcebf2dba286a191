/* Utilities of programs written for libdsm: messages, checks, time and memory. */
#ifndef DSM_UTIL_H
#define DSM_UTIL_H

#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define UNUSED(x) (void)(x)

/* Bytes in a page of memory. */
#define DSM_PAGESIZE sysconf(_SC_PAGESIZE)
#define DSM_LOOPBACK_ADDR "127.0.0.1"

/* Terminate the program, with file and line, when the expression is false. */
#define ASSERT_COND(E) ((E) ? (void)0 : dsm_panicf("%s:%d: this must hold: %s", __FILE__, __LINE__, #E))
#define ASSERT_STATE(E) ((E) ? (void)0 : dsm_panicf("%s:%d: not in a state where %s", __FILE__, __LINE__, #E))

/* Print `msg` and the reason in errno, and exit with EXIT_FAILURE. */
void dsm_panic(const char *msg) __attribute__((noreturn));
/* Print `msg` and `reason`, and exit with EXIT_FAILURE. */
void dsm_cpanic(const char *msg, const char *reason) __attribute__((noreturn));
/* Print like printf, and exit with EXIT_FAILURE. */
void dsm_panicf(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* Print `msg` and return. */
void dsm_warning(const char *msg);

/* fork(), or a panic. */
int dsm_fork(void);
/* Zeroed memory of `size` bytes, or a panic. */
void *dsm_zalloc(size_t size);
/* Seconds since the epoch, to the microsecond. */
double dsm_getWallTime(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
