/* Words of a page and the masks of their bytes: what builds runs and what applies them share. Everything here is
 * handler-safe. */
#ifndef DSM_WORD_MASKS_H
#define DSM_WORD_MASKS_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* Prefetch distance in bytes: mispredicted branches on masks keep the processor from prefetching by itself. */
#define AHEAD 2048

/* Returns whether processor and kernel support AVX-512 VBMI2: one instruction then compresses the masked bytes of 64,
 * or expands them. Working on 8 words at a time this way takes half the time. */
static inline int has_vbmi2(void) {
  return __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}
#define WITH_VBMI2 __attribute__((target("avx512vbmi2,avx512bw,avx512vl,bmi2,popcnt")))

static inline uint64_t load(const void *from) {
  uint64_t word;
  memcpy(&word, from, sizeof word);
  return word;
}

/* Stores a word by one instruction: another thread or process may be reading there. */
static inline void store(void *to, uint64_t word) {
  *(volatile uint64_t *)to = word;
}

/* Expands a mask: 0xff in the byte of every bit that is set. */
static inline uint64_t spread(uint8_t mask) {
  /* Copy the mask into 8 bytes, and keep bit i of byte i. */
  uint64_t bits = (mask * 0x0101010101010101ull) & 0x8040201008040201ull;
  return ((bits + 0x7f7f7f7f7f7f7f7full) >> 7 & 0x0101010101010101ull) * 0xff;
}

/* A mask of consecutive bits: the bytes of a number that change are nearly always consecutive. */
struct span {
  unsigned shift; /* bits below the first byte that changes */
  unsigned count; /* bytes that change; 0 if they are not consecutive */
  uint64_t change; /* 0xff in each of them */
};

static inline __attribute__((always_inline)) struct span span_of(uint8_t mask) {
  struct span span = {.shift = 0};
  if (mask == 0) return span;
  unsigned low = (unsigned)__builtin_ctz(mask);
  unsigned bits = mask >> low;
  span.shift = 8 * low;
  if ((bits & (bits + 1)) != 0) return span;
  span.count = (unsigned)__builtin_ctz(~bits);
  span.change = ~0ull >> (64 - 8 * span.count) << span.shift;
  return span;
}

/* The form of a mask: which bytes of a word it selects. Unless it is `hard`, it has at most one gap. */
struct form {
  uint8_t below; /* bits of the bytes below the gap */
  uint8_t gap; /* bits of the gap; 0 if there is none, or nothing else */
  uint8_t count; /* bytes that the mask has */
  uint8_t hard;
};

#pragma GCC visibility push(hidden)
/* Of each mask. */
extern const struct form word_mask_forms[256];
#pragma GCC visibility pop

/* Copies 8 words. Each aligned word is written as a whole: a store of 16 bytes is never split within a word. */
static inline void copy_8(uint8_t *to, const uint8_t *from) {
  __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
  __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + 16));
  __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + 32));
  __m128i d = _mm_loadu_si128((const __m128i *)(const void *)(from + 48));
  _mm_storeu_si128((__m128i *)(void *)to, a);
  _mm_storeu_si128((__m128i *)(void *)(to + 16), b);
  _mm_storeu_si128((__m128i *)(void *)(to + 32), c);
  _mm_storeu_si128((__m128i *)(void *)(to + 48), d);
}

/* Returns the span of 8 masks, if they are all equal and their bits are consecutive; else a span with count 0. */
static inline __attribute__((always_inline)) struct span span_of_8(const uint8_t *masks) {
  return load(masks) == masks[0] * 0x0101010101010101ull ? span_of(masks[0]) : (struct span){.count = 0};
}

/* Returns a mask with all bits set for each word whose bit is set. */
WITH_VBMI2 static inline uint64_t whole_masks(uint8_t words) {
  return _pdep_u64(words, 0x0101010101010101ull) * 0xff;
}

#endif
