#define _GNU_SOURCE
#include "interpose/posix_objects.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "session/handles.h"

_Noreturn static void end_process(const char *call) {
  char text[1200];
  int length = snprintf(text, sizeof text, "dsm: %s: %s\n", call, dsm_last_error());
  if (length > (int)sizeof text - 1) length = sizeof text - 1;
  syscall(SYS_write, STDERR_FILENO, text, (size_t)length);
  abort();
}

static const struct {
  const char *name;
  size_t size;
} kinds[POSIX_KINDS] = {
    [POSIX_MUTEX] = {"mutex", sizeof(pthread_mutex_t)},
    [POSIX_CONDITION] = {"condition variable", sizeof(pthread_cond_t)},
    [POSIX_RWLOCK] = {"reader-writer lock", sizeof(pthread_rwlock_t)},
    [POSIX_BARRIER] = {"barrier", sizeof(pthread_barrier_t)},
    [POSIX_SEMAPHORE] = {"semaphore", sizeof(sem_t)},
};

bool posix_find(struct object *object, enum posix_kind kind, void *address) {
  dsm_session *session = handle_at(address);
  /* A child after fork() does not have the map; that is for the real call to find out. */
  if (session == NULL || session->link.pid < 0 || atomic_load(&session->link.left)) return false;
  if (atomic_load(&session->link.direct) && !session->link.elastic) {
    posix_share(kind, address);
    return false;
  }
  if (object_find_in(session, object, kinds[kind].name, address, kinds[kind].size, OBJECT_ALIGN) != DSM_OK)
    end_process(kinds[kind].name);
  return true;
}

int posix_error(int status, const char *call) {
  switch (status) {
    case DSM_OK: return 0;
    case DSM_AGAIN: return EBUSY;
    case DSM_BUSY: return EDEADLK;
    case DSM_TIMEOUT: return ETIMEDOUT;
    case DSM_OWNER_DIED: return EOWNERDEAD;
    case DSM_NOT_OWNER: return EPERM;
    case DSM_OVERFLOW: return EOVERFLOW;
    /* Another thread has left the session while this one waited: no process will wake it. */
    case DSM_LEFT:
      for (;;) pause();
    default: end_process(call);
  }
}

bool deadline_is_valid(const struct deadline *deadline) {
  if (deadline->time == NULL) return true;
  return (deadline->clock == CLOCK_REALTIME || deadline->clock == CLOCK_MONOTONIC) && deadline->time->tv_nsec >= 0 &&
         deadline->time->tv_nsec < 1000000000;
}

int deadline_ms(const struct deadline *deadline) {
  if (deadline->time == NULL) return -1;
  struct timespec now;
  clock_gettime(deadline->clock, &now);
  long long seconds = (long long)deadline->time->tv_sec - now.tv_sec;
  if (seconds < -1) return 0;
  if (seconds > INT32_MAX / 1000 - 1) return INT32_MAX;
  long long left_ns = seconds * 1000000000 + (deadline->time->tv_nsec - now.tv_nsec);
  return left_ns <= 0 ? 0 : (int)((left_ns + 999999) / 1000000);
}

void posix_testcancel(void) {
  CALL_REAL(pthread_testcancel, (void)0);
}
