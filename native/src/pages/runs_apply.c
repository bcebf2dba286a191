/* Applies runs to a map. */
#include <string.h>

#include "link/wire.h"
#include "pages/runs.h"
#include "pages/word_masks.h"

/* Returns the word with the bytes that the mask selects taken from `*from`, where 8 bytes must be readable. */
static inline uint64_t unpack(uint64_t word, uint8_t mask, const uint8_t **from) {
  struct form form = word_mask_forms[mask];
  const uint8_t *at = *from;
  *from += form.count;
  if (!form.hard) {
    uint64_t bytes = load(at), below = ~(~0ull << form.below), change = spread(mask);
    bytes = (bytes & below) | (bytes << form.gap & ~below);
    return (word & ~change) | (bytes & change);
  }
  for (; mask != 0; mask &= (uint8_t)(mask - 1)) {
    unsigned shift = 8 * (unsigned)__builtin_ctz(mask);
    word = (word & ~(0xffull << shift)) | (uint64_t)*at++ << shift;
  }
  return word;
}

/* Copies bytes in ascending order, each naturally aligned word by one store: a run may stand for many stores of a program,
 * and no reader may see them in another order. memcpy() promises no order. */
static void apply_plain(uint8_t *to, const uint8_t *from, uint32_t length) {
  while (length > 0) {
    uint32_t step = 1;
    if (((uintptr_t)to & 7) == 0 && length >= 8) {
      step = length & ~7u;
      for (uint32_t at = 0; at < step; at += 8) {
        uint64_t word;
        memcpy(&word, from + at, sizeof word);
        *(volatile uint64_t *)(void *)(to + at) = word;
      }
    } else if (((uintptr_t)to & 3) == 0 && length >= 4) {
      uint32_t word;
      step = sizeof word;
      memcpy(&word, from, sizeof word);
      *(volatile uint32_t *)(void *)to = word;
    } else if (((uintptr_t)to & 1) == 0 && length >= 2) {
      uint16_t word;
      step = sizeof word;
      memcpy(&word, from, sizeof word);
      *(volatile uint16_t *)(void *)to = word;
    } else {
      *(volatile uint8_t *)to = *from;
    }
    to += step, from += step, length -= step;
  }
}

/* Writes the bytes at `from` where the masks have bits. `bits`: for a dense run, the words that change as a whole and
 * have no mask; else NULL. `end`: end of the readable bytes. */
static void apply_masked(uint8_t *to, const uint8_t *bits, const uint8_t *masks, uint32_t words, const uint8_t *from,
                         const uint8_t *end) {
  uint8_t last[24];
  for (uint32_t i = 0; i < words; i += 8, to += 64) {
    uint32_t here = words - i < 8 ? words - i : 8;
    unsigned whole = bits != NULL ? bits[i / 8] : 0;
    if (here == 8 && end - from >= 72) {
      if (whole == 0xff || (bits == NULL && load(masks) == ~0ull)) {
        __builtin_prefetch(from + AHEAD);
        __builtin_prefetch(to + AHEAD, 1);
        copy_8(to, from);
        from += 64;
        masks += bits != NULL ? 0 : 8;
        continue;
      }
      struct span span;
      if (whole == 0 && (span = span_of_8(masks)).count > 0) {
        for (uint32_t word = 0; word < 8; word++, from += span.count)
          store(to + 8 * word, (load(to + 8 * word) & ~span.change) | (load(from) << span.shift & span.change));
        masks += 8;
        continue;
      }
    }
    for (uint32_t word = 0; word < here; word++) {
      unsigned is_whole = whole >> word & 1;
      uint8_t mask = (uint8_t)(*masks | -is_whole);
      masks += 1 - is_whole;
      if (end - from < 8) {
        /* Read the last bytes from a copy with room after it. */
        size_t left = (size_t)(end - from);
        memmove(last, from, left);
        memset(last + left, 0, sizeof last - left);
        from = last;
        end = last + sizeof last;
      }
      if (mask != 0) store(to + 8 * word, unpack(load(to + 8 * word), mask, &from));
    }
  }
}

