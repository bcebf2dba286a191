/* The calls that libdsm stands in front of, as they are behind it: the C library's, a sanitizer's, or another preloaded
 * library's. */
#ifndef DSM_NEXT_H
#define DSM_NEXT_H

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

/* dlsym by the version every glibc has. Weak: before glibc 2.34 it is in libdl, which need not be there, and a static
 * program has none. */
extern void *dlsym_2_2_5(void *handle, const char *name) __attribute__((weak));
__asm__(".symver dlsym_2_2_5, dlsym@GLIBC_2.2.5");

/* Puts the next call of that name into the function pointer at `pointer`, which stays as it is if there is none. */
static inline void dsm_find_next(void *pointer, const char *name) {
  void *next = dlsym_2_2_5 == NULL ? NULL : dlsym_2_2_5(RTLD_NEXT, name);
  if (next != NULL) memcpy(pointer, &next, sizeof(next));
}

/* Whether another libdsm in this process stands before this one: `dsm run` has preloaded its own, and the program brings
 * another. Then that one sees all calls first, and this one passes them on as they are. */
bool dsm_is_second(void) __attribute__((visibility("hidden")));

#endif
