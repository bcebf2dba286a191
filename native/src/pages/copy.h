/* Copies into memory that other threads read concurrently. */
#ifndef DSM_COPY_H
#define DSM_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Copies bytes, each aligned word by one store: another thread may be reading it. */
static inline void copy_words(uint8_t *to, const uint8_t *from, size_t size) {
  while (size > 0) {
    if (size >= 8 && ((uintptr_t)to & 7) == 0) {
      uint64_t word;
      memcpy(&word, from, 8);
      *(volatile uint64_t *)to = word;
      to += 8, from += 8, size -= 8;
    } else if (size >= 4 && ((uintptr_t)to & 3) == 0) {
      uint32_t word;
      memcpy(&word, from, 4);
      *(volatile uint32_t *)to = word;
      to += 4, from += 4, size -= 4;
    } else if (size >= 2 && ((uintptr_t)to & 1) == 0) {
      uint16_t word;
      memcpy(&word, from, 2);
      *(volatile uint16_t *)to = word;
      to += 2, from += 2, size -= 2;
    } else {
      *(volatile uint8_t *)to = *from;
      to += 1, from += 1, size -= 1;
    }
  }
}

#endif
