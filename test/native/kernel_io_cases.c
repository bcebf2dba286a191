/* read() and its relatives into regions whose sink is the test's: what is published, in which steps, and what happens
 * when it cannot be. `kernel_io_cases NAME` prints `ok` and exits 0, or fails; without a name it lists the names. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cases.h"
#include "harness.h"

#define BASE 0x2a0000000000ull
#define SIZE (64u * PAGE)

static struct map map;

#define check(truth, what)                                                             \
  do {                                                                                 \
    if (!(truth)) fail("not so: %s (errno %d)", what, errno);                          \
    if (map.wrong != NULL) fail("the sink was called wrongly: %s", map.wrong);         \
  } while (0)

static void start(void) {
  if (dsm_capture_init() != 0) fail("dsm_capture_init");
  map_create(&map, BASE, SIZE);
}

static uint8_t *content;

static int content_file(size_t bytes) {
  int fd = memfd_create("content", 0);
  content = malloc(bytes);
  for (size_t i = 0; i < bytes; i++) content[i] = (uint8_t)(i * 2654435761u >> 13);
  if (fd < 0 || write(fd, content, bytes) != (ssize_t)bytes || lseek(fd, 0, SEEK_SET) != 0) fail("content_file");
  return fd;
}

/* [from, to) was published once and nothing else at all. */
static int published_just(size_t from, size_t to) {
  for (size_t i = 0; i < map.size; i++) {
    if (map.published[i] != (i >= from && i < to)) return 0;
  }
  return 1;
}

static void steps(void) {
  int fd = content_file(200000);
  check(dsm_region_write(BASE + 100, content, 200000) == 0, "200,000 bytes are written");
  check(published_just(100, 200100) && memcmp(map.base + 100, content, 200000) == 0, "just they are published");
  check(map.stores == 1, "in one step");
  map_forget(&map);
  check(read(fd, map.base + 4096, 200000) == 200000, "200,000 bytes are read");
  check(published_just(4096, 204096) && map.stores <= 8, "just they are published");
  map_forget(&map);
  check(pread(fd, map.base + 9, 1, 5) == 1 && published_just(9, 10) && map.stores == 1, "a byte is one store");
}

static void bounds(void) {
  uint8_t bytes[300] = {1};
  check(dsm_region_write(BASE - 1, bytes, 1) == -1 && errno == EFAULT, "before the region");
  check(dsm_region_write(BASE + SIZE, bytes, 1) == -1 && errno == EFAULT, "behind the region");
  check(dsm_region_write(BASE + SIZE - 10, bytes, 300) == -1 && errno == EFAULT, "across its end");
  check(dsm_region_write(BASE + SIZE - 10, bytes, 10) == 0, "up to its end");
  check(dsm_region_write(BASE, bytes, 0) == 0, "nothing");
  uintptr_t from;
  check(dsm_region_part(BASE - 5, 5, &from) == 0, "no part before");
  check(dsm_region_part(BASE - 5, 6, &from) == 1 && from == BASE, "one byte");
  check(dsm_region_part(BASE - 5, SIZE + 10, &from) == SIZE && from == BASE, "all of it");
  check(dsm_region_part(BASE + 7, UINTPTR_MAX - 3, &from) == 0, "a range that wraps around is none");
  check(!dsm_regions_near(bytes, sizeof(bytes)) && dsm_regions_near(map.base + SIZE - 1, 1), "near");
  check(!dsm_regions_near(map.base + SIZE, 1) && !dsm_regions_near(map.base - 1, 1), "not near");
  dsm_region_leave(map.region);
  check(dsm_region_write(BASE, bytes, 1) == -1 && errno == EFAULT, "a region that was left");
  check(read(content_file(10), map.base, 10) == -1 && errno == EFAULT, "read into a region that was left");
}

/* ---- many buffers, in two regions side by side, a third one, and private memory, as readv() itself has it ---- */

static uint64_t state = 88172645463325252ull;

static size_t below(size_t limit) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state % limit;
}

