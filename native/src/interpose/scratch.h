/* Scratch: memory that the kernel reads into, in place of the map. */
#ifndef DSM_SCRATCH_H
#define DSM_SCRATCH_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "trap/region.h"

#define BOUNCE_BYTES DSM_STORE_BYTES_MAX /* of the map in one system call, unless a message must be read as a whole */
#define PARTS_MAX 1024u                  /* the kernel's limit (IOV_MAX) */

/* The buffers for the kernel: parts outside the map are those of the program, the others have bytes here. */
struct scratch {
  uint8_t *bytes;
  struct iovec *parts;
  uintptr_t *places; /* where the part belongs in the map, 0 if it is outside */
  size_t bytes_max;
  unsigned parts_max;
  int slot;       /* -1: none */
  void *mapping;  /* NULL: none */
  size_t mapped;
};

/* Scratch on the stack, large enough for most calls. The alignment is for files opened with O_DIRECT. */
struct small_scratch {
  alignas(512) uint8_t bytes[1024];
  struct iovec parts[4];
  uintptr_t places[4];
};

#pragma GCC visibility push(hidden)

/* Claims room for that many bytes and parts. Returns 0, or -1 with errno. handler-safe. */
int scratch_claim(struct scratch *s, struct small_scratch *small, size_t bytes, unsigned parts);
void scratch_release(struct scratch *s);

#pragma GCC visibility pop

#endif
