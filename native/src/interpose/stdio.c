/* fread() into the map. Not handler-safe: it locks the file. */
#define _GNU_SOURCE

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

#include "interpose/buffers.h"
#include "interpose/kernel_io.h"
#include "interpose/real_calls.h"

/* Reads bytes, some of them into the map, from a locked file. */
static size_t read_file(uint8_t *buffer, size_t size, FILE *file) {
  struct iovec all = {buffer, size};
  struct small_scratch small;
  struct scratch scratch;
  size_t done = 0;
  if (scratch_claim(&scratch, &small, size < BOUNCE_BYTES ? size : BOUNCE_BYTES, 3) != 0) {
    file->_flags |= _IO_ERR_SEEN;
    return 0;
  }
  while (done < size) {
    size_t total;
    if (buffers_divide(&scratch, &all, 1, done, &total) == 0) break;
    size_t got = _IO_sgetn(file, scratch.parts->iov_base, scratch.parts->iov_len);
    if (buffers_publish(&scratch, 1, got) != 0) {
      file->_flags |= _IO_ERR_SEEN;
      break;
    }
    done += got;
    if (got < scratch.parts->iov_len) break;
  }
  scratch_release(&scratch);
  return done;
}

size_t dsm_fread_unlocked(void *buffer, size_t size, size_t count, FILE *file) {
  size_t bytes;
  if (__builtin_expect(__builtin_mul_overflow(size, count, &bytes) || !in_map(buffer, bytes), 1)) {
    return real_reads.unlocked_fread(buffer, size, count, file);
  }
  int cancellable;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable); /* a cancelled thread would leave the file locked */
  size_t got = read_file(buffer, bytes, file);
  pthread_setcancelstate(cancellable, NULL);
  return got == bytes ? count : got / size;
}

size_t dsm_fread(void *buffer, size_t size, size_t count, FILE *file) {
  size_t bytes;
  if (__builtin_expect(__builtin_mul_overflow(size, count, &bytes) || !in_map(buffer, bytes), 1)) {
    return real_reads.fread(buffer, size, count, file);
  }
  int cancellable;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
  flockfile(file);
  size_t got = dsm_fread_unlocked(buffer, size, count, file);
  funlockfile(file);
  pthread_setcancelstate(cancellable, NULL);
  return got;
}
