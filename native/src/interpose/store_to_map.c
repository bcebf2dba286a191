/* Stores of many bytes to the map.
 *
 * What lies in pages that the process can write to is stored by the real function. All else is published in pieces, each
 * one entry of the log: the bytes are first copied out of the program's memory by the real function, so that a fault
 * there is an ordinary one of the program, and so that a source that overlaps the destination is read before it
 * changes. */
#define _GNU_SOURCE
#include "interpose/store_to_map.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/next.h"
#include "interpose/buffers.h"
#include "trap/fault.h"
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

/* Bytes to be stored: those of a source, or one value. */
struct source {
  const uint8_t *bytes; /* NULL: the value */
  int value;
  bool is_private; /* the bytes are our own copy */
};

/* Scratch from which pieces are published. Most stores to pages that open need none, so it is claimed late. */
struct room {
  struct small_scratch small;
  struct scratch scratch;
  size_t size;
  bool is_claimed;
};

static void store_plainly(uintptr_t to, const struct source *source, size_t size) {
  if (source->bytes != NULL)
    real_stores.move((void *)to, source->bytes, size);
  else
    real_stores.fill((void *)to, source->value, size);
}

/* Returns the next bytes to publish, and their number: dsm_region_write() makes one entry of them. NULL: no memory. */
static const uint8_t *next_piece(uintptr_t to, const struct source *source, size_t *size, struct room *room) {
  size_t most = PIECE_BYTES - to % DSM_STORE_BYTES_MAX;
  if (*size > most) *size = most;
  if (source->is_private) return source->bytes;
  if (!room->is_claimed) {
    if (scratch_claim(&room->scratch, &room->small, room->size, 1) != 0) return NULL;
    room->is_claimed = true;
    if (source->bytes == NULL) real_stores.fill(room->scratch.bytes, source->value, room->size);
  }
  if (*size > room->size) *size = room->size;
  if (source->bytes != NULL) real_stores.copy(room->scratch.bytes, source->bytes, *size);
  return room->scratch.bytes;
}

/* Stores bytes to memory that lies in a map. Returns how many. */
static size_t store_some(uintptr_t to, const struct source *source, size_t size, struct room *room) {
  size_t writable = dsm_region_writable(to, size);
  if (writable == 0) {
    ptrdiff_t opened = dsm_region_open(to, size, (uintptr_t)&store_some);
    if (opened > 0) {
      writable = (size_t)opened;
    } else {
      size = (size_t)-opened;
      const uint8_t *bytes = next_piece(to, source, &size, room);
      if (bytes != NULL && dsm_region_write(to, bytes, size) == 0) return size;
      if (bytes != NULL && errno == EIO) dsm_end_of_failed_store();
      writable = size; /* The store itself traps, and its handler says what is wrong. */
    }
  }
  store_plainly(to, source, writable);
  return writable;
}

/* Stores in ascending order of addresses. */
static void store_ascending(uintptr_t to, struct source source, size_t size) {
  struct room room;
  room.is_claimed = false;
  room.size = size < PIECE_BYTES ? size : PIECE_BYTES;
  while (size > 0) {
    uintptr_t start;
    size_t inside = dsm_region_part(to, size, &start), done = start - to;
    if (done > 0)
      store_plainly(to, &source, done);
    else
      done = store_some(to, &source, inside, &room);
    to += done;
    size -= done;
    if (source.bytes != NULL) source.bytes += done;
  }
  if (room.is_claimed) scratch_release(&room.scratch);
}

/* Stored in ascending order the beginning would overwrite the end of the source, so that is copied as a whole first. Not
 * inlined: other calls would have its scratch on their stack, too. */
__attribute__((noinline)) static void move_upwards(void *to, const void *from, size_t size) {
  struct small_scratch small;
  struct scratch copy;
  if (to == from || scratch_claim(&copy, &small, size, 1) != 0) {
    real_stores.move(to, from, size);
    return;
  }
  real_stores.copy(copy.bytes, from, size);
  store_ascending((uintptr_t)to, (struct source){.bytes = copy.bytes, .is_private = true}, size);
  scratch_release(&copy);
}

void move_to_map(void *to, const void *from, size_t size) {
  int saved_errno = errno;
  if ((uintptr_t)to - (uintptr_t)from < size)
    move_upwards(to, from, size);
  else
    store_ascending((uintptr_t)to, (struct source){.bytes = from}, size);
  errno = saved_errno;
}

void fill_map(void *to, int byte, size_t size) {
  int saved_errno = errno;
  store_ascending((uintptr_t)to, (struct source){.value = byte}, size);
  errno = saved_errno;
}
