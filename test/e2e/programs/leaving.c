/* Programs about leaving, and about several sessions in one process, that check themselves; the first argument says
 * which one. */
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- threads TIMES: threads are in calls of all kinds when their process leaves, session after session ---- */

enum { THREADS = 8 };

static dsm_session *session;
static pthread_barrier_t ready;

static void *call_until_left(void *argument) {
  intptr_t thread = (intptr_t)argument;
  dsm_session *mine = session;
  uint8_t *map = dsm_address(mine);
  pthread_barrier_wait(&ready);
  int status = DSM_OK;
  for (int i = 0; status == DSM_OK || status == DSM_TIMEOUT || status == DSM_AGAIN; i++) {
    int hole;
    switch (thread) {
      case 0: status = dsm_barrier_wait(mine); break;
      case 1: status = dsm_sem_wait(mine, "never", 0); break;
      case 2: status = dsm_sem_timedwait(mine, "never", 0, i % 3); break;
      case 3: status = dsm_sem_trywait(mine, "sometimes", 0); break;
      case 4: status = dsm_sem_post(mine, "sometimes", 0); break;
      case 5: status = dsm_fence(mine); break;
      default:
        status = dsm_hole_dig(mine, map + 4096 * thread + 8, 4096, &hole);
        if (status == DSM_OK) status = dsm_hole_fill(mine, hole);
        /* Left between the two: the hole was dropped. */
        break;
    }
  }
  if (status != DSM_LEFT) {
    fprintf(stderr, "thread %d: %s %s\n", (int)thread, dsm_status_name(status), dsm_last_error());
    exit(1);
  }
  return NULL;
}

static void threads(unsigned long times) {
  CHECK(pthread_barrier_init(&ready, NULL, THREADS + 1) == 0);
  for (unsigned long i = 0; i < times; i++) {
    CHECK_OK(dsm_open(NULL, &session));
    pthread_t others[THREADS];
    for (intptr_t t = 0; t < THREADS; t++) CHECK(pthread_create(&others[t], NULL, call_until_left, (void *)t) == 0);
    pthread_barrier_wait(&ready);
    /* The one who waits first has the others under way at different places each time. */
    for (unsigned long j = 0; j < i % 7; j++) CHECK_OK(dsm_sem_post(session, "other", 0));
    CHECK_OK(dsm_close(session));
    for (int t = 0; t < THREADS; t++) pthread_join(others[t], NULL);
  }
}

/* ---- in_a_row TIMES: one session of the same name after the other ---- */

static void in_a_row(unsigned long times) {
  for (uint64_t i = 1; i <= times; i++) {
    CHECK_OK(dsm_open(NULL, &session));
    uint64_t *values = dsm_address(session);
    int rank = dsm_rank(session), processes = dsm_processes(session);
    CHECK(values[rank] == 0); /* nothing is left of the session before */
    values[rank] = i;
    CHECK_OK(dsm_barrier_wait(session));
    for (int p = 0; p < processes; p++) CHECK(values[p] == i);
    CHECK_OK(dsm_close(session));
    for (int p = 0; p < processes; p++) CHECK(values[p] == i); /* the copy */
    CHECK(dsm_barrier_wait(session) == DSM_LEFT);
  }
}

/* ---- come_and_go TIMES: what a process keeps of the sessions it has left does not grow with their number ---- */

static void come_and_go(unsigned long times) {
  dsm_session **handles = calloc(times, sizeof *handles);
  CHECK(handles != NULL && times > DSM_LEFT_MAX + 20);
  size_t heap = 0;
  for (unsigned long i = 0; i < times; i++) {
    CHECK_OK(dsm_open(NULL, &handles[i]));
    uint64_t *map = dsm_address(handles[i]);
    int hole;
    __atomic_fetch_add(&map[0], 1, __ATOMIC_SEQ_CST);
    CHECK_OK(dsm_hole_dig(handles[i], &map[1000], 800, &hole));
    map[1000] = i;
    if (i % 2 == 0) CHECK_OK(dsm_hole_fill(handles[i], hole));
    CHECK_OK(dsm_close(handles[i]));
    if (i == DSM_LEFT_MAX + 10) heap = mallinfo2().uordblks;
  }
  CHECK(mallinfo2().uordblks == heap);
  unsigned long newest = times - DSM_LEFT_MAX, different = 0;
  for (unsigned long i = newest; i < times; i++) CHECK(dsm_barrier_wait(handles[i]) == DSM_LEFT);
  for (unsigned long i = 0; i < times; i++) {
    int is_new = 1;
    for (unsigned long j = 0; j < i; j++) is_new &= handles[j] != handles[i];
    CHECK(is_new || i > DSM_LEFT_MAX); /* none is used again too soon */
    different += (unsigned long)is_new;
  }
  CHECK(different == DSM_LEFT_MAX + 1);
  free(handles);
}

