#include "pages/runs.h"

#include <immintrin.h>
#include <string.h>

#include "link/wire.h"

/* This many consecutive unchanged words end a run: from there on a new run is not longer than continuing the old
 * one. */
#define GAP_WORDS 16u
#define PAGE_WORDS (RUNS_PAGE_BYTES / 8)
/* Prefetch distance in bytes: mispredicted branches on masks keep the processor from prefetching by itself. */
#define AHEAD 2048

_Static_assert(PAGE_WORDS == WIRE_RUN_WORDS_MAX, "a masked run covers a page");
_Static_assert(RUNS_PAGE_BYTES == 1u << WIRE_RUN_BYTES_BITS, "and all of its bytes");
_Static_assert(RUNS_PAGE_MAX <= WIRE_PUBLISH_PART_MAX, "and fits a part");

/* Returns whether processor and kernel support AVX-512 VBMI2: one instruction then compresses the masked bytes of 64,
 * or expands them. Working on 8 words at a time this way takes half the time. */
static int has_vbmi2(void) {
  return __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}
#define WITH_VBMI2 __attribute__((target("avx512vbmi2,avx512bw,avx512vl,bmi2,popcnt")))

static uint64_t load(const void *from) {
  uint64_t word;
  memcpy(&word, from, sizeof word);
  return word;
}

/* Stores a word by one instruction: another thread or process may be reading there. */
static void store(void *to, uint64_t word) {
  *(volatile uint64_t *)to = word;
}

/* Expands a mask: 0xff in the byte of every bit that is set. */
static uint64_t spread(uint8_t mask) {
  /* Copy the mask into 8 bytes, and keep bit i of byte i. */
  uint64_t bits = (mask * 0x0101010101010101ull) & 0x8040201008040201ull;
  return ((bits + 0x7f7f7f7f7f7f7f7full) >> 7 & 0x0101010101010101ull) * 0xff;
}

/* Returns a bit for every byte of 16 that differs. Uses SSE2, which every x86-64 has; the signal frame holds the vector
 * registers, so this may run in a handler. */
static inline uint64_t differ_16(const uint8_t *now, const uint8_t *then) {
  __m128i a = _mm_loadu_si128((const __m128i *)(const void *)now);
  __m128i b = _mm_loadu_si128((const __m128i *)(const void *)then);
  return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b)) ^ 0xffff;
}

/* Computes a mask for each word. Returns 1 if any byte differs; clears `whole` unless all do. */
static int compare_words(const uint8_t *now, const uint8_t *then, uint8_t *masks, uint32_t words, int *whole) {
  uint32_t i = 0;
  uint64_t any = 0, all = ~0ull;
  for (; i + 8 <= words; i += 8, now += 64, then += 64) {
    __builtin_prefetch(now + AHEAD);
    __builtin_prefetch(then + AHEAD);
    uint64_t eight = differ_16(now, then) | differ_16(now + 16, then + 16) << 16 |
                     differ_16(now + 32, then + 32) << 32 | differ_16(now + 48, then + 48) << 48;
    memcpy(masks + i, &eight, sizeof eight);
    any |= eight;
    all &= eight;
  }
  for (; i < words; i++, now += 8, then += 8) {
    __m128i a = _mm_loadl_epi64((const __m128i *)(const void *)now);
    __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)then);
    unsigned differ = ((unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b)) ^ 0xffff) & 0xff;
    masks[i] = (uint8_t)differ;
    any |= differ;
    all &= differ | ~0xffull;
  }
  *whole = all == ~0ull;
  return any != 0;
}

/* Adds the bits of `written` to the masks. Returns and sets what compare_words() does. */
static int add_written(uint8_t *masks, const uint8_t *written, uint32_t words, int *whole) {
  uint64_t any = 0, all = ~0ull;
  uint32_t i = 0;
  for (; i + 8 <= words; i += 8) {
    uint64_t eight = load(masks + i) | load(written + i);
    memcpy(masks + i, &eight, sizeof eight);
    any |= eight;
    all &= eight;
  }
  for (; i < words; i++) {
    masks[i] |= written[i];
    any |= masks[i];
    all &= masks[i] | ~0xffull;
  }
  *whole = all == ~0ull;
  return any != 0;
}

