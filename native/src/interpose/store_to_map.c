/* Stores of many bytes to the map.
 *
 * What lies in pages that the process can write to is stored by the real function. All else is published in pieces, each
 * one entry of the log: the bytes are first copied out of the program's memory by the real function, so that a fault
 * there is an ordinary one of the program, and so that a source that overlaps the destination is read before it
 * changes. */
#define _GNU_SOURCE
#include "interpose/store_to_map.h"

#include <stdint.h>

#include "base/next.h"
#include "interpose/buffers.h"
#include "trap/region.h"

/* Bytes published as one entry. */
#define PIECE_BYTES DSM_WRITE_BYTES_MAX

static void *plain_move(void *to, const void *from, size_t size) {
  char *at = to;
  if ((uintptr_t)to - (uintptr_t)from >= size) {
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
    return to;
  }
  const char *source = from;
  while (size-- > 0) ((volatile char *)at)[size] = source[size];
  return to;
}

static void *plain_fill(void *to, int byte, size_t size) {
  char *at = to;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(byte) : "memory");
  return to;
}

struct real_stores real_stores = {plain_move, plain_move, plain_fill};

__attribute__((constructor)) static void find_real_stores(void) {
  dsm_find_next(&real_stores.move, "memmove");
  dsm_find_next(&real_stores.copy, "memcpy");
  dsm_find_next(&real_stores.fill, "memset");
}

/* Bytes to be stored: those of a source, or of scratch that is filled with one value. */
struct source {
  const uint8_t *bytes; /* NULL: scratch is filled */
  int value;
};

static void store_plainly(uintptr_t to, const struct source *source, size_t size) {
  if (source->bytes != NULL)
    real_stores.move((void *)to, source->bytes, size);
  else
    real_stores.fill((void *)to, source->value, size);
}

/* Returns how many bytes to publish next: dsm_region_write() makes one entry of them. */
static size_t piece_of(uintptr_t to, size_t size, size_t room) {
  size_t piece = PIECE_BYTES - to % DSM_STORE_BYTES_MAX;
  if (piece > room) piece = room;
  return size < piece ? size : piece;
}

/* Stores bytes to memory that lies in a map. Returns how many. */
static size_t store_some(uintptr_t to, const struct source *source, size_t size, const struct scratch *scratch) {
  size_t writable = dsm_region_writable(to, size);
  if (writable == 0) {
    ptrdiff_t opened = dsm_region_open(to, size, (uintptr_t)&store_some);
    if (opened > 0) {
      writable = (size_t)opened;
    } else {
      size = piece_of(to, (size_t)-opened, scratch->bytes_max);
      if (source->bytes != NULL) real_stores.copy(scratch->bytes, source->bytes, size);
      if (dsm_region_write(to, scratch->bytes, size) == 0) return size;
      writable = size; /* The store itself traps, and its handler says what is wrong. */
    }
  }
  store_plainly(to, source, writable);
  return writable;
}

/* Stores in ascending order of addresses. */
static void store_ascending(uintptr_t to, struct source source, size_t size, const struct scratch *scratch) {
  while (size > 0) {
    uintptr_t start;
    size_t inside = dsm_region_part(to, size, &start), done = start - to;
    if (done > 0)
      store_plainly(to, &source, done);
    else
      done = store_some(to, &source, inside, scratch);
    to += done;
    size -= done;
    if (source.bytes != NULL) source.bytes += done;
  }
}

void move_to_map(void *to, const void *from, size_t size) {
  struct small_scratch small;
  struct scratch scratch;
  /* Stored in ascending order the beginning would overwrite the end of the source. */
  int overlaps = (uintptr_t)to - (uintptr_t)from < size;
  if (to == from || scratch_claim(&scratch, &small, overlaps || size < PIECE_BYTES ? size : PIECE_BYTES, 1) != 0) {
    real_stores.move(to, from, size);
    return;
  }
  if (overlaps) {
    struct small_scratch small_copy;
    struct scratch copy;
    if (scratch_claim(&copy, &small_copy, size, 1) != 0) {
      real_stores.move(to, from, size);
    } else {
      real_stores.copy(copy.bytes, from, size);
      store_ascending((uintptr_t)to, (struct source){copy.bytes, 0}, size, &scratch);
      scratch_release(&copy);
    }
  } else {
    store_ascending((uintptr_t)to, (struct source){from, 0}, size, &scratch);
  }
  scratch_release(&scratch);
}

void fill_map(void *to, int byte, size_t size) {
  struct small_scratch small;
  struct scratch scratch;
  if (scratch_claim(&scratch, &small, size < PIECE_BYTES ? size : PIECE_BYTES, 1) != 0) {
    real_stores.fill(to, byte, size);
    return;
  }
  real_stores.fill(scratch.bytes, byte, scratch.bytes_max < size ? scratch.bytes_max : size);
  store_ascending((uintptr_t)to, (struct source){NULL, byte}, size, &scratch);
  scratch_release(&scratch);
}
