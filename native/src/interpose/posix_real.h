/* The real functions behind the calls of pthreads that libdsm interposes. */
#ifndef DSM_POSIX_REAL_H
#define DSM_POSIX_REAL_H

#include <stddef.h>

#pragma GCC visibility push(hidden)

/* Returns the C library's function (or that of a sanitizer) of that name, of the newest version that there is; NULL: none.
 * Called without locks, before constructors have run, too. */
void *posix_next(const char *name);

#pragma GCC visibility pop

/* The real function of a call, looked up when it is first needed. */
#define REAL(name)                                                                                                     \
  ({                                                                                                                   \
    static __typeof__(&name) real_;                                                                                    \
    __typeof__(&name) found_ = __atomic_load_n(&real_, __ATOMIC_RELAXED);                                              \
    if (__builtin_expect(found_ == NULL, 0)) {                                                                         \
      found_ = (__typeof__(&name))posix_next(#name);                                                                   \
      __atomic_store_n(&real_, found_, __ATOMIC_RELAXED);                                                              \
    }                                                                                                                  \
    found_;                                                                                                            \
  })

/* Calls the real function; `missing`: the result where there is none. */
#define CALL_REAL(name, missing, ...)                                                                                  \
  ({                                                                                                                   \
    __typeof__(&name) to_ = REAL(name);                                                                                \
    __builtin_expect(to_ == NULL, 0) ? (missing) : to_(__VA_ARGS__);                                                   \
  })

#endif
