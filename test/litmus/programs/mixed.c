/* Two processes store different values to the same aligned word and then pass a barrier, for every width and every way
 * of storing: mixed WAY ROUNDS. Prints a line for each width: how often the word was neither of the two values (a mix of
 * their bytes). Ends with 1 if a byte has a value that none of them stored there, or if a byte is lost that only one of
 * them stored.
 *
 * Ways: captured (one by one), captured-opened (captured, and then enough stores that the page is opened), opened (the
 * page is opened before), hole (the page lies in a hole of each). */
#include <dsm/dsm.h>
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of every other page: one behind a page that is open would be opened at its first store. */
#define PAGE 4096u
#define WIDTHS 6u
#define OPENS 40u

static const char *const names[WIDTHS] = {"1", "2", "4", "8", "8-masked", "4-of-8"};
static const unsigned widths[WIDTHS] = {1, 2, 4, 8, 8, 8};

static dsm_session *session;
static uint8_t *map;
static int rank;

static void check(int status) {
  if (status != DSM_OK) {
    fprintf(stderr, "[%d] %s\n", rank, dsm_last_error());
    exit(1);
  }
}

/* Compilers must not make one store of several, or none. */
static void store(volatile uint8_t *at, unsigned width, uint64_t value) {
  switch (width) {
  case 1:
    *at = (uint8_t)value;
    break;
  case 2:
    *(volatile uint16_t *)at = (uint16_t)value;
    break;
  case 4:
    *(volatile uint32_t *)at = (uint32_t)value;
    break;
  default:
    *(volatile uint64_t *)at = value;
  }
}

static uint64_t load(const volatile uint8_t *at, unsigned width) {
  switch (width) {
  case 1:
    return *at;
  case 2:
    return *(const volatile uint16_t *)at;
  case 4:
    return *(const volatile uint32_t *)at;
  default:
    return *(const volatile uint64_t *)at;
  }
}

/* Writes the second of the two aligned words of 8 at `at`, and leaves the first alone. */
__attribute__((target("avx2"))) static void store_masked(uint8_t *at, uint64_t value) {
  _mm_maskstore_epi64((long long *)(void *)at, _mm_set_epi64x(-1, 0), _mm_set_epi64x((long long)value, 0x5555));
}

/* What each rank stores over `old`. Only few of the bytes change, and not the same ones. */
static uint64_t value_of(uint64_t old, unsigned width, int of) {
  uint64_t top = 0xffull << (8 * (width - 1));
  return width == 1 ? (uint64_t)(of + 1) : of == 0 ? old ^ 0xff : old ^ top;
}

static void store_one(unsigned kind, uint8_t *at, uint64_t value) {
  if (kind == 4 && __builtin_cpu_supports("avx2"))
    store_masked(at - 8, value);
  else if (kind == 5) {
    /* First a half of the other one's bytes, then the whole word: stores that overlap. */
    store(at + 4, 4, 0x99999999);
    store(at, 8, value);
  } else
    store(at, widths[kind], value);
}

int main(int argc, char **argv) {
  if (argc != 3)
    return 2;
  int opens = strstr(argv[1], "opened") != NULL, first = strcmp(argv[1], "opened") == 0;
  int in_hole = strcmp(argv[1], "hole") == 0;
  int rounds = atoi(argv[2]), wrong = 0;
  long mixed[WIDTHS] = {0};
  check(dsm_open(NULL, &session));
  map = dsm_address(session);
  rank = dsm_rank(session);
  for (int round = 0; round < rounds; round++) {
    unsigned word = 16 * (unsigned)(round % 60);
    uint64_t old = (uint64_t)round * 0x0101010101010101ull;
    if (rank == 0)
      for (unsigned kind = 0; kind < WIDTHS; kind++) {
        uint8_t *page = map + (1 + 2 * kind) * PAGE;
        for (unsigned i = 0; i < 16; i++)
          page[word + i] = (uint8_t)old;
      }
    check(dsm_barrier_wait(session));
    int hole = 0;
    if (in_hole)
      check(dsm_hole_dig(session, map + PAGE, 2 * WIDTHS * PAGE, &hole));
    for (unsigned kind = 0; kind < WIDTHS; kind++) {
      uint8_t *page = map + (1 + 2 * kind) * PAGE, *at = page + word + 8;
      volatile uint64_t *others = (volatile uint64_t *)(void *)(page + 2048);
      for (unsigned i = 0; i < OPENS && opens && first; i++)
        others[(unsigned)rank * OPENS + i] = (uint64_t)round;
      store_one(kind, at, value_of(old, widths[kind], rank));
      /* Neighbours, of which each process stores one. */
      store(page + word + (unsigned)rank, 1, 0xa0 + (unsigned)rank);
      for (unsigned i = 0; i < OPENS && opens && !first; i++)
        others[(unsigned)rank * OPENS + i] = (uint64_t)round;
    }
    if (in_hole)
      check(dsm_hole_fill(session, hole));
    check(dsm_barrier_wait(session));
    for (unsigned kind = 0; kind < WIDTHS; kind++) {
      unsigned width = widths[kind];
      const uint8_t *page = map + (1 + 2 * kind) * PAGE, *at = page + word + 8;
      uint64_t a = value_of(old, width, 0), b = value_of(old, width, 1), mask = width == 8 ? ~0ull : (1ull << 8 * width) - 1;
      uint64_t now = load(at, width);
      mixed[kind] += now != (a & mask) && now != (b & mask);
      for (unsigned byte = 0; byte < 8; byte++) {
        uint8_t value = at[byte], left = (uint8_t)old;
        int known = byte < width ? value == (uint8_t)(a >> 8 * byte) || value == (uint8_t)(b >> 8 * byte) : value == left;
        int kept = page[word + byte] == (byte == 0 ? 0xa0 : byte == 1 ? 0xa1 : left);
        if (known && kept)
          continue;
        fprintf(stderr, "[%d] round %d, %s: byte %u is %02x, before it %02x\n", rank, round, names[kind], byte, value,
                page[word + byte]);
        wrong = 1;
      }
    }
    check(dsm_barrier_wait(session));
  }
  for (unsigned kind = 0; kind < WIDTHS; kind++)
    printf("%s %ld\n", names[kind], mixed[kind]);
  check(dsm_close(session));
  return wrong;
}