/* Computes the masks of the words that [from, to) touches, all within one page: bytes outside count as unchanged. */
static int compare(const uint8_t *now, const uint8_t *then, const uint8_t *written, uint64_t from, uint64_t to,
                   uint8_t *masks, uint32_t *words, int *whole) {
  uint64_t first = from & ~7ull;
  *words = (uint32_t)((to - first + 7) / 8);
  int any = compare_words(now + first, then + first, masks, *words, whole);
  if (written != NULL) any = add_written(masks, written + first / 8, *words, whole);
  if (from != first) {
    masks[0] &= (uint8_t)(0xff << (from - first));
    *whole = 0;
  }
  if ((to & 7) != 0) {
    masks[*words - 1] &= (uint8_t)(0xff >> (8 - (to & 7)));
    *whole = 0;
  }
  return any;
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

#define LACKS(mask) (0xff & ~(mask))
#define BELOW(mask) __builtin_ctz(LACKS(mask) | 0x100)
#define GAP(mask) (LACKS(mask) >> BELOW(mask))
#define IS_SIMPLE(mask) ((GAP(mask) & (GAP(mask) + 1)) == 0 && (mask) != 0)
#define FORM(mask)                                                                                                     \
  {8 * (BELOW(mask) & 7), 8 * (IS_SIMPLE(mask) ? __builtin_popcount(LACKS(mask)) : 0), __builtin_popcount(mask),       \
   !IS_SIMPLE(mask) && (mask) != 0}
#define FORMS_4(mask) FORM(mask), FORM((mask) + 1), FORM((mask) + 2), FORM((mask) + 3)
#define FORMS_16(mask) FORMS_4(mask), FORMS_4((mask) + 4), FORMS_4((mask) + 8), FORMS_4((mask) + 12)
#define FORMS_64(mask) FORMS_16(mask), FORMS_16((mask) + 16), FORMS_16((mask) + 32), FORMS_16((mask) + 48)
static const struct form forms[256] = {FORMS_64(0), FORMS_64(64), FORMS_64(128), FORMS_64(192)};

/* Appends the bytes of `word` that the mask selects. May write 8 bytes whatever their number. It has only one branch,
 * which is rarely taken: masks are unpredictable, and a mispredicted branch costs more than the whole function. */
static inline uint8_t *pack(uint8_t *to, uint64_t word, uint8_t mask) {
  struct form form = forms[mask];
  uint8_t *end = to + form.count;
  if (!form.hard) {
    uint64_t below = ~(~0ull << form.below);
    word = (word & below) | (word >> form.gap & ~below);
    memcpy(to, &word, 8);
    return end;
  }
  for (; mask != 0; mask &= (uint8_t)(mask - 1)) *to++ = (uint8_t)(word >> 8 * __builtin_ctz(mask));
  return end;
}

/* Returns the word with the bytes that the mask selects taken from `*from`, where 8 bytes must be readable. */
static inline uint64_t unpack(uint64_t word, uint8_t mask, const uint8_t **from) {
  struct form form = forms[mask];
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

static void write_header(uint8_t *at, uint64_t offset, uint32_t length) {
  uint64_t header = offset | (uint64_t)length << 40;
  memcpy(at, &header, sizeof header);
}

/* Adds a plain run: whole words, all of whose bytes changed. */
static void add_plain(struct run_writer *writer, uint64_t offset, const uint8_t *bytes, uint32_t length) {
  uint8_t *run = writer->bytes + writer->last;
  uint32_t before = writer->joins == offset ? (uint32_t)(load(run) >> 40) : 0;
  if (before == 0 || before + length > WIRE_RUN_LENGTH_MAX) {
    before = 0;
    writer->last = writer->length;
    run = writer->bytes + writer->last;
    writer->length += 8;
    write_header(run, offset, length);
  } else {
    write_header(run, offset - before, before + length);
  }
  memcpy(writer->bytes + writer->length, bytes, length);
  writer->length += length;
  writer->joins = offset + length;
}

/* Counts the masks with all bits set. May read 16 masks after the last one. */
static uint32_t count_whole(const uint8_t *masks, uint32_t words) {
  __m128i count = _mm_setzero_si128();
  for (uint32_t i = 0; i < words; i += 16) {
    __m128i all = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(const void *)(masks + i)), _mm_set1_epi8(-1));
    if (words - i < 16) {
      unsigned bits = (unsigned)_mm_movemask_epi8(all) & (0xffffu >> (16 - (words - i)));
      return (uint32_t)_mm_cvtsi128_si32(count) + (uint32_t)_mm_extract_epi16(count, 4) + forms[bits & 0xff].count +
             forms[bits >> 8].count;
    }
    count = _mm_add_epi64(count, _mm_sad_epu8(_mm_sub_epi8(_mm_setzero_si128(), all), _mm_setzero_si128()));
  }
  return (uint32_t)_mm_cvtsi128_si32(count) + (uint32_t)_mm_extract_epi16(count, 4);
}

