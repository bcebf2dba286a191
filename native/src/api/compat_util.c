/* dsm_util.h */
#include <dsm/dsm_util.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void dsm_panic(const char *msg) {
  dsm_cpanic(msg, strerror(errno));
}

void dsm_cpanic(const char *msg, const char *reason) {
  fprintf(stderr, "dsm: %s: %s\n", msg, reason);
  exit(EXIT_FAILURE);
}

void dsm_panicf(const char *fmt, ...) {
  va_list arguments;
  va_start(arguments, fmt);
  fputs("dsm: ", stderr);
  vfprintf(stderr, fmt, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(EXIT_FAILURE);
}

void dsm_warning(const char *msg) {
  fprintf(stderr, "dsm: warning: %s\n", msg);
}

int dsm_fork(void) {
  pid_t child = fork();
  if (child < 0) dsm_panic("fork");
  return child;
}

void *dsm_zalloc(size_t size) {
  void *memory = calloc(1, size > 0 ? size : 1);
  if (memory == NULL) dsm_panic("no memory");
  return memory;
}

double dsm_getWallTime(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (double)now.tv_sec + (double)(now.tv_nsec / 1000) / 1e6;
}
