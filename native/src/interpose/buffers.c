#define _GNU_SOURCE
#include "interpose/buffers.h"

#include <errno.h>

#include "trap/guard.h"
#include "trap/region.h"

bool buffers_fetch(void *to, const void *from, size_t size) {
  struct dsm_guard guard;
  return dsm_guarded_copy_run(to, from, size, &guard) == 0;
}

bool stack_in_map(void) {
  uintptr_t start;
  const void *here = __builtin_frame_address(0);
  return dsm_regions_near(here, 1) && dsm_region_part((uintptr_t)here, 1, &start) > 0;
}

bool in_map(const void *address, size_t size) {
  uintptr_t start;
  return dsm_regions_near(address, size) && !stack_in_map() && dsm_region_part((uintptr_t)address, size, &start) > 0;
}

bool buffers_survey(const struct iovec *buffers, size_t count, size_t *inside, size_t *parts) {
  *inside = *parts = 0;
  if (count > PARTS_MAX || stack_in_map()) return false;
  for (size_t i = 0; i < count; i++) {
    struct iovec buffer;
    if (!buffers_fetch(&buffer, buffers + i, sizeof(buffer))) return false;
    uintptr_t at = (uintptr_t)buffer.iov_base, end = at + buffer.iov_len, start;
    ++*parts;
    while (dsm_regions_near((void *)at, end - at)) {
      size_t length = dsm_region_part(at, end - at, &start);
      if (length == 0) break;
      *inside += length;
      *parts += 2;
      at = start + length;
    }
  }
  return true;
}

unsigned buffers_divide(struct scratch *s, const struct iovec *buffers, size_t count, size_t skip, size_t *total) {
  unsigned parts = 0;
  size_t used = 0;
  *total = 0;
  for (size_t i = 0; i < count; i++) {
    struct iovec buffer;
    if (!buffers_fetch(&buffer, buffers + i, sizeof(buffer))) break;
    size_t skipped = skip < buffer.iov_len ? skip : buffer.iov_len;
    uintptr_t at = (uintptr_t)buffer.iov_base + skipped, end = at + (buffer.iov_len - skipped);
    skip -= skipped;
    while (at < end) {
      if (parts == s->parts_max) return parts;
      uintptr_t start;
      size_t inside = dsm_region_part(at, end - at, &start), length = start - at;
      s->places[parts] = 0;
      s->parts[parts].iov_base = (void *)at;
      if (inside > 0 && start == at) {
        length = inside < s->bytes_max - used ? inside : s->bytes_max - used;
        if (length == 0) return parts;
        s->places[parts] = at;
        s->parts[parts].iov_base = s->bytes + used;
        used += length;
      }
      s->parts[parts++].iov_len = length;
      *total += length;
      at += length;
    }
  }
  return parts;
}

int buffers_publish(const struct scratch *s, unsigned parts, size_t size) {
  for (unsigned i = 0; i < parts && size > 0; i++) {
    size_t length = s->parts[i].iov_len < size ? s->parts[i].iov_len : size;
    if (s->places[i] != 0 && dsm_region_write(s->places[i], s->parts[i].iov_base, length) != 0) {
      errno = EIO;
      return -1;
    }
    size -= length;
  }
  return 0;
}
