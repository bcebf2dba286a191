/* Interposed calls by which programs pass memory for use as a stack, for memory in the map. Weak, as in interpose.c. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trap/altstack.h"
#include "session/handles.h"

#define EXPORT __attribute__((weak, visibility("default")))

/* By the versions every glibc has; weak, because before 2.34 they are in libpthread. */
extern int pthread_attr_setstacksize_real(pthread_attr_t *attributes, size_t size) __attribute__((weak));
__asm__(".symver pthread_attr_setstacksize_real, pthread_attr_setstacksize@GLIBC_2.2.5");
extern int pthread_attr_setstackaddr_real(pthread_attr_t *attributes, void *top) __attribute__((weak));
__asm__(".symver pthread_attr_setstackaddr_real, pthread_attr_setstackaddr@GLIBC_2.2.5");

EXPORT int sigaltstack(const stack_t *restrict wanted, stack_t *restrict before) {
  return dsm_altstack_set(wanted, before);
}

/* Refuses a thread stack in the map: the C library keeps the thread descriptor at its top, where the kernel writes,
 * too. */
static int refuse_in_map(const void *bytes, size_t size) {
  static const char text[] =
      "dsm: the stack of a thread cannot lie in the map, which is read-only (EACCES); give the thread other memory\n";
  if (!session_may_trap(bytes, size)) return 0;
  syscall(SYS_write, STDERR_FILENO, text, sizeof text - 1);
  return EACCES;
}

/* As in glibc, which keeps the size and the top of a stack. */
EXPORT int pthread_attr_setstack(pthread_attr_t *attributes, void *bytes, size_t size) {
  if (pthread_attr_setstacksize_real == NULL || pthread_attr_setstackaddr_real == NULL) return ENOSYS;
  int error = refuse_in_map(bytes, size);
  if (error == 0) error = pthread_attr_setstacksize_real(attributes, size);
  if (error == 0) error = pthread_attr_setstackaddr_real(attributes, (char *)bytes + size);
  return error;
}