/* Appends the bytes that change in up to 8 words, and to `*rest` the masks of those that do not change as a whole.
 * Returns where the next bytes go; `*bits`: which words change as a whole. */
static inline uint8_t *add_8(uint8_t *at, const uint8_t *bytes, const uint8_t *masks, uint32_t words, uint8_t **rest,
                             uint8_t *bits) {
  unsigned whole = 0;
  uint8_t *next = *rest;
  for (uint32_t i = 0; i < words; i++) {
    *next = masks[i];
    next += masks[i] != 0xff;
    whole |= (unsigned)(masks[i] == 0xff) << i;
    at = pack(at, load(bytes + 8 * i), masks[i]);
  }
  *rest = next;
  *bits = (uint8_t)whole;
  return at;
}

/* Returns a mask with all bits set for each word whose bit is set. */
WITH_VBMI2 static inline uint64_t whole_masks(uint8_t words) {
  return _pdep_u64(words, 0x0101010101010101ull) * 0xff;
}

/* Does what add_8() does, for all groups of 8; `bits` has a byte for each. Never writes beyond the size of the words
 * themselves. */
WITH_VBMI2 static uint8_t *add_vbmi2(uint8_t *at, const uint8_t *bytes, const uint8_t *masks, uint32_t words,
                                     uint8_t **rest, uint8_t *bits) {
  uint8_t *next = *rest;
  for (uint32_t i = 0; i + 8 <= words; i += 8) {
    uint64_t mask = load(masks + i);
    uint8_t whole = (uint8_t)_mm_cmpeq_epi8_mask(_mm_cvtsi64_si128((long long)mask), _mm_set1_epi8(-1));
    uint64_t others = _pext_u64(mask, ~whole_masks(whole));
    bits[i / 8] = whole;
    memcpy(next, &others, 8);
    next += 8 - __builtin_popcount(whole);
    __m512i all = _mm512_loadu_si512((const void *)(bytes + 8 * i));
    _mm512_storeu_si512((void *)at, _mm512_maskz_compress_epi8(mask, all));
    at += __builtin_popcountll(mask);
  }
  *rest = next;
  return at;
}

/* Adds a masked run. `masks`: 16 must be readable after the last one. */
static void add_masked(struct run_writer *writer, uint64_t offset, const uint8_t *bytes, const uint8_t *masks,
                       uint32_t words) {
  uint8_t whole[PAGE_WORDS / 8 + 8], rest[PAGE_WORDS + 8], *next = rest;
  uint8_t *run = writer->bytes + writer->length;
  uint32_t groups = (words + 7) / 8, bits = (groups + 7) & ~7u, padded = (words + 7) & ~7u;
  uint32_t left = words - count_whole(masks, words), left_padded = (left + 7) & ~7u;
  int dense = 8 + bits + left_padded < padded;
  uint8_t *begin = run + 8 + (dense ? 8 + bits + left_padded : padded);
  uint8_t *at = begin;
  uint32_t done = 0;
  if (!writer->portable && has_vbmi2()) {
    at = add_vbmi2(at, bytes, masks, words, &next, whole);
    done = words & ~7u;
  }
  for (uint32_t group = done / 8, i = done; i < words; group++, i += 8) {
    uint32_t here = words - i < 8 ? words - i : 8;
    struct span span;
    if (here == 8 && load(masks + i) == ~0ull) {
      copy_8(at, bytes + 8 * i);
      at += 64;
      whole[group] = 0xff;
    } else if (here == 8 && (span = span_of_8(masks + i)).count > 0) {
      for (uint32_t word = i; word < i + 8; word++, at += span.count) {
        uint64_t value = load(bytes + 8 * word) >> span.shift;
        memcpy(at, &value, 8);
      }
      memcpy(next, masks + i, 8);
      next += 8;
      whole[group] = 0;
    } else {
      at = add_8(at, bytes + 8 * i, masks + i, here, &next, &whole[group]);
    }
  }
  if (dense) {
    memset(whole + groups, 0, bits - groups);
    memset(rest + left, 0, left_padded - left);
    store(run + 8, left);
    memcpy(run + 16, whole, bits);
    memcpy(run + 16 + bits, rest, left_padded);
  } else {
    store(run + padded, 0);
    memcpy(run + 8, masks, words);
  }
  uint32_t count = (uint32_t)(at - begin), behind = -count & 7;
  uint32_t form = WIRE_RUN_MASKED | (dense ? WIRE_RUN_DENSE : 0);
  write_header(run, offset, form | (words - 1) << WIRE_RUN_BYTES_BITS | (count - 1));
  memset(at, 0, behind);
  writer->length += (uint32_t)(at - run) + behind;
  writer->joins = RUNS_JOIN_NONE;
}

