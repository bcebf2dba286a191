/* Keeps a thread from being cancelled while it waits in the library: it would leave a connection in use, and its call in
 * progress for ever. */
#ifndef DSM_CANCEL_H
#define DSM_CANCEL_H

#include <pthread.h>

/* Returns what cancel_restore() takes. */
static inline int cancel_disable(void) {
  int before = PTHREAD_CANCEL_ENABLE;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
  return before;
}

static inline void cancel_restore(int before) {
  pthread_setcancelstate(before, NULL);
}

#endif
