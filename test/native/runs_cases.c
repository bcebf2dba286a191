/* Compares random pages and prints what runs.c makes of it, for runs.test.ts to look at: runs_cases SEED COUNT. Of every
 * case: from, to, bytes of runs, bytes saved (8 bytes each), then the pages as they were, as they are, another map, that map
 * with the runs applied, the runs, and what they saved of the other map before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pages/runs.h"
#include "link/wire.h"

#define PAGES 3u
#define BYTES (PAGES * RUNS_PAGE_BYTES)

static uint64_t state;

static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static uint64_t below(uint64_t limit) {
  return next() % limit;
}

static void fill(uint8_t *bytes) {
  for (uint64_t i = 0; i < BYTES; i++)
    bytes[i] = (uint8_t)next();
}

/* Changes some bytes of a page in one of the ways programs do. */
static void change(uint8_t *page) {
  uint64_t way = below(9), some = 1 + below(64);
  uint64_t mask = way == 3 ? 0x00ffffffffffffffull : way == 4 ? 0x0000000000ffffffull : next();
  for (uint64_t word = 0; word < RUNS_PAGE_BYTES / 8; word++) {
    uint64_t value;
    memcpy(&value, page + 8 * word, 8);
    switch (way) {
    case 0:
      break;
    case 1: /* every byte */
      value = ~value;
      break;
    case 2: /* whole words here and there */
      value = below(some) == 0 ? ~value : value;
      break;
    case 3: /* numbers of about the same size */
    case 4:
      value ^= next() & mask;
      break;
    case 5: /* every other byte */
      value ^= 0xff00ff00ff00ff00ull;
      break;
    case 6: /* single bytes, rarely */
      value ^= below(some * 4) == 0 ? 1ull << below(64) : 0;
      break;
    case 7: /* noise: nearly all bytes of nearly all words */
      value ^= next();
      break;
    default: /* anything */
      value ^= next() & next() & mask;
    }
    memcpy(page + 8 * word, &value, 8);
  }
}

/* Marks some bytes as written by captured stores, and makes `then` differ there for who only compares. */
static void mark(uint8_t *written, uint8_t *then, const uint8_t *now) {
  uint64_t some = 1 + below(200);
  for (uint64_t i = 0; i < BYTES; i++)
    if (below(some) == 0) {
      written[i / 8] |= (uint8_t)(1u << i % 8);
      then[i] = (uint8_t)~now[i];
    }
}

static void put(const void *bytes, size_t size) {
  if (fwrite(bytes, 1, size, stdout) != size)
    exit(1);
}

int main(int argc, char **argv) {
  if (argc != 3)
    return 2;
  state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15ull + 1;
  for (long count = atol(argv[2]); count > 0; count--) {
    uint8_t *then = malloc(BYTES), *now = malloc(BYTES), *map = malloc(BYTES), *after = malloc(BYTES);
    uint8_t *shared = malloc(BYTES);
    /* Exactly as much as the header promises to be enough: the sanitizers see what goes beyond. */
    uint8_t *runs = malloc(PAGES * RUNS_PAGE_MAX), *portable_runs = malloc(PAGES * RUNS_PAGE_MAX);
    if (then == NULL || now == NULL || map == NULL || after == NULL || shared == NULL || runs == NULL ||
        portable_runs == NULL)
      return 1;
    fill(then);
    memcpy(now, then, BYTES);
    for (unsigned page = 0; page < PAGES; page++)
      change(now + page * RUNS_PAGE_BYTES);
    uint8_t *before = malloc(BYTES), *written = below(3) == 0 ? NULL : calloc(1, BYTES / 8);
    memcpy(before, then, BYTES);
    if (written != NULL)
      mark(written, then, now);
    fill(map);
    uint64_t range[4] = {0, BYTES};
    if (below(2) == 0) {
      range[0] = below(BYTES);
      range[1] = range[0] + 1 + below(BYTES - range[0]);
    }
    struct run_writer writer = {.bytes = runs, .room = PAGES * RUNS_PAGE_MAX, .joins = RUNS_JOIN_NONE};
    struct run_writer portable = writer;
    portable.bytes = portable_runs;
    portable.portable = 1;
    memcpy(shared, map, BYTES);
    for (uint64_t from = range[0]; from < range[1];) {
      uint64_t end = (from / RUNS_PAGE_BYTES + 1) * RUNS_PAGE_BYTES;
      end = end < range[1] ? end : range[1];
      if (!runs_add(&writer, now, before, written, from, end) || !runs_add(&portable, now, before, written, from, end))
        return 1;
      runs_copy(shared, now, then, from, end);
      from = end;
    }
    range[2] = writer.length;
    /* The ways of other processors than this one, where they differ. */
    if (portable.length != writer.length || memcmp(portable_runs, runs, writer.length) != 0) {
      fprintf(stderr, "runs_add differs from itself\n");
      return 1;
    }
    memcpy(after, map, BYTES);
    /* A copy that ends where the runs do. */
    uint8_t *exact = malloc(writer.length + 1);
    memcpy(exact, runs, writer.length);
    range[3] = runs_saved_size(exact, writer.length);
    uint8_t *saved = malloc(range[3] + 1);
    runs_save(map, exact, writer.length, saved);
    dsm_apply_runs(after, exact, writer.length);
    if (memcmp(after, shared, BYTES) != 0) {
      fprintf(stderr, "runs_copy and dsm_apply_runs differ\n");
      return 1;
    }
    uint8_t *other = malloc(BYTES);
    memcpy(other, map, BYTES);
    runs_apply(other, exact, writer.length, 0);
    if (memcmp(after, other, BYTES) != 0) {
      fprintf(stderr, "runs_apply differs from itself\n");
      return 1;
    }
    put(range, sizeof range);
    put(then, BYTES);
    put(now, BYTES);
    put(map, BYTES);
    put(after, BYTES);
    put(runs, writer.length);
    put(saved, range[3]);
    free(then), free(now), free(map), free(after), free(shared), free(runs), free(portable_runs);
    free(exact), free(saved), free(other), free(before), free(written);
  }
  return 0;
}
