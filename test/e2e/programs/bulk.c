/* Programs about publishing much at once that check themselves; the first argument says which one. */
#include "check.h"

#include <stdint.h>
#include <string.h>

#define WORDS (64u * 512) /* 64 pages */
#define ROUNDS 12

static dsm_session *session;
static int rank;
static uint64_t *words;

static void barrier(void) {
  CHECK_OK(dsm_barrier_wait(session));
}

static uint64_t mix(uint64_t x) {
  x = (x + 1) * 0x9e3779b97f4a7c15ull;
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9ull;
  return x ^ x >> 32;
}

/* ---- interleaved: two processes write bytes of the same words, of which some belong to one as a whole ---- */

/* Bytes of word i that rank 0 writes. */
static uint8_t mine_of_0(uint64_t i) {
  switch (i % 4) {
  case 0:
    return 0xff;
  case 1:
    return 0x00;
  case 2:
    return 0x55;
  default:
    return (uint8_t)mix(i);
  }
}

/* What word i is after this round: doubles near each other, which share sign and exponent, and integers. */
static uint64_t expected(uint64_t round, uint64_t i) {
  if (round == 0)
    return 0;
  if (i % 8 < 4) {
    double value = 1000.0 + (double)(mix(round * WORDS + i) % 1000) / 7;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
  }
  return i * 1000 + round * 70000;
}

static void interleaved(void) {
  for (uint64_t round = 1; round <= ROUNDS; round++) {
    for (uint64_t i = 0; i < WORDS; i++) {
      uint64_t value = expected(round, i);
      uint8_t mine = rank == 0 ? mine_of_0(i) : (uint8_t)~mine_of_0(i);
      if (mine == 0xff) {
        *(volatile uint64_t *)&words[i] = value;
        continue;
      }
      for (int byte = 0; byte < 8; byte++)
        if (mine >> byte & 1)
          ((volatile uint8_t *)&words[i])[byte] = (uint8_t)(value >> 8 * byte);
    }
    barrier();
    for (uint64_t i = 0; i < WORDS; i++)
      CHECK(words[i] == expected(round, i));
    barrier();
  }
}

/* ---- torn: a word published in part is never seen in part: rank 0 writes, the others look all the time ---- */

/* Bytes 0 and 1 of a word are a number, 5 and 6 its complement, and the others never change. */
static uint64_t word_of(uint64_t number) {
  number &= 0xffff;
  return 0x7700002200330000ull | number | (number ^ 0xffff) << 40;
}

static void torn(void) {
  volatile uint64_t *end = words + WORDS;
  if (rank == 0) {
    for (uint64_t i = 0; i < WORDS; i++)
      words[i] = word_of(0);
    barrier();
    for (uint64_t round = 1; round <= 3 * ROUNDS; round++) {
      for (uint64_t i = 0; i < WORDS; i++)
        words[i] = word_of(round * 0x0107 + i);
      CHECK_OK(dsm_fence(session));
    }
    *end = 1;
    CHECK_OK(dsm_fence(session));
  } else {
    barrier();
    uint64_t changes = 0, before = 0;
    while (*end == 0)
      for (uint64_t i = 0; i < WORDS; i += 61) {
        uint64_t word = *(volatile uint64_t *)&words[i];
        CHECK(word == word_of(word));
        changes += word != before;
        before = word;
      }
    CHECK(changes > 0);
  }
  barrier();
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  CHECK_OK(dsm_open(NULL, &session));
  rank = dsm_rank(session);
  words = dsm_address(session);
  CHECK(dsm_size(session) > WORDS * sizeof *words);
  barrier();
  if (strcmp(argv[1], "interleaved") == 0)
    interleaved();
  else if (strcmp(argv[1], "torn") == 0)
    torn();
  else
    CHECK(!"no such program");
  CHECK_OK(dsm_close(session));
  return 0;
}
