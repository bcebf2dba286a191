/* Programs about holes that check themselves; the first argument says which one. */
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

static dsm_session *session;
static int rank, processes;
static uint8_t *map;
static size_t size;

static void barrier(void) {
  CHECK_OK(dsm_barrier_wait(session));
}

/* ---- threads: rank 0's threads write all the time, while its main thread digs and fills ---- */

enum { WRITERS = 3, TIMES = 400, COUNTS = 4000 };
#define STRIDE 64

static void *write_on(void *argument) {
  size_t thread = (size_t)argument;
  for (uint32_t i = 1; i <= TIMES; i++) {
    /* Words all over the hole: in its whole pages and in the parts of pages at its ends. */
    size_t slot = (i * 2654435761u >> 7) % (size / (STRIDE * WRITERS));
    volatile uint32_t *word = (volatile uint32_t *)(map + (slot * WRITERS + thread) * STRIDE);
    *word += 1;
  }
  return NULL;
}

static void threads(void) {
  if (rank == 0) {
    pthread_t writers[WRITERS];
    for (size_t i = 0; i < WRITERS; i++) CHECK(pthread_create(&writers[i], NULL, write_on, (void *)i) == 0);
    for (int i = 0; i < 30; i++) {
      int hole;
      CHECK_OK(dsm_hole_dig(session, map + 100 * i, size - 6000, &hole));
      CHECK_OK(dsm_hole_fill(session, hole));
    }
    for (int i = 0; i < WRITERS; i++) pthread_join(writers[i], NULL);
  }
  barrier();
  uint64_t sum = 0;
  for (size_t at = 0; at < size; at += STRIDE) sum += *(const uint32_t *)(map + at);
  CHECK(sum == WRITERS * TIMES);
}

/* ---- page: rank 0's threads each count in a word of one page, by stores and by atomic operations, while its main thread
 * makes a hole of it again and again. The first store to the hole copies the page. Each thread sees its own stores. ---- */

static atomic_uint counting;

static void *count_on(void *argument) {
  size_t thread = (size_t)argument;
  volatile uint64_t *word = (volatile uint64_t *)map + 8 * thread;
  for (uint64_t i = 0; i < COUNTS; i++) {
    CHECK(*word == i);
    if (thread == 0) CHECK(__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST) == i);
    else *word = i + 1;
  }
  atomic_fetch_sub(&counting, 1);
  return NULL;
}

static void page(void) {
  if (rank == 0) {
    pthread_t writers[WRITERS];
    atomic_store(&counting, WRITERS);
    for (size_t i = 0; i < WRITERS; i++) CHECK(pthread_create(&writers[i], NULL, count_on, (void *)i) == 0);
    while (atomic_load(&counting) > 0) {
      int hole;
      CHECK_OK(dsm_hole_dig(session, map, 4096, &hole));
      CHECK_OK(dsm_hole_fill(session, hole));
    }
    for (int i = 0; i < WRITERS; i++) pthread_join(writers[i], NULL);
  }
  barrier();
  for (size_t i = 0; i < WRITERS; i++) CHECK(*((const uint64_t *)map + 8 * i) == COUNTS);
}

/* ---- random: turn by turn a process digs some holes, writes in and around them, and fills them; what the map must
 * then be is computed by everybody alone ---- */

static uint64_t state = 88172645463325252ull;

static uint64_t random_below(uint64_t limit) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state % limit;
}

/* Writes `length` times `byte`: by one of several instructions. */
static void write_bytes(uint8_t *to, size_t length, uint8_t byte, uint64_t form) {
  switch (form) {
    case 0:
      __asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(byte) : "memory");
      break;
    case 1:
      for (size_t i = 0; i < length; i++) ((volatile uint8_t *)to)[i] = byte;
      break;
    default:
      memset(to, byte, length);
      break;
  }
}

