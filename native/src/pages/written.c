#include "pages/written.h"

#include <string.h>

/* The size of the longest register, in bytes. */
#define REGISTER_MAX 64u

static void mark(uint8_t *written, uint64_t from, uint64_t to) {
  for (; from < to; from = (from | 7) + 1) {
    unsigned mask = 0xffu << (from & 7);
    if (to < (from | 7) + 1) mask &= 0xffu >> (8 - (to & 7));
    written[from / 8] |= (uint8_t)mask;
  }
}

void written_mark(uint8_t *written, const uint8_t *now, const uint8_t *then, uint64_t from, uint64_t to) {
  if (to - from <= REGISTER_MAX) {
    mark(written, from, to);
    return;
  }
  while (from < to) {
    uint64_t end = (from | 7) + 1 < to ? (from | 7) + 1 : to;
    if (memcmp(now + from, then + from, end - from) != 0) mark(written, from, end);
    from = end;
  }
}
