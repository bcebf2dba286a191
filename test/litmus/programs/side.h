/* What the programs of test/litmus share beside the session: failing, a random generator, and a rendezvous in ordinary
 * shared memory (a file all of them map). The processes are nodes to dsm, but run on one host: they start together
 * through memory dsm knows nothing of, so that no operation of dsm's orders what is under test. */
#ifndef SIDE_H
#define SIDE_H

#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../../e2e/programs/check.h"

/* sfc32: one seed, one sequence. */
struct random {
  uint32_t a, b, c, counter;
};

static inline uint32_t random_next(struct random *r) {
  uint32_t sum = r->a + r->b + r->counter++;
  r->a = r->b ^ (r->b >> 9);
  r->b = r->c + (r->c << 3);
  r->c = (r->c << 21 | r->c >> 11) + sum;
  return sum;
}

static inline struct random random_seeded(uint32_t seed, uint32_t stream) {
  struct random r = {.a = seed, .b = stream, .c = 0x9e3779b9, .counter = 1};
  for (int i = 0; i < 12; i++) random_next(&r);
  return r;
}

static inline uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A wait of random length, so that the others get to be anywhere. */
static inline void dawdle(struct random *r, uint64_t at_most_ns) {
  uint64_t ns = (uint64_t)random_next(r) * at_most_ns >> 32;
  struct timespec time = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
  if (ns > 0) nanosleep(&time, NULL);
}

/* Where `count` threads meet. Starts as zeros, may be used again and again. */
struct meeting {
  _Atomic uint32_t arrived, round;
};

static inline void meet(struct meeting *meeting, uint32_t count) {
  uint32_t round = atomic_load(&meeting->round);
  if (atomic_fetch_add(&meeting->arrived, 1) + 1 == count) {
    atomic_store(&meeting->arrived, 0);
    atomic_store(&meeting->round, round + 1);
    syscall(SYS_futex, &meeting->round, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
  } else {
    while (atomic_load(&meeting->round) == round) syscall(SYS_futex, &meeting->round, FUTEX_WAIT, round, NULL, NULL, 0);
  }
}

/* Maps the file, which is made of zeros where it is new. */
static inline void *side_map(const char *path, size_t size) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(memory != MAP_FAILED);
  close(fd);
  return memory;
}

#endif
