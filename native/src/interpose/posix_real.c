#define _GNU_SOURCE
#include "interpose/posix_real.h"

#include "base/next.h"
#include "trap/tool.h"

extern void *dlvsym_2_2_5(void *handle, const char *name, const char *version) __attribute__((weak));
__asm__(".symver dlvsym_2_2_5, dlvsym@GLIBC_2.2.5");

void *posix_next(const char *name) {
  /* By versions: without one, older C libraries give the condition variables of 1999, which are another type. */
  static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.30",  "GLIBC_2.28",
                                         "GLIBC_2.12", "GLIBC_2.3.2", "GLIBC_2.2.5"};
  void *found = NULL;
  /* The functions of a sanitizer have no version. */
  if (tool_is_thread_sanitizer()) dsm_find_next(&found, name);
  for (unsigned i = 0; found == NULL && dlvsym_2_2_5 != NULL && i < sizeof versions / sizeof *versions; i++)
    found = dlvsym_2_2_5(RTLD_NEXT, name, versions[i]);
  if (found == NULL) dsm_find_next(&found, name);
  return found;
}
