#define _GNU_SOURCE
#include "link/thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>

#include "trap/signals.h"

/* pthread_create() by the version every glibc has. Weak: before glibc 2.34 it is in libpthread, which programs that
 * start threads have. */
extern int pthread_create_2_2_5(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                                void *argument) __attribute__((weak));
__asm__(".symver pthread_create_2_2_5, pthread_create@GLIBC_2.2.5");
extern int pthread_attr_setstacksize_2_2_5(pthread_attr_t *attributes, size_t size) __attribute__((weak));
__asm__(".symver pthread_attr_setstacksize_2_2_5, pthread_attr_setstacksize@GLIBC_2.2.5");

int thread_can_start(void) {
  return pthread_create_2_2_5 != NULL;
}

int thread_start(void *(*run)(void *), void *argument, size_t stack) {
  pthread_attr_t attributes;
  pthread_t thread;
  uint64_t before;
  const uint64_t most = ~(DSM_SIGNAL_BIT(SIGSEGV) | DSM_SIGNAL_BIT(SIGBUS) | DSM_SIGNAL_BIT(SIGTRAP) |
                          DSM_SIGNAL_BIT(SIGFPE) | DSM_SIGNAL_BIT(SIGILL));
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  if (stack > 0 && pthread_attr_setstacksize_2_2_5 != NULL) pthread_attr_setstacksize_2_2_5(&attributes, stack);
  dsm_signals_block(&before);
  dsm_signals_set(most);
  int error = pthread_create_2_2_5 == NULL ? ENOSYS : pthread_create_2_2_5(&thread, &attributes, run, argument);
  dsm_signals_restore(&before);
  pthread_attr_destroy(&attributes);
  return error;
}
