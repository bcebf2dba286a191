/* What a program built with a sanitizer, or run by valgrind, does with the map: every kind of store, the kernel's too,
 * by several threads. "work" has no fault; the others have one each, which the tool must still find. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#define THREADS 3
#define ROUNDS 200
#define PART_BYTES 12288

struct part { /* of one rank */
  uint8_t one;
  uint16_t two;
  uint32_t four;
  uint64_t eight;
  double real;
  long double widest;
  struct {
    int a, b, c, d, e, f;
  } whole;
  char text[64];
  uint8_t copied[2000], filled[2000], moved[600];
  uint64_t by_thread[THREADS];
  uint8_t copied_by_thread[THREADS][1200]; /* one after the other in memory that the threads share */
};

struct map {
  _Atomic uint64_t sum, bits, highest;
  uint64_t locked;
  uint8_t parts[]; /* from the second page on */
};

static dsm_session *session;
static struct map *map;
static int rank, processes;

static struct part *part_of(int which) {
  return (struct part *)(void *)((uint8_t *)map + 4096 + PART_BYTES * (size_t)which);
}

static uint8_t pattern(int which, size_t i) {
  return (uint8_t)(i * 7 + (size_t)which * 31 + 1);
}

static void *thread(void *argument) {
  size_t self = (size_t)(uintptr_t)argument;
  struct part *mine = part_of(rank);
  for (uint64_t i = 1; i <= ROUNDS; i++) {
    mine->by_thread[self] = i;
    CHECK(mine->by_thread[self] == i);
    if (i % 10 == 0) {
      uint8_t bytes[sizeof mine->copied_by_thread[self]];
      volatile size_t size = sizeof bytes; /* the compiler would make stores of its own */
      memset(bytes, (int)i, size);
      memcpy(mine->copied_by_thread[self], bytes, size);
      CHECK(memcmp(mine->copied_by_thread[self], bytes, sizeof bytes) == 0);
    }
    atomic_fetch_add(&map->sum, i);
    uint64_t seen = atomic_load(&map->highest);
    while (seen < i && !atomic_compare_exchange_weak(&map->highest, &seen, i)) {
    }
  }
  atomic_fetch_or(&map->bits, 1ull << (rank * THREADS + (int)self));
  return NULL;
}

static void store(void) {
  struct part *mine = part_of(rank);
  uint8_t *source = malloc(sizeof mine->copied);
  CHECK(source != NULL);
  for (size_t i = 0; i < sizeof mine->copied; i++)
    source[i] = pattern(rank, i);
  mine->one = 11;
  mine->two = 2222;
  mine->four = 44444444;
  mine->eight = 8888888888888888;
  mine->real = 0.5 + rank;
  mine->whole = (typeof(mine->whole)){1, 2, 3, 4, 5, 6};
  memcpy(mine->copied, source, sizeof mine->copied);
  memset(mine->filled, 0xa5, sizeof mine->filled);
  memcpy(mine->moved, mine->copied, sizeof mine->moved);
  memmove(mine->moved + 5, mine->moved, 500);
  snprintf(mine->text, sizeof mine->text, "rank %d of %d", rank, processes);
  free(source);
}

static void check(int which) {
  const struct part *part = part_of(which);
  char text[sizeof part->text];
  CHECK(part->one == 11 && part->two == 2222 && part->four == 44444444 && part->eight == 8888888888888888);
  CHECK(part->real == 0.5 + which);
  CHECK(part->whole.a == 1 && part->whole.d == 4 && part->whole.f == 6);
  for (size_t i = 0; i < sizeof part->copied; i++)
    CHECK(part->copied[i] == pattern(which, i) && part->filled[i] == 0xa5);
  for (size_t i = 0; i < sizeof part->moved; i++)
    CHECK(part->moved[i] == pattern(which, i < 5 || i >= 505 ? i : i - 5));
  snprintf(text, sizeof text, "rank %d of %d", which, processes);
  CHECK(strcmp(part->text, text) == 0);
}

