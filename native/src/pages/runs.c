/* Compares pages with their twins and builds runs of what differs. */
#include "pages/runs.h"

#include <immintrin.h>
#include <string.h>

#include "link/wire.h"
#include "pages/word_masks.h"

/* This many consecutive unchanged words end a run: from there on a new run is not longer than continuing the old
 * one. */
#define GAP_WORDS 16u
#define PAGE_WORDS (RUNS_PAGE_BYTES / 8)
/* A run of bytes as they are begins only where there is room for so many. */
#define RUN_BYTES_MIN 64u

_Static_assert(PAGE_WORDS == WIRE_RUN_WORDS_MAX, "a masked run covers a page");
_Static_assert(RUNS_PAGE_BYTES == 1u << WIRE_RUN_BYTES_BITS, "and all of its bytes");
_Static_assert(RUNS_PAGE_MAX <= WIRE_PUBLISH_PART_MAX, "and fits a part");

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

/* Appends the bytes of `word` that the mask selects. May write 8 bytes whatever their number. It has only one branch,
 * which is rarely taken: masks are unpredictable, and a mispredicted branch costs more than the whole function. */
static inline uint8_t *pack(uint8_t *to, uint64_t word, uint8_t mask) {
  struct form form = word_mask_forms[mask];
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
      return (uint32_t)_mm_cvtsi128_si32(count) + (uint32_t)_mm_extract_epi16(count, 4) +
             word_mask_forms[bits & 0xff].count + word_mask_forms[bits >> 8].count;
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

uint32_t runs_add_bytes(struct run_writer *writer, uint64_t offset, const uint8_t *bytes, uint64_t length) {
  uint32_t room = (writer->room - writer->length) & ~7u;
  if (room < RUN_BYTES_MIN) return 0;
  uint32_t most = room - 16 < WIRE_RUN_LENGTH_MAX ? room - 16 : WIRE_RUN_LENGTH_MAX;
  uint32_t count = length > most ? most - (uint32_t)((offset + most) & 7) : (uint32_t)length;
  uint8_t *run = writer->bytes + writer->length;
  write_header(run, offset, count);
  memcpy(run + 8, bytes, count);
  memset(run + 8 + count, 0, -count & 7);
  writer->length += 8 + count + (-count & 7);
  writer->joins = RUNS_JOIN_NONE;
  return count;
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