/* ---- several N: N sessions open in one process at once ---- */

static void several(unsigned long count) {
  dsm_session *open[DSM_SESSIONS_MAX];
  uint64_t *maps[DSM_SESSIONS_MAX];
  CHECK(count <= DSM_SESSIONS_MAX);
  for (unsigned long i = 0; i < count; i++) {
    char name[DSM_NAME_MAX + 1];
    dsm_config config;
    CHECK_OK(dsm_config_init(&config));
    snprintf(name, sizeof(name), "%s-%lu", config.session, i);
    config.session = name;
    CHECK_OK(dsm_open(&config, &open[i]));
    maps[i] = dsm_address(open[i]);
    CHECK(strcmp(dsm_name(open[i]), name) == 0);
    for (unsigned long j = 0; j < i; j++) CHECK(maps[j] != maps[i]);
  }
  for (unsigned long i = 0; i < count; i++) {
    int rank = dsm_rank(open[i]);
    maps[i][rank] = 1000 * (i + 1) + (uint64_t)rank;
    __atomic_fetch_add(&maps[i][40], i, __ATOMIC_SEQ_CST);
    int hole;
    CHECK_OK(dsm_hole_dig(open[i], &maps[i][50 + 10 * rank], 80, &hole));
    maps[i][50 + 10 * rank] = i;
    CHECK_OK(dsm_hole_fill(open[i], hole));
  }
  /* In another order than they were opened in. */
  for (unsigned long k = 0; k < count; k++) {
    unsigned long i = (k * 5 + 3) % count;
    CHECK_OK(dsm_barrier_wait(open[i]));
    int processes = dsm_processes(open[i]);
    for (int p = 0; p < processes; p++) {
      CHECK(maps[i][p] == 1000 * (i + 1) + (uint64_t)p);
      CHECK(maps[i][50 + 10 * p] == i);
    }
    CHECK(maps[i][40] == i * (uint64_t)processes);
  }
  for (unsigned long k = 0; k < count; k++) {
    unsigned long i = (k * 3 + 1) % count;
    CHECK_OK(dsm_close(open[i]));
    CHECK(maps[i][0] == 1000 * (i + 1));
  }
}

/* ---- forked TIMES: children of the process open sessions of their own, while its own goes on ---- */

static void forked(unsigned long times) {
  CHECK_OK(dsm_open(NULL, &session));
  volatile uint64_t *mine = (uint64_t *)dsm_address(session) + dsm_rank(session);
  int hole;
  CHECK_OK(dsm_hole_dig(session, (uint8_t *)dsm_address(session) + 5000 * (dsm_rank(session) + 1), 5000, &hole));
  for (uint64_t i = 1; i <= times; i++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      char name[DSM_NAME_MAX + 1];
      snprintf(name, sizeof(name), "%s-%d-%d", dsm_name(session), dsm_rank(session), (int)i);
      dsm_config config;
      CHECK_OK(dsm_config_init(&config));
      config.session = name;
      config.processes = 1;
      config.rank = -1;
      dsm_session *own;
      CHECK_OK(dsm_open(&config, &own));
      uint64_t *map = dsm_address(own);
      CHECK(map != dsm_address(session));
      map[0] = i;
      CHECK(__atomic_fetch_add(&map[0], 1, __ATOMIC_SEQ_CST) == i && map[0] == i + 1);
      CHECK_OK(dsm_hole_dig(own, map, 8000, &hole));
      map[700] = 3;
      CHECK_OK(dsm_hole_fill(own, hole));
      CHECK(dsm_barrier_wait(session) == DSM_FORKED);
      CHECK(dsm_close(session) == DSM_FORKED);
      CHECK_OK(dsm_close(own));
      CHECK(map[700] == 3);
      exit(0);
    }
    *mine = i;
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(*mine == i);
  }
  CHECK_OK(dsm_hole_fill(session, hole));
  CHECK_OK(dsm_barrier_wait(session));
  const uint64_t *map = dsm_address(session);
  for (int p = 0; p < dsm_processes(session); p++) CHECK(map[p] == times);
  CHECK_OK(dsm_close(session));
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  unsigned long number = strtoul(argv[2], NULL, 10);
  if (strcmp(argv[1], "threads") == 0) threads(number);
  else if (strcmp(argv[1], "in_a_row") == 0) in_a_row(number);
  else if (strcmp(argv[1], "come_and_go") == 0) come_and_go(number);
  else if (strcmp(argv[1], "several") == 0) several(number);
  else if (strcmp(argv[1], "forked") == 0) forked(number);
  else CHECK(!"a known program");
  return 0;
}