static void read_by_kernel(void) {
  struct part *mine = part_of(rank);
  int ends[2];
  uint8_t sent[900], outside[100];
  for (size_t i = 0; i < sizeof sent; i++)
    sent[i] = pattern(rank + 5, i);
  CHECK(pipe(ends) == 0 && write(ends[1], sent, sizeof sent) == sizeof sent);
  CHECK(read(ends[0], mine->filled, 300) == 300);
  struct iovec parts[] = {{mine->filled + 300, 250}, {outside, 100}, {mine->filled + 550, 250}};
  CHECK(readv(ends[0], parts, 3) == 600);
  CHECK(memcmp(mine->filled, sent, 550) == 0 && memcmp(outside, sent + 550, 100) == 0);
  CHECK(memcmp(mine->filled + 550, sent + 650, 250) == 0);
  close(ends[0]);
  close(ends[1]);
  FILE *file = tmpfile();
  CHECK(file != NULL && fwrite(sent, 1, sizeof sent, file) == sizeof sent);
  rewind(file);
  CHECK(fread(mine->filled, 1, sizeof sent, file) == sizeof sent && memcmp(mine->filled, sent, sizeof sent) == 0);
  CHECK(pread(fileno(file), mine->filled, 100, 10) == 100 && memcmp(mine->filled, sent + 10, 100) == 0);
  fclose(file);
  CHECK(getrandom(mine->filled, 64, 0) == 64);
}

static void work(void) {
  store();
  pthread_t threads[THREADS];
  for (size_t i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, thread, (void *)i) == 0);
  for (size_t i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  for (int i = 0; i < 20; i++) {
    CHECK_OK(dsm_lock(session, "sum"));
    map->locked++;
    CHECK_OK(dsm_unlock(session, "sum"));
  }
  CHECK_OK(dsm_barrier_wait(session));
  for (int which = 0; which < processes; which++) {
    check(which);
    for (int i = 0; i < THREADS; i++)
      CHECK(part_of(which)->by_thread[i] == ROUNDS);
  }
  CHECK(map->locked == 20u * (unsigned)processes);
  CHECK(atomic_load(&map->sum) == (uint64_t)ROUNDS * (ROUNDS + 1) / 2 * THREADS * (unsigned)processes);
  CHECK(atomic_load(&map->bits) == (1ull << (processes * THREADS)) - 1 && atomic_load(&map->highest) == ROUNDS);
  CHECK_OK(dsm_barrier_wait(session));

  int hole;
  struct part *mine = part_of(rank);
  CHECK_OK(dsm_hole_dig(session, (void *)mine, PART_BYTES, &hole));
  memset(mine, 0, offsetof(struct part, by_thread));
  store();
  mine->one = 12;
  CHECK_OK(dsm_hole_fill(session, hole));
  CHECK_OK(dsm_barrier_wait(session));
  for (int which = 0; which < processes; which++)
    CHECK(part_of(which)->one == 12 && part_of(which)->real == 0.5 + which);
  CHECK_OK(dsm_barrier_wait(session));
  read_by_kernel();
}

/* By an instruction that dsm runs on a copy of the bytes. */
static void widest(void) {
  volatile int number = rank;
  part_of(rank)->widest = 0.25L + number;
  CHECK_OK(dsm_barrier_wait(session));
  for (int which = 0; which < processes; which++)
    CHECK(part_of(which)->widest == 0.25L + which);
}

/* Not inlined, so that a report names them. */
__attribute__((noinline)) static void overflow(void) {
  char *bytes = malloc(10);
  volatile size_t size = 11;
  memcpy(bytes, map, size);
  printf("%c", bytes[3]);
  free(bytes);
}

__attribute__((noinline)) static void wild(void) {
  volatile uintptr_t address = 16;
  *(volatile int *)address = 1;
}

__attribute__((noinline)) static void leak(void) {
  void *volatile bytes = malloc(1234);
  bytes = NULL;
  (void)bytes;
}

__attribute__((noinline)) static void undefined(void) {
  map->locked = 0x7fffffff;
  volatile int big = (int)map->locked;
  big = big + 1;
}

static int shared;
static void *race(void *unused) {
  (void)unused;
  for (int i = 0; i < 1000; i++)
    shared++;
  return NULL;
}

static void races(void) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    CHECK(pthread_create(&threads[i], NULL, race, NULL) == 0);
  for (int i = 0; i < 2; i++)
    pthread_join(threads[i], NULL);
}

int main(int count, char **arguments) {
  CHECK(count == 2);
  CHECK_OK(dsm_open(NULL, &session));
  map = dsm_address(session);
  rank = dsm_rank(session);
  processes = dsm_processes(session);
  static const struct {
    const char *name;
    void (*run)(void);
  } tasks[] = {{"work", work}, {"widest", widest}, {"overflow", overflow}, {"wild", wild}, {"leak", leak},
               {"undefined", undefined}, {"races", races}};
  for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++)
    if (strcmp(arguments[1], tasks[i].name) == 0)
      tasks[i].run();
  CHECK_OK(dsm_close(session));
  printf("%s: done\n", arguments[1]);
  return 0;
}
