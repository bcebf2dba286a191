/* work LOG SEED: a process of a session in which everything happens at once, until it is told to stop or learns that
 * another process is lost. What it counts lies in LOG, a file mapped in, so that it is there when it has been killed.
 *
 * It prints "ready" when the session has begun, and reads a line for each of these: "stop" (from all: rank 0 decides
 * when), "read" (after "lost": the counters). It ends with "done C0 C1 C2 C3", "lost REASON" and then "read C0 C1 C2 C3",
 * "failed STATUS REASON", or "wrong WHAT". */
#include <dsm/dsm.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { COUNTERS = 4, RECORD_WORDS = 16, HOLE_AT = 0x4100, HOLE_BYTES = 0x1234, OWN_AT = 0x10000 };

/* Known to test/chaos/chaos.ts. */
struct log {
  uint64_t attempted[COUNTERS], acknowledged[COUNTERS];
  uint64_t rounds;
  uint64_t left;
};
static struct log *counts;
static dsm_session *session;
static uint8_t *map;
static int rank, processes;
static uint64_t random_state;
static int stopping; /* the threads are to end */
static int stop_asked;

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static _Noreturn void wrong(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("wrong ");
  vprintf(format, arguments);
  putchar('\n');
  fflush(stdout);
  _exit(9);
}

static uint64_t *counter(int i) { return (uint64_t *)(void *)(map + 0x2000 + 64 * i); }

/* ---- threads ---- */

static void *count(void *nothing) {
  uint64_t random = random_state + 1;
  while (!__atomic_load_n(&stopping, __ATOMIC_SEQ_CST)) {
    int i = (int)(next_random(&random) % COUNTERS);
    counts->attempted[i]++;
    __atomic_fetch_add(counter(i), 1, __ATOMIC_SEQ_CST);
    counts->acknowledged[i]++;
  }
  return nothing;
}

/* Stores of all sizes to memory of one writer: it reads what it wrote. */
static void *store(void *nothing) {
  uint8_t *own = map + OWN_AT + 4096 * rank, copy[512];
  uint64_t random = random_state + 2;
  memset(copy, 0, sizeof(copy));
  while (!__atomic_load_n(&stopping, __ATOMIC_SEQ_CST)) {
    uint64_t draw = next_random(&random);
    size_t at = (draw >> 8) % 448, size = (size_t)1 << (draw >> 32) % 7;
    memset(own + at, (int)(draw & 0xff), size);
    memset(copy + at, (int)(draw & 0xff), size);
    if (memcmp(own, copy, sizeof(copy)) != 0) wrong("rank %d does not read what it wrote", rank);
  }
  return nothing;
}

static void *listen(void *nothing) {
  char line[64];
  while (fgets(line, sizeof(line), stdin) != NULL) {
    if (strcmp(line, "stop\n") == 0) __atomic_store_n(&stop_asked, 1, __ATOMIC_SEQ_CST);
    if (strcmp(line, "read\n") == 0) __atomic_store_n(&stop_asked, 2, __ATOMIC_SEQ_CST);
  }
  return nothing;
}

/* ---- rounds: all processes together ---- */

static int locked_record(void) {
  int status = dsm_sem_wait(session, "record", 1);
  if (status != DSM_OK) return status;
  volatile uint64_t *record = (uint64_t *)(void *)(map + 0x1000);
  uint64_t value = record[0];
  for (int i = 0; i < RECORD_WORDS; i++) {
    if (record[i] != value) wrong("word %d of the record is %llu, not %llu", i, (unsigned long long)record[i],
                                  (unsigned long long)value);
  }
  for (int i = 0; i < RECORD_WORDS; i++) record[i] = value + 1;
  return dsm_sem_post(session, "record", 1);
}

static uint64_t slot_value(uint64_t round, int r) { return (round * 1000003 + (uint64_t)r) * 2654435761u; }

/* The round's number, and whether it is the last: rank 0 says so before the first barrier. */
static int play_round(uint64_t round, int *last) {
  volatile uint64_t *slots = (uint64_t *)(void *)(map + 0x100), *decision = (uint64_t *)(void *)map;
  slots[rank] = slot_value(round, rank);
  if (rank == 0) *decision = (uint64_t)(__atomic_load_n(&stop_asked, __ATOMIC_SEQ_CST) != 0);
  int filler = (int)(round % (uint64_t)processes);
  if (rank == filler) {
    int hole, status = dsm_hole_dig(session, map + HOLE_AT, HOLE_BYTES, &hole);
    if (status != DSM_OK) return status;
    memset(map + HOLE_AT, (int)(round & 0xff), HOLE_BYTES);
    status = dsm_hole_fill(session, hole);
    if (status != DSM_OK) return status;
  }
  int status = locked_record();
  if (status == DSM_OK) status = dsm_barrier_wait(session);
  if (status != DSM_OK) return status;
  for (int r = 0; r < processes; r++) {
    if (slots[r] != slot_value(round, r)) wrong("slot %d of round %llu", r, (unsigned long long)round);
  }
  for (int i = 0; i < HOLE_BYTES; i++) {
    if (map[HOLE_AT + i] != (round & 0xff)) wrong("byte %d of the hole of round %llu", i, (unsigned long long)round);
  }
  *last = *decision != 0;
  counts->rounds = round;
  return dsm_barrier_wait(session);
}

static void say_counters(const char *word) {
  printf("%s", word);
  for (int i = 0; i < COUNTERS; i++) {
    printf(" %llu", (unsigned long long)__atomic_fetch_add(counter(i), 0, __ATOMIC_SEQ_CST));
  }
  putchar('\n');
  fflush(stdout);
}

static int failed(int status) {
  printf("failed %s %s\n", dsm_status_name(status), dsm_last_error());
  fflush(stdout);
  return 3;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(struct log)) != 0) return 2;
  counts = mmap(NULL, sizeof(struct log), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (counts == MAP_FAILED) return 2;
  int status = dsm_open(NULL, &session);
  if (status != DSM_OK) return failed(status);
  map = dsm_address(session);
  rank = dsm_rank(session);
  processes = dsm_processes(session);
  random_state = strtoull(argv[2], NULL, 10) * 1000003 + (uint64_t)rank * 64;
  puts("ready");
  fflush(stdout);

  pthread_t listener, threads[2];
  if (pthread_create(&listener, NULL, listen, NULL) != 0 || pthread_create(&threads[0], NULL, count, NULL) != 0 ||
      pthread_create(&threads[1], NULL, store, NULL) != 0)
    return 2;
  int last = 0;
  for (uint64_t round = 1; status == DSM_OK && !last; round++) status = play_round(round, &last);
  char reason[300];
  snprintf(reason, sizeof(reason), "%s", dsm_last_error());
  __atomic_store_n(&stopping, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  if (status == DSM_OK) status = dsm_barrier_wait(session); /* all have counted to the end */
  if (status == DSM_OK) {
    say_counters("done");
    status = dsm_barrier_wait(session); /* all have read */
    if (status == DSM_LOST) status = DSM_OK; /* a process was killed at the very end */
  } else if (status == DSM_LOST) {
    printf("lost %s\n", last ? dsm_last_error() : reason);
    fflush(stdout);
    while (__atomic_load_n(&stop_asked, __ATOMIC_SEQ_CST) != 2) usleep(1000);
    say_counters("read");
    status = DSM_OK;
  }
  if (status != DSM_OK) return failed(status);
  status = dsm_close(session);
  if (status != DSM_OK) return failed(status);
  counts->left = 1;
  return 0;
}
