/* The clock of deadlines: monotonic. */
#ifndef DSM_CLOCK_H
#define DSM_CLOCK_H

#include <time.h>

static inline long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static inline long long now_ms(void) {
  return now_ns() / 1000000;
}

#endif
