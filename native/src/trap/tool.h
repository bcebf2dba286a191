/* Tools that watch the program: ThreadSanitizer and valgrind. What they are told, and what they must be able to do.
 *
 * Without the tool these cost a comparison. All of it is handler-safe, but for tool_keeps_registers(). */
#ifndef DSM_TOOL_H
#define DSM_TOOL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/* ---- ThreadSanitizer: its functions, if its run-time library is in the process ---- */

extern void AnnotateIgnoreReadsBegin(const char *file, int line) __attribute__((weak));
extern void AnnotateIgnoreReadsEnd(const char *file, int line) __attribute__((weak));
extern void AnnotateIgnoreWritesBegin(const char *file, int line) __attribute__((weak));
extern void AnnotateIgnoreWritesEnd(const char *file, int line) __attribute__((weak));
extern void __tsan_acquire(void *object) __attribute__((weak));
extern void __tsan_release(void *object) __attribute__((weak));

static inline bool tool_is_thread_sanitizer(void) {
  return __tsan_acquire != NULL;
}

/* From here to tool_leave() this thread runs dsm's own code. It is compiled without ThreadSanitizer, which sees its
 * memcpy() and mmap() all the same, but not the atomic operations that order them. */
static inline void tool_enter(void) {
  if (AnnotateIgnoreReadsBegin == NULL || AnnotateIgnoreWritesBegin == NULL) return;
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}

static inline void tool_leave(void) {
  if (AnnotateIgnoreReadsEnd == NULL || AnnotateIgnoreWritesEnd == NULL) return;
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

/* What this thread has done is before what any thread does that calls tool_acquire() of the object afterwards. */
static inline void tool_release(void *object) {
  if (__tsan_release != NULL) __tsan_release(object);
}

static inline void tool_acquire(void *object) {
  if (__tsan_acquire != NULL) __tsan_acquire(object);
}

/* ---- debuggers ---- */

#pragma GCC visibility push(hidden)

/* Called with a SIGSEGV or SIGBUS that is the program's own, before its handler or its death. It does nothing: gdb, to
 * which dsm's faults are no news, stops here (libdsm-gdb.py). */
void dsm_fault_of_program(int signo);

#pragma GCC visibility pop

/* ---- valgrind ---- */

#pragma GCC visibility push(hidden)

/* The options that valgrind needs so that stores can be captured. */
#define TOOL_VALGRIND_OPTIONS "--vex-iropt-register-updates=allregs-at-mem-access --vex-guest-chase=no"

bool tool_is_valgrind(void);

/* The code in [start, start + size) is new. A processor sees that by itself. */
void tool_code_changed(const void *start, size_t size);

/* Returns whether a handler sees the registers of the program as they were at a faulting store, and can change them. It
 * tests this with one such store; the fault handlers must be installed. */
bool tool_keeps_registers(void);

/* Called in the SIGSEGV handler: returns whether the fault was that store, and handles it. */
bool tool_probe_hit(ucontext_t *context);

#pragma GCC visibility pop

#endif
