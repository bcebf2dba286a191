/* Times programs that write the same pages in each interval between two barriers: intervals KIND ROUNDS [plain]. Joins
 * the session in the environment; `plain`: two processes with plain shared memory and pthread objects instead. Each
 * process writes its own pages and reads a word of each page of the next process. For every round rank 0 prints
 * nanoseconds on one line.
 *
 * strides: 256 pages a process; a word of every page, then the next word of every page: like the transposition in an FFT.
 * sweeps: 100 barriers a round, and 4 pages before each: like a solver on a grid.
 * sections: 100 sections under one lock a round, with a store in each: like molecules that interact. */
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "session.h"

#define PAGE_WORDS 512u
#define STRIDED_PAGES 256u
#define SWEPT_PAGES 4u
#define BARRIERS 100u
#define SECTIONS 100u

#define MAP_BYTES (4u << 20)

static dsm_session *session; /* NULL: plain */
static struct plain {
  pthread_barrier_t barrier;
  pthread_mutex_t mutex;
} *plain;
static volatile uint64_t *map;
static unsigned rank, processes;

static void barrier(void) {
  if (session != NULL)
    check(dsm_barrier_wait(session));
  else
    pthread_barrier_wait(&plain->barrier);
}

static void lock(void) {
  if (session != NULL)
    check(dsm_lock(session, "sum"));
  else
    pthread_mutex_lock(&plain->mutex);
}

static void unlock(void) {
  if (session != NULL)
    check(dsm_unlock(session, "sum"));
  else
    pthread_mutex_unlock(&plain->mutex);
}

static void read_of_next(unsigned pages, uint64_t expected) {
  const volatile uint64_t *next = map + (uint64_t)((rank + 1) % processes) * pages * PAGE_WORDS;
  for (unsigned page = 0; page < pages; page++) {
    if (next[page * PAGE_WORDS + 7] == expected)
      continue;
    fprintf(stderr, "intervals: page %u is wrong\n", page);
    exit(1);
  }
}

static void strides(uint64_t round) {
  volatile uint64_t *own = map + (uint64_t)rank * STRIDED_PAGES * PAGE_WORDS;
  for (unsigned word = 0; word < PAGE_WORDS; word++)
    for (unsigned page = 0; page < STRIDED_PAGES; page++)
      own[page * PAGE_WORDS + word] = round + 1;
  barrier();
  read_of_next(STRIDED_PAGES, round + 1);
  barrier();
}

static void sweeps(uint64_t round) {
  volatile uint64_t *own = map + (uint64_t)rank * SWEPT_PAGES * PAGE_WORDS;
  for (unsigned sweep = 0; sweep < BARRIERS / 2; sweep++) {
    uint64_t value = round * BARRIERS + sweep + 1;
    for (unsigned word = 0; word < SWEPT_PAGES * PAGE_WORDS; word++)
      own[word] = value;
    barrier();
    read_of_next(SWEPT_PAGES, value);
    barrier();
  }
}

static void sections(uint64_t round) {
  (void)round;
  for (unsigned section = 0; section < SECTIONS; section++) {
    lock();
    map[0] += 1;
    unlock();
  }
  barrier();
}

/* Begins without dsm: forks the second process. */
static void begin_plain(void) {
  uint8_t *shared = mmap(NULL, MAP_BYTES + sizeof *plain, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    perror("intervals");
    exit(1);
  }
  map = (uint64_t *)shared;
  plain = (struct plain *)(shared + MAP_BYTES);
  pthread_barrierattr_t barriers;
  pthread_barrierattr_init(&barriers);
  pthread_barrierattr_setpshared(&barriers, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&plain->barrier, &barriers, 2);
  pthread_mutexattr_t mutexes;
  pthread_mutexattr_init(&mutexes);
  pthread_mutexattr_setpshared(&mutexes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&mutexes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&plain->mutex, &mutexes);
  processes = 2;
  rank = fork() == 0 ? 1 : 0;
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(uint64_t round);
  } kinds[] = {{"strides", strides}, {"sweeps", sweeps}, {"sections", sections}};
  void (*run)(uint64_t round) = NULL;
  int is_plain = argc == 4 && strcmp(argv[3], "plain") == 0;
  for (unsigned i = 0; (argc == 3 || is_plain) && i < sizeof kinds / sizeof *kinds; i++)
    if (strcmp(argv[1], kinds[i].name) == 0)
      run = kinds[i].run;
  if (run == NULL || atoi(argv[2]) < 1) {
    fprintf(stderr, "usage: intervals strides|sweeps|sections ROUNDS [plain]\n");
    return 2;
  }
  if (is_plain) {
    begin_plain();
  } else {
    check(dsm_open(NULL, &session));
    map = dsm_address(session);
    rank = (unsigned)dsm_rank(session);
    processes = (unsigned)dsm_processes(session);
  }
  barrier();
  for (uint64_t round = 0; round < (uint64_t)atoi(argv[2]); round++) {
    long long begin = now_ns();
    run(round);
    if (rank == 0)
      printf("%lld\n", now_ns() - begin);
  }
  if (run == sections && map[0] != (uint64_t)atoi(argv[2]) * SECTIONS * processes) {
    fprintf(stderr, "intervals: the sum is wrong\n");
    return 1;
  }
  if (session != NULL)
    check(dsm_close(session));
  else if (rank == 0)
    wait(NULL);
  return 0;
}
