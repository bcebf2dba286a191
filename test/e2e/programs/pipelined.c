/* Stores that are queued: what arrives of them, and what becomes of words that several processes store to at once.
 *   pipelined values   each process writes its part of the map in many ways; all see all of it after a barrier
 *   pipelined words    all store to the same words, and look at them; prints a sum of how they end
 *   pipelined runs     all store long runs of every alignment over each other; prints a sum of how they end */
#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

#define MIB (1u << 20)
#define PART (4u * MIB)

static dsm_session *session;
static uint8_t *map;
static unsigned rank, processes;

/* ---- values ---- */

static uint8_t byte_of(unsigned of, size_t i) {
  return (uint8_t)(of * 31 + i + i / 251);
}

static void expect_bytes(unsigned of, size_t from, size_t to) {
  for (size_t i = from; i < to; i++) CHECK(map[of * PART + i] == byte_of(of, i));
}

static void write_part(void) {
  uint8_t *part = map + rank * PART;
  static uint8_t bytes[PART];
  for (size_t i = 0; i < PART; i++) bytes[i] = byte_of(rank, i);
  size_t at = 0;
  /* More than the ring holds, in small pieces of every width and alignment. */
  for (; at < MIB / 16; at += 8) {
    uint64_t word;
    memcpy(&word, bytes + at, 8);
    *(volatile uint64_t *)(part + at) = word;
  }
  for (unsigned turn = 0; at < MIB / 8; turn++) {
    switch (turn % 4) {
      case 0: *(volatile uint8_t *)(part + at) = bytes[at], at += 1; break;
      case 1: {
        uint16_t word;
        memcpy(&word, bytes + at, 2);
        __asm__ volatile("movw %1, (%0)" ::"r"(part + at), "r"(word) : "memory");
        at += 2;
        break;
      }
      case 2: {
        uint32_t word;
        memcpy(&word, bytes + at, 4);
        __asm__ volatile("movl %1, (%0)" ::"r"(part + at), "r"(word) : "memory");
        at += 4;
        break;
      }
      default: {
        __m128i word = _mm_loadu_si128((const __m128i *)(bytes + at));
        _mm_storeu_si128((__m128i *)(part + at), word), at += 16;
      }
    }
  }
  /* Several runs each: every second byte, and then the others. */
  for (; at + 16 <= MIB / 4; at += 16) {
    __m128i word = _mm_loadu_si128((const __m128i *)(bytes + at));
    __m128i odd = _mm_set1_epi16((short)0x8000);
    _mm_maskmoveu_si128(word, odd, (char *)part + at);
    _mm_maskmoveu_si128(word, _mm_xor_si128(odd, _mm_set1_epi8((char)0x80)), (char *)part + at);
  }
  memcpy(part + at, bytes + at, MIB / 8);
  at += MIB / 8;
  /* More than the ring holds at once: a byte too many on either side, and then what belongs there. */
  size_t count = MIB + 2;
  uint8_t *to = part + at - 1;
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0xaa) : "memory");
  count = PART - at + 1;
  to = part + at - 1;
  const uint8_t *from = bytes + at - 1;
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
}

static void values(void) {
  write_part();
  /* The own part is there at once, all parts behind the barrier. */
  expect_bytes(rank, 0, PART);
  CHECK_OK(dsm_barrier_wait(session));
  for (unsigned of = 0; of < processes; of++) expect_bytes(of, 0, PART);
}

/* ---- words ---- */

#define WORDS 64
#define STORES 12000
#define THREADS 2

static volatile uint64_t *word(uint64_t i) {
  return (volatile uint64_t *)map + i % WORDS;
}

/* Both halves of a word are the same: who stores half of one is caught. */
static void *store_words(void *thread) {
  uint64_t who = 1 + rank * THREADS + (uint64_t)(uintptr_t)thread;
  uint64_t dice = who;
  for (uint64_t i = 1; i <= STORES; i++) {
    uint64_t half = who << 24 | i;
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    *word(dice >> 40) = half << 32 | half;
    uint64_t seen = *word(dice >> 50);
    CHECK(seen >> 32 == (seen & 0xffffffff));
    if (i % 1000 == 0) CHECK_OK(dsm_fence(session));
  }
  return NULL;
}

/* Ends when all have stored; prints the same in all processes. */
static void print_sum(uint64_t count) {
  CHECK_OK(dsm_barrier_wait(session));
  uint64_t sum = 14695981039346656037u;
  for (uint64_t i = 0; i < count; i++) sum = (sum ^ ((volatile uint64_t *)map)[i]) * 1099511628211u;
  printf("%016llx\n", (unsigned long long)sum);
}

static void words(void) {
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, store_words, (void *)i) == 0);
  for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  print_sum(WORDS);
}

/* ---- runs ---- */

#define AREA (256u << 10)
#define RUN_MAX 65536u
#define RUNS 600

static void runs(void) {
  static const uint32_t lengths[] = {3, 8, 64, 500, 4096, 20000, RUN_MAX};
  uint64_t dice = rank + 1;
  for (unsigned turn = 0; turn < RUNS; turn++) {
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    size_t most = lengths[(dice >> 33) % (sizeof lengths / sizeof *lengths)];
    size_t count = turn % 3 == 0 ? most : 1 + (dice >> 40) % most;
    size_t at = (dice >> 20) % (AREA - count);
    if (turn % 2 == 0) at &= ~(size_t)7;
    uint8_t *to = map + at;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"((uint8_t)(dice >> 56)) : "memory");
    if (turn % 100 == 99) CHECK_OK(dsm_fence(session));
  }
  print_sum(AREA / 8);
}

int main(int argc, char **argv) {
  CHECK_OK(dsm_open(NULL, &session));
  CHECK(strcmp(dsm_order(session), "pipelined") == 0 && !dsm_is_direct(session));
  map = dsm_address(session);
  rank = (unsigned)dsm_rank(session);
  processes = (unsigned)dsm_processes(session);
  if (argc > 1 && strcmp(argv[1], "values") == 0) values();
  else if (argc > 1 && strcmp(argv[1], "words") == 0) words();
  else if (argc > 1 && strcmp(argv[1], "runs") == 0) runs();
  else return 2;
  CHECK_OK(dsm_close(session));
  return 0;
}
