/* Times the publication of a large region: bulk hole|sparse|release|pipelined MIB ROUNDS [noise|double|integer]. Joins
 * the session in the environment, of two processes on two nodes and with the order `release` or `pipelined` for those.
 * For every round rank 0 prints nanoseconds and bytes written, on one line.
 *
 * hole: from dsm_hole_fill() until the second node shows the last word of a hole in which every word was written.
 * sparse: the same with every hundredth page written. release: writes every word, then waits in a barrier; both count.
 * pipelined: from the first store until the second node shows the last word; one instruction, so one trap, stores 64 KiB.
 *
 * noise changes (nearly) all bytes of a word, double and integer leave the high bytes of neighbouring words alike. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "session.h"

#define PAGE_WORDS 512u
#define SPARSE_PAGES 100u
#define POLL_NS 50000
/* Words that one string instruction stores: the largest record of the ring. */
#define PIECE_WORDS (65536u / 8)

enum pattern { NOISE, DOUBLE, INTEGER };

static inline uint64_t value(enum pattern pattern, uint64_t round, uint64_t i) {
  if (pattern == INTEGER)
    return round * 1000003 + i;
  if (pattern == DOUBLE) {
    double number = (double)i * 1.000001 + (double)round / 3;
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits;
  }
  uint64_t x = (i + 1) * 0x9e3779b97f4a7c15 + round * 0xbf58476d1ce4e5b9;
  return (x ^ x >> 29) * 0x94d049bb133111eb;
}

/* Returns how many bytes were written. */
static uint64_t write_words(volatile uint64_t *words, uint64_t count, enum pattern pattern, uint64_t round, int sparse) {
  uint64_t written = 0;
  for (uint64_t page = 0; page < count; page += PAGE_WORDS) {
    /* The last page always: its last word is what the other node waits for. */
    if (sparse && page / PAGE_WORDS % SPARSE_PAGES != 0 && page + PAGE_WORDS < count)
      continue;
    for (uint64_t i = page; i < page + PAGE_WORDS; i++)
      words[i] = value(pattern, round, i);
    written += PAGE_WORDS * sizeof *words;
  }
  return written;
}

/* Stores the words, far more than the ring holds, as fast as it takes them. */
static void store_pieces(volatile uint64_t *words, uint64_t count, const uint64_t *from) {
  for (uint64_t i = 0; i < count; i += PIECE_WORDS) {
    volatile uint64_t *to = words + i;
    const uint64_t *source = from + i;
    uint64_t left = PIECE_WORDS;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(source), "+c"(left) : : "memory");
  }
}

static void verify(const volatile uint64_t *words, uint64_t count, enum pattern pattern, uint64_t round, int sparse) {
  for (uint64_t i = 0; i < count; i++) {
    uint64_t page = i / PAGE_WORDS;
    if (sparse && page % SPARSE_PAGES != 0 && (page + 1) * PAGE_WORDS < count)
      continue;
    if (words[i] != value(pattern, round, i)) {
      fprintf(stderr, "bulk: word %llu is wrong\n", (unsigned long long)i);
      exit(1);
    }
  }
}

int main(int argc, char **argv) {
  static const char *const names[] = {"noise", "double", "integer"};
  int pattern = NOISE;
  for (int i = 0; argc > 4 && i < 3; i++)
    if (strcmp(argv[4], names[i]) == 0)
      pattern = i;
  int is_release = argc > 1 && strcmp(argv[1], "release") == 0;
  int sparse = argc > 1 && strcmp(argv[1], "sparse") == 0;
  int is_pipelined = argc > 1 && strcmp(argv[1], "pipelined") == 0;
  if (argc < 4 || argc > 5 || atoi(argv[2]) < 1 || atoi(argv[3]) < 1 ||
      (!is_release && !sparse && !is_pipelined && strcmp(argv[1], "hole") != 0)) {
    fprintf(stderr, "usage: bulk hole|sparse|release|pipelined MIB ROUNDS [noise|double|integer]\n");
    return 2;
  }
  uint64_t count = (uint64_t)atoi(argv[2]) << 17;
  uint64_t rounds = (uint64_t)atoi(argv[3]);
  dsm_session *session;
  check(dsm_open(NULL, &session));
  /* A page behind the words: when the second node saw them. */
  volatile uint64_t *words = dsm_address(session);
  volatile long long *seen = (volatile long long *)(words + count);
  if (dsm_size(session) < (count + PAGE_WORDS) * sizeof *words) {
    fprintf(stderr, "bulk: the map must be %s MiB and a page\n", argv[2]);
    return 2;
  }
  int first = dsm_rank(session) == 0;
  uint64_t *from = first && is_pipelined ? malloc(count * sizeof *from) : NULL;
  if (first && is_pipelined && from == NULL) {
    fprintf(stderr, "bulk: no memory for %s MiB\n", argv[2]);
    return 1;
  }
  for (uint64_t round = 1; round <= rounds; round++) {
    if (from != NULL)
      write_words(from, count, pattern, round, 0);
    check(dsm_barrier_wait(session));
    long long start = 0;
    uint64_t written = 0;
    if (first && is_release) {
      start = now_ns();
      written = write_words(words, count, pattern, round, 0);
    } else if (first && is_pipelined) {
      start = now_ns();
      store_pieces(words, count, from);
      written = count * sizeof *words;
    } else if (first) {
      int hole;
      check(dsm_hole_dig(session, (void *)words, count * sizeof *words, &hole));
      written = write_words(words, count, pattern, round, sparse);
      start = now_ns();
      check(dsm_hole_fill(session, hole));
    } else if (!is_release) {
      struct timespec pause = {.tv_nsec = POLL_NS};
      while (words[count - 1] != value(pattern, round, count - 1))
        nanosleep(&pause, NULL);
      *seen = now_ns();
    }
    check(dsm_barrier_wait(session));
    if (first)
      printf("%lld %llu\n", (is_release ? now_ns() : *seen) - start, (unsigned long long)written);
    else
      verify(words, count, pattern, round, sparse);
  }
  free(from);
  check(dsm_barrier_wait(session));
  check(dsm_close(session));
  return 0;
}
