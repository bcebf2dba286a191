/* soak: a process of a session that uses all there is, round by round, until rank 0's input ends; every CHURN rounds all
 * open a further session together and leave it again. Ends with 0, or says what went wrong and ends with 1. */
#include <dsm/dsm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHURN = 20, BLOCKS = 16, AREA_BYTES = 512 << 10, OWN_BYTES = 16 << 10, COUNTERS_AT = 0x1000, HOLE_AT = 0x2100,
       HOLE_BYTES = 3 * 4096, WORDS_AT = 0x8000, OWN_AT = 0x10000 };

static dsm_session *session;
static uint8_t *area;
static int rank, processes;
static uint64_t random_state;
static int input_ended;

static uint64_t next_random(void) { /* splitmix64 */
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static void must(const char *what, int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "rank %d: %s: %s %s\n", rank, what, dsm_status_name(status), dsm_last_error());
  exit(1);
}

static void hold(const char *what, int holds) {
  if (holds) return;
  fprintf(stderr, "rank %d: it is not so that %s\n", rank, what);
  exit(1);
}

static void *listen(void *nothing) {
  char byte;
  while (read(0, &byte, 1) > 0) continue;
  __atomic_store_n(&input_ended, 1, __ATOMIC_SEQ_CST);
  return nothing;
}

static void *thread_work(void *nothing) {
  for (int i = 0; i < 5; i++) {
    __atomic_fetch_add((uint64_t *)(void *)(area + COUNTERS_AT + 64), 1, __ATOMIC_SEQ_CST);
    must("a post in a thread", dsm_sem_post(session, "threads", 0));
    must("a wait in a thread", dsm_sem_wait(session, "threads", 0));
  }
  return nothing;
}

static void stores(uint64_t round) {
  static uint8_t copy[OWN_BYTES];
  uint8_t *own = area + OWN_AT + (size_t)rank * OWN_BYTES;
  for (int i = 0; i < 20; i++) {
    uint64_t draw = next_random();
    size_t at = (draw >> 8) % (OWN_BYTES - 64), size = (size_t)1 << (draw >> 32) % 7;
    memset(own + at, (int)(draw & 0xff), size);
    memset(copy + at, (int)(draw & 0xff), size);
  }
  if (round % 8 == 0) {
    memset(copy, (int)(round >> 3 & 0xff), sizeof(copy));
    memcpy(own, copy, sizeof(copy));
  }
  hold("a process reads what it wrote", memcmp(own, copy, sizeof(copy)) == 0);
}

static void semaphores(uint64_t round) {
  char name[16];
  snprintf(name, sizeof(name), "s%d", (int)(round % 8));
  must("a wait", dsm_sem_wait(session, name, 3));
  must("a post", dsm_sem_post(session, name, 3));
  int status = dsm_sem_trywait(session, "never", 0);
  hold("trying fails", status == DSM_AGAIN);
  if (round % 4 == 0) {
    status = dsm_sem_timedwait(session, "never", 0, 1);
    hold("waiting ends", status == DSM_TIMEOUT);
  }
}

static void holes(uint64_t round) {
  if ((uint64_t)rank != round % (uint64_t)processes) return;
  int hole;
  must("digging", dsm_hole_dig(session, area + HOLE_AT, HOLE_BYTES, &hole));
  memset(area + HOLE_AT, (int)(round & 0xff), HOLE_BYTES);
  must("filling", dsm_hole_fill(session, hole));
}

static void blocks(void) {
  static void *kept[BLOCKS];
  int i = (int)(next_random() % BLOCKS);
  if (kept[i] != NULL) {
    must("freeing", dsm_free(session, kept[i]));
    kept[i] = NULL;
    return;
  }
  int status = dsm_alloc(session, 1 + next_random() % 4000, (size_t)1 << next_random() % 8, &kept[i]);
  if (status == DSM_NO_MEMORY) kept[i] = NULL;
  else must("allocating", status);
}

/* Pairs: the even rank changes a word and wakes the odd one. */
static void sleeping(uint64_t round) {
  volatile uint64_t *word = (uint64_t *)(void *)(area + WORDS_AT + 64 * (rank / 2));
  if (rank % 2 == 0) {
    *word = round;
    must("waking", dsm_wake(session, (const void *)word, 1, NULL));
  } else {
    while (*word != round) {
      int status = dsm_wait_while(session, (const void *)word, 8, round - 1, 10000);
      if (status != DSM_AGAIN) must("sleeping", status);
    }
  }
}

static void churn(uint64_t round) {
  dsm_config config;
  dsm_session *other;
  char name[32];
  must("the settings", dsm_config_init(&config));
  snprintf(name, sizeof(name), "churn-%d", (int)(round / CHURN % 5));
  config.session = name;
  config.size = 128 << 10;
  must("opening another session", dsm_open(&config, &other));
  uint64_t *count = dsm_address(other);
  __atomic_fetch_add(count, 1, __ATOMIC_SEQ_CST);
  memset((uint8_t *)dsm_address(other) + 4096 + 4096 * rank, rank, 4096);
  int hole;
  must("digging there", dsm_hole_dig(other, (uint8_t *)count + 65536 + 1000 * rank, 500, &hole));
  memset((uint8_t *)count + 65536 + 1000 * rank, 7, 500);
  if (rank % 2 == 0) must("filling there", dsm_hole_fill(other, hole)); /* the others leave it open */
  must("the barrier there", dsm_barrier_wait(other));
  hold("all have counted there", *count == (uint64_t)processes);
  must("the second barrier there", dsm_barrier_wait(other));
  must("leaving", dsm_close(other));
}

int main(void) {
  must("opening", dsm_open(NULL, &session));
  rank = dsm_rank(session);
  processes = dsm_processes(session);
  random_state = (uint64_t)rank;
  void *block;
  must("the area", dsm_named(session, "area", AREA_BYTES, &block));
  area = block;
  pthread_t listener, threads[2];
  if (rank == 0 && pthread_create(&listener, NULL, listen, NULL) != 0) return 2;
  uint64_t *counter = (uint64_t *)(void *)(area + COUNTERS_AT);
  volatile uint64_t *decision = (uint64_t *)(void *)area;
  for (uint64_t round = 1;; round++) {
    stores(round);
    for (int i = 0; i < 10; i++) __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
    semaphores(round);
    holes(round);
    blocks();
    sleeping(round);
    for (int i = 0; i < 2; i++)
      if (pthread_create(&threads[i], NULL, thread_work, NULL) != 0) return 2;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    must("a fence", dsm_fence(session));
    if (rank == 0) *decision = (uint64_t)__atomic_load_n(&input_ended, __ATOMIC_SEQ_CST);
    must("the barrier", dsm_barrier_wait(session));
    hold("all have counted", *counter == round * 10 * (uint64_t)processes);
    hold("the hole is whole", area[HOLE_AT] == (round & 0xff) && area[HOLE_AT + HOLE_BYTES - 1] == (round & 0xff));
    int last = *decision != 0;
    if (rank == 0 && round % CHURN == 0) {
      printf("%llu\n", (unsigned long long)round);
      fflush(stdout);
    }
    must("the second barrier", dsm_barrier_wait(session));
    if (last) break;
    if (round % CHURN == 0) churn(round);
  }
  must("leaving", dsm_close(session));
  return 0;
}