static void anywhere(void) {
  static struct map second, third;
  map_create(&second, BASE + SIZE, SIZE);
  map_create(&third, BASE + 3 * (uintptr_t)SIZE, SIZE);
  size_t all = 5 * (size_t)SIZE; /* with private memory between the regions and at the end */
  for (int i = 2; i < 5; i += 2) {
    void *place = (void *)(BASE + (uintptr_t)i * SIZE);
    if (mmap(place, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != place) {
      fail("mmap");
    }
  }
  int fd = content_file(3 << 20);
  uint8_t *model = calloc(1, all);
  for (int round = 0; round < 400; round++) {
    struct iovec buffers[12], plain[12];
    int count = 1 + (int)below(12);
    for (int i = 0; i < count; i++) {
      size_t length = below(4) == 0 ? below(200000) : below(3000), at = below(all - length + 1);
      if (below(3) == 0 && length > 0) { /* across an edge */
        size_t edge = (1 + below(4)) * (size_t)SIZE;
        at = edge > length ? edge - below(length) : 0;
        if (at + length > all) at = all - length;
      }
      buffers[i] = (struct iovec){(void *)(BASE + at), length};
      plain[i] = (struct iovec){model + at, length};
    }
    off_t from = (off_t)below(2 << 20);
    ssize_t got, wanted;
    lseek(fd, from, SEEK_SET);
    got = count == 1 && below(2) == 0 ? pread(fd, buffers[0].iov_base, buffers[0].iov_len, from)
                                      : readv(fd, buffers, count);
    lseek(fd, from, SEEK_SET);
    wanted = preadv(fd, plain, count, from); /* which libdsm does not stand before */
    if (got != wanted) fail("round %d: %zd bytes, not %zd", round, got, wanted);
    if (memcmp((void *)BASE, model, all) != 0) fail("round %d: other bytes than readv() itself reads", round);
    if (second.wrong != NULL || third.wrong != NULL) fail("%s %s", second.wrong, third.wrong);
  }
  check(map.stores > 0 && second.stores > 0 && third.stores > 0, "all regions were written to");
}

/* ---- sinks that fail, and how a sink is called ---- */

static int stores_left, mask_complete = 1;

static int limited_store(void *context, const struct dsm_run *runs, uint32_t count) {
  sigset_t mask;
  uint64_t bits;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  memcpy(&bits, &mask, sizeof(bits));
  uint64_t never = 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1);
  if ((bits | never) != ~0ull) mask_complete = 0;
  errno = 99;
  return stores_left-- > 0 ? recording_sink.store(context, runs, count) : -1;
}

static const struct dsm_sink limited_sink = {.store = limited_store};

static void start_limited(int stores) {
  dsm_region_remove(map.region);
  map.region = dsm_region_add(BASE, SIZE, &limited_sink, &map);
  stores_left = stores;
}

static void sink_fails(void) {
  start_limited(2);
  int fd = content_file(200000);
  errno = 0;
  check(read(fd, map.base, 10) == 10 && errno == 0, "what works leaves errno alone");
  check(mask_complete, "all signals are blocked in the sink");
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  check(sigisemptyset(&mask), "and none behind it");
  check(read(fd, map.base, 150000) == -1 && errno == EIO, "a failure in the middle is EIO");
  check(pread(fd, map.base, 1, 0) == -1 && errno == EIO, "a failure at once is EIO");
  FILE *file = fdopen(fd, "r");
  errno = 0;
  check(fread(map.base, 1, 10, file) == 0 && ferror(file) && errno == EIO, "fread has an error of its file");
  clearerr(file);
  stores_left = 1;
  check(fread(map.base, 1, 10, file) == 10 && !ferror(file), "and works again behind it");
  fclose(file);
}

/* ---- more threads than slots, all waiting in a read with a large buffer ---- */

#define THREADS 40
static int ends[2];

static void *read_a_packet(void *argument) {
  (void)argument;
  ssize_t got = read(ends[0], map.base + 4096 * (size_t)(intptr_t)argument, 4000);
  return (void *)(intptr_t)got;
}

static void many_threads(void) {
  pthread_t threads[THREADS];
  if (pipe2(ends, O_DIRECT) != 0) fail("pipe2");
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, read_a_packet, (void *)(intptr_t)i);
  uint8_t packet[4000];
  for (int i = 0; i < THREADS; i++) {
    memset(packet, i + 1, sizeof(packet));
    if (write(ends[1], packet, sizeof(packet)) != sizeof(packet)) fail("write");
  }
  uint8_t seen[THREADS + 1] = {0};
  for (int i = 0; i < THREADS; i++) {
    void *got;
    pthread_join(threads[i], &got);
    check((intptr_t)got == sizeof(packet), "each thread gets a packet");
    const uint8_t *bytes = map.base + 4096 * (size_t)i;
    for (size_t j = 0; j < sizeof(packet); j++) check(bytes[j] == bytes[0], "a whole one");
    check(bytes[0] >= 1 && bytes[0] <= THREADS && seen[bytes[0]]++ == 0, "of its own");
  }
}

static const struct test_case cases[] = {
    {"steps", steps},           {"bounds", bounds},           {"anywhere", anywhere},
    {"sink-fails", sink_fails}, {"many-threads", many_threads},
};

int main(int argc, char **argv) {
  harness_init();
  return run_cases(argc, argv, cases, sizeof cases / sizeof cases[0], start);
}
