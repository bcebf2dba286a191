/* Lookup of the functions behind the calls that libdsm interposes: those of the C library, a sanitizer, or another
 * preloaded library. */
#ifndef DSM_NEXT_H
#define DSM_NEXT_H

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

/* dlsym by the version every glibc has. Weak: before glibc 2.34 it is in libdl, which need not be there, and a static
 * program has none. */
extern void *dlsym_2_2_5(void *handle, const char *name) __attribute__((weak));
__asm__(".symver dlsym_2_2_5, dlsym@GLIBC_2.2.5");

/* Puts the next function of that name into the function pointer at `pointer`, which stays as it is if there is none. */
static inline void dsm_find_next(void *pointer, const char *name) {
  void *next = dlsym_2_2_5 == NULL ? NULL : dlsym_2_2_5(RTLD_NEXT, name);
  if (next != NULL) memcpy(pointer, &next, sizeof(next));
}

/* Returns whether another libdsm precedes this one in the process: `dsm run` preloads its own, and the program may
 * bring another. The first one then sees all calls, and this one passes them on unchanged. */
bool dsm_is_second(void) __attribute__((visibility("hidden")));

#endif