static int has_no_zero(uint64_t bytes) {
  return ((bytes - 0x0101010101010101ull) & ~bytes & 0x8080808080808080ull) == 0;
}

int runs_add(struct run_writer *writer, const uint8_t *now, const uint8_t *then, const uint8_t *written, uint64_t from,
             uint64_t to) {
  uint8_t masks[PAGE_WORDS + 16];
  uint32_t words;
  int whole;
  if (writer->room - writer->length < RUNS_PAGE_MAX) return 0;
  if (!compare(now, then, written, from, to, masks, &words, &whole)) return 1;
  uint64_t first = from & ~7ull;
  if (whole) {
    add_plain(writer, first, now + first, 8 * words);
    return 1;
  }
  for (uint32_t i = 0; i < words;) {
    if (masks[i] == 0) {
      i++;
      continue;
    }
    uint32_t begin = i, end = i + 1;
    for (i = end; i < words && i - end < GAP_WORDS; i++) {
      while (i + 8 <= words && has_no_zero(load(masks + i))) end = i += 8;
      if (i < words && masks[i] != 0) end = i + 1;
    }
    i = end;
    add_masked(writer, first + 8 * begin, now + first + 8 * begin, masks + begin, end - begin);
  }
  return 1;
}

void runs_copy(uint8_t *map, const uint8_t *now, const uint8_t *then, uint64_t from, uint64_t to) {
  uint8_t masks[PAGE_WORDS + 8];
  uint32_t words;
  int whole;
  if (!compare(now, then, NULL, from, to, masks, &words, &whole)) return;
  uint64_t first = from & ~7ull;
  for (uint32_t i = 0; i < words; i++) {
    uint64_t *place = (uint64_t *)(void *)(map + first) + i;
    uint64_t word = load(now + first + 8 * i);
    if (masks[i] == 0xff) {
      store(place, word);
    } else if (masks[i] != 0) {
      uint64_t change = spread(masks[i]);
      uint64_t old = __atomic_load_n(place, __ATOMIC_RELAXED);
      while (!__atomic_compare_exchange_n(place, &old, (old & ~change) | (word & change), 0, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    }
  }
}

/* Copies bytes, each naturally aligned word by one store. */
static void apply_plain(uint8_t *to, const uint8_t *from, uint32_t length) {
  while (length > 0) {
    uint32_t step = 1;
    if (((uintptr_t)to & 7) == 0 && length >= 8) {
      /* memcpy() of whole aligned words writes at least a word at a time. */
      step = length & ~7u;
      memcpy(to, from, step);
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

uint32_t dsm_apply_runs(uint8_t *map, const uint8_t *runs, uint32_t size) {
  return runs_apply(map, runs, size, has_vbmi2());
}

uint32_t runs_apply(uint8_t *map, const uint8_t *runs, uint32_t size, int vbmi2) {
  const uint8_t *end = runs + size;
  uint32_t bytes = 0;
  while (runs < end) {
    uint64_t header = load(runs);
    uint64_t offset = header & 0xffffffffffull;
    uint32_t length = (uint32_t)(header >> 40);
    if ((length & WIRE_RUN_MASKED) == 0) {
      apply_plain(map + offset, runs + 8, length);
      bytes += length;
      runs += 8 + ((length + 7) & ~7u);
    } else {
      uint32_t words = (length >> WIRE_RUN_BYTES_BITS & (WIRE_RUN_WORDS_MAX - 1)) + 1;
      uint32_t count = (length & ((1u << WIRE_RUN_BYTES_BITS) - 1)) + 1;
      const uint8_t *bits = NULL, *masks = runs + 8, *from = masks + ((words + 7) & ~7u);
      if ((length & WIRE_RUN_DENSE) != 0) {
        bits = runs + 16;
        masks = bits + (((words + 7) / 8 + 7) & ~7u);
        from = masks + ((load(runs + 8) + 7) & ~7ull);
      }
      (vbmi2 ? apply_vbmi2 : apply_masked)(map + offset, bits, masks, words, from, end);
      bytes += count;
      runs = from + ((count + 7) & ~7u);
    }
  }
  return bytes;
}