/* Does what apply_masked() does. */
WITH_VBMI2 static void apply_vbmi2(uint8_t *to, const uint8_t *bits, const uint8_t *masks, uint32_t words,
                                   const uint8_t *from, const uint8_t *end) {
  uint32_t i = 0;
  for (; i + 8 <= words && end - from >= 64; i += 8, to += 64) {
    /* A bit for each of 64 bytes. The bytes follow the masks, so 8 masks may be read. */
    uint64_t mask = load(masks);
    if (bits != NULL) {
      uint64_t whole = whole_masks(bits[i / 8]);
      mask = whole | _pdep_u64(mask, ~whole);
      masks += 8 - __builtin_popcount(bits[i / 8]);
    } else {
      masks += 8;
    }
    __builtin_prefetch(from + AHEAD);
    __builtin_prefetch(to + AHEAD, 1);
    __m512i old = _mm512_loadu_si512((const void *)to), bytes = _mm512_loadu_si512((const void *)from);
    __m128i eight = _mm_cvtsi64_si128((long long)mask);
    /* Write the words that change as wholes; leave the others alone. */
    __mmask8 change = (__mmask8)_mm_test_epi8_mask(eight, eight);
    _mm512_mask_storeu_epi64((void *)to, change, _mm512_mask_expand_epi8(old, mask, bytes));
    from += __builtin_popcountll(mask);
  }
  if (i < words) apply_masked(to, bits != NULL ? bits + i / 8 : NULL, masks, words - i, from, end);
}

/* A run, taken apart. */
struct run {
  uint64_t offset;
  uint32_t length; /* of the bytes; of all its words if it is masked */
  uint32_t count; /* of the bytes that change */
  uint32_t words; /* 0: a plain run */
  const uint8_t *bits; /* of a dense run, else NULL */
  const uint8_t *masks;
  const uint8_t *bytes;
};

/* Takes the run at `at` apart, and returns where the next one begins. */
static inline const uint8_t *take_apart(const uint8_t *at, struct run *run) {
  uint64_t header = load(at);
  uint32_t length = (uint32_t)(header >> 40);
  run->offset = header & 0xffffffffffull;
  run->bits = NULL;
  run->words = 0;
  run->count = run->length = length;
  run->bytes = at + 8;
  if ((length & WIRE_RUN_MASKED) != 0) {
    run->words = (length >> WIRE_RUN_BYTES_BITS & (WIRE_RUN_WORDS_MAX - 1)) + 1;
    run->count = (length & ((1u << WIRE_RUN_BYTES_BITS) - 1)) + 1;
    run->length = 8 * run->words;
    run->masks = at + 8;
    run->bytes = run->masks + ((run->words + 7) & ~7u);
    if ((length & WIRE_RUN_DENSE) != 0) {
      run->bits = at + 16;
      run->masks = run->bits + (((run->words + 7) / 8 + 7) & ~7u);
      run->bytes = run->masks + ((load(at + 8) + 7) & ~7ull);
    }
  }
  return run->bytes + ((run->count + 7) & ~7u);
}

uint32_t dsm_apply_runs(uint8_t *map, const uint8_t *runs, uint32_t size) {
  return runs_apply(map, runs, size, has_vbmi2());
}

uint32_t runs_apply(uint8_t *map, const uint8_t *runs, uint32_t size, int vbmi2) {
  const uint8_t *end = runs + size;
  uint32_t bytes = 0;
  while (runs < end) {
    struct run run;
    runs = take_apart(runs, &run);
    if (run.words == 0)
      apply_plain(map + run.offset, run.bytes, run.length);
    else
      (vbmi2 ? apply_vbmi2 : apply_masked)(map + run.offset, run.bits, run.masks, run.words, run.bytes, end);
    bytes += run.count;
  }
  return bytes;
}

uint32_t runs_saved_size(const uint8_t *runs, uint32_t size) {
  const uint8_t *end = runs + size;
  uint32_t saved = 0;
  while (runs < end) {
    struct run run;
    runs = take_apart(runs, &run);
    saved += (run.length + 7) & ~7u;
  }
  return saved;
}

void runs_save(const uint8_t *map, const uint8_t *runs, uint32_t size, uint8_t *to) {
  const uint8_t *end = runs + size;
  while (runs < end) {
    struct run run;
    runs = take_apart(runs, &run);
    uint32_t padding = -run.length & 7;
    memcpy(to, map + run.offset, run.length);
    memset(to + run.length, 0, padding);
    to += run.length + padding;
  }
}
