/* Which bit of an object says that it is shared differs between the versions of glibc. It is the one in which an object
 * that was initialised as shared differs from one that was not. */
#define _GNU_SOURCE
#include "interpose/posix_shared.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "interpose/posix_real.h"

#define OBJECT_BYTES_MAX 64

/* Makes an object of that kind here. Returns 0, or an error number. */
static int make(enum posix_kind kind, int shared, void *object) {
  const int how = shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE;
  union {
    pthread_mutexattr_t mutex;
    pthread_condattr_t condition;
    pthread_rwlockattr_t rwlock;
    pthread_barrierattr_t barrier;
  } attributes;
  switch (kind) {
    case POSIX_MUTEX:
      if (CALL_REAL(pthread_mutexattr_init, ENOSYS, &attributes.mutex) != 0) return -1;
      if (CALL_REAL(pthread_mutexattr_setpshared, ENOSYS, &attributes.mutex, how) != 0) return -1;
      return CALL_REAL(pthread_mutex_init, ENOSYS, object, &attributes.mutex);
    case POSIX_CONDITION:
      if (CALL_REAL(pthread_condattr_init, ENOSYS, &attributes.condition) != 0) return -1;
      if (CALL_REAL(pthread_condattr_setpshared, ENOSYS, &attributes.condition, how) != 0) return -1;
      return CALL_REAL(pthread_cond_init, ENOSYS, object, &attributes.condition);
    case POSIX_RWLOCK:
      if (CALL_REAL(pthread_rwlockattr_init, ENOSYS, &attributes.rwlock) != 0) return -1;
      if (CALL_REAL(pthread_rwlockattr_setpshared, ENOSYS, &attributes.rwlock, how) != 0) return -1;
      return CALL_REAL(pthread_rwlock_init, ENOSYS, object, &attributes.rwlock);
    case POSIX_BARRIER:
      if (CALL_REAL(pthread_barrierattr_init, ENOSYS, &attributes.barrier) != 0) return -1;
      if (CALL_REAL(pthread_barrierattr_setpshared, ENOSYS, &attributes.barrier, how) != 0) return -1;
      return CALL_REAL(pthread_barrier_init, ENOSYS, object, &attributes.barrier, 1);
    default: return -1;
  }
}

/* Where the bit is: the number of the byte, and above it the bit; 0: not known, for in byte 0 are counters and locks. */
#define BYTE_BITS 8
static atomic_uint places[POSIX_KINDS];

static unsigned place_of(enum posix_kind kind) {
  unsigned place = atomic_load_explicit(&places[kind], memory_order_relaxed);
  if (__builtin_expect(place != 0 || kind == POSIX_SEMAPHORE, 1)) return place;
  _Alignas(16) uint8_t private[OBJECT_BYTES_MAX] = {0}, shared[OBJECT_BYTES_MAX] = {0};
  if (make(kind, 0, private) != 0 || make(kind, 1, shared) != 0) return 0;
  for (unsigned byte = 0; byte < OBJECT_BYTES_MAX && place == 0; byte++)
    if (private[byte] != shared[byte]) place = byte | (unsigned)(shared[byte] & ~private[byte]) << BYTE_BITS;
  atomic_store_explicit(&places[kind], place, memory_order_relaxed);
  return place;
}

void posix_share(enum posix_kind kind, void *object) {
  unsigned place = place_of(kind);
  uint8_t bit = (uint8_t)(place >> BYTE_BITS);
  uint8_t *byte = (uint8_t *)object + (place & ((1u << BYTE_BITS) - 1));
  if (bit != 0 && (__atomic_load_n(byte, __ATOMIC_RELAXED) & bit) == 0) __atomic_fetch_or(byte, bit, __ATOMIC_RELAXED);
}