static void random_holes(void) {
  enum { TURNS = 60, HOLES = 3, WRITES = 6 };
  uint8_t *expected = calloc(1, size);
  CHECK(expected != NULL);
  for (int turn = 0; turn < TURNS; turn++) {
    /* The same random numbers everywhere: all know what each does. All processes have a part of the map each turn, so
     * that holes and stores of different processes meet in pages. */
    size_t limits[9] = {0};
    for (int i = 1; i < processes; i++) {
      limits[i] = limits[i - 1] + size / (size_t)processes / 2 + random_below(size / 8);
    }
    limits[processes] = size;
    for (int owner = 0; owner < processes; owner++) {
      size_t from = limits[owner], room = limits[owner + 1] - from;
      int holes[HOLES], count = 0;
      size_t hole_at = from + random_below(room / 2);
      for (int i = 0; i < HOLES; i++) {
        size_t length = 1 + random_below(random_below(2) == 0 ? 300 : 9000);
        if (hole_at + length > from + room) break;
        if (owner == rank) CHECK_OK(dsm_hole_dig(session, map + hole_at, length, &holes[count]));
        count++;
        hole_at += length + random_below(3) * 50;
      }
      for (int i = 0; i < WRITES; i++) {
        size_t at = from + random_below(room);
        size_t length = 1 + random_below(room - (at - from) < 5000 ? room - (at - from) : 5000);
        uint8_t byte = (uint8_t)random_below(256);
        uint64_t form = length < 60 ? random_below(3) : 2 * random_below(2);
        memset(expected + at, byte, length);
        if (owner == rank) write_bytes(map + at, length, byte, form);
      }
      if (owner == rank) {
        CHECK(memcmp(map + from, expected + from, room) == 0);
        for (int i = count; i > 0; i--) CHECK_OK(dsm_hole_fill(session, holes[i - 1]));
      }
    }
    barrier();
    CHECK(memcmp(map, expected, size) == 0);
    barrier();
  }
  uint64_t hash = 0;
  for (size_t i = 0; i < size; i++) hash = hash * 31 + map[i];
  printf("%llx\n", (unsigned long long)hash);
  free(expected);
}

/* ---- scattered: every other page of a hole is written, which is more separate pages than the kernel allows mappings;
 * and one store crosses more holes than it could be cut into at once ---- */

static void scattered(void) {
  int hole;
  if (rank == 0) {
    CHECK_OK(dsm_hole_dig(session, map, size, &hole));
    for (size_t at = 0; at < size; at += 8192) *(volatile uint8_t *)(map + at) = 1;
    for (size_t at = 0; at < size; at += 8192) CHECK(*(volatile uint8_t *)(map + at) == 1);
    CHECK_OK(dsm_hole_fill(session, hole));
  }
  barrier();
  for (size_t at = 0; at < size; at += 4096) CHECK(*(volatile uint8_t *)(map + at) == (at % 8192 == 0));
  barrier();
  if (rank == 0) {
    int holes[DSM_HOLES_MAX];
    for (int i = 0; i < DSM_HOLES_MAX; i++) CHECK_OK(dsm_hole_dig(session, map + 10 + 20 * i, 10, &holes[i]));
    write_bytes(map, 20 * DSM_HOLES_MAX, 2, 0);
    CHECK_OK(dsm_barrier_wait(session));
    CHECK_OK(dsm_barrier_wait(session));
    for (int i = 0; i < DSM_HOLES_MAX; i++) CHECK_OK(dsm_hole_fill(session, holes[i]));
  } else {
    barrier();
    for (int i = 0; i < 20 * DSM_HOLES_MAX; i++) CHECK((map[i] == 2) == (i % 20 < 10));
    barrier();
  }
  barrier();
  for (int i = 0; i < 20 * DSM_HOLES_MAX; i++) CHECK(map[i] == 2);
}

/* ---- mappings: a process that has as many mappings as the kernel allows gets no hole, rather than one whose pages are
 * not private; later it gets one ---- */

static void mappings(void) {
  enum { LIMIT = 1 << 20, PAGE = 4096 };
  int hole;
  CHECK(dsm_is_direct(session));
  CHECK_OK(dsm_hole_dig(session, map, 2 * PAGE, &hole)); /* what holes need besides is there now */
  CHECK_OK(dsm_hole_fill(session, hole));
  uint8_t *many = mmap(NULL, (size_t)LIMIT * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(many != MAP_FAILED);
  size_t at = 0;
  while (at < LIMIT && mprotect(many + at * PAGE, PAGE, PROT_READ) == 0) at += 2;
  CHECK(at < LIMIT && errno == ENOMEM);
  int status = dsm_hole_dig(session, map + 4 * PAGE, 4 * PAGE, &hole);
  munmap(many, (size_t)LIMIT * PAGE);
  CHECK(status == DSM_NO_MEMORY);
  map[4 * PAGE] = 5;
  CHECK_OK(dsm_hole_dig(session, map + 4 * PAGE, 4 * PAGE, &hole));
  map[4 * PAGE] = 6;
  CHECK_OK(dsm_hole_fill(session, hole));
  CHECK(map[4 * PAGE] == 6);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  CHECK_OK(dsm_open(NULL, &session));
  rank = dsm_rank(session);
  processes = dsm_processes(session);
  map = dsm_address(session);
  size = dsm_size(session);
  if (strcmp(argv[1], "threads") == 0) threads();
  else if (strcmp(argv[1], "page") == 0) page();
  else if (strcmp(argv[1], "random") == 0) random_holes();
  else if (strcmp(argv[1], "scattered") == 0) scattered();
  else if (strcmp(argv[1], "mappings") == 0) mappings();
  else CHECK(!"a known program");
  CHECK_OK(dsm_close(session));
  return 0;
}
