/* The barrier of a session in direct mode, with processes that die, join, leave, and wait for a limited time:
 *   barrier_cells rounds|timed|killed|host|guest COUNT
 * rounds, timed: COUNT rounds. killed: rank 0 does so many; the others go on until they are killed, each by a thread of its
 * own after a random time. host: rounds until COUNT guests have been there. guest: COUNT rounds, then it leaves.
 * What the processes write into the map says whether one has passed a barrier that another was not in. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define RANKS_MAX 32

/* What a process says of itself, by its rank. It is inside a barrier, or about to be, if it has entered more than left. */
struct said {
  uint64_t is_here; /* it is not about to leave, or to be killed */
  uint64_t entered, left;
  uint64_t passed;
} __attribute__((aligned(64)));

struct shared {
  uint64_t guests; /* that have been there */
  uint64_t is_over;
  struct said said[RANKS_MAX];
};

static dsm_session *session;
static struct shared *shared;
static struct said *own;
static unsigned seed;

static uint64_t get(const uint64_t *word) {
  return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void set(uint64_t *word, uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static void add(uint64_t *word) {
  __atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
}

/* Passes one barrier. `timed`: mostly by waits of little time, until one of them is long enough. */
static void pass(int timed) {
  uint64_t entered[RANKS_MAX];
  int is_out[RANKS_MAX]; /* it is there, and has not entered */
  int status;
  do {
    for (int rank = 0; rank < RANKS_MAX; rank++) {
      const struct said *said = &shared->said[rank];
      uint64_t left = get(&said->left);
      entered[rank] = get(&said->entered);
      is_out[rank] = said != own && get(&said->is_here) && left == entered[rank];
    }
    add(&own->entered);
    int way = timed ? rand_r(&seed) % 4 : 0;
    status = way == 0 ? dsm_barrier_wait(session) : dsm_barrier_timed(session, way == 1 ? 0 : (uint32_t)rand_r(&seed) % 3);
    add(&own->left);
    CHECK(status == DSM_OK || (status == DSM_TIMEOUT && way != 0));
  } while (status != DSM_OK);
  for (int rank = 0; rank < RANKS_MAX; rank++) {
    const struct said *said = &shared->said[rank];
    CHECK(!is_out[rank] || get(&said->entered) > entered[rank] || !get(&said->is_here));
  }
  add(&own->passed);
}

/* All began at once and none has gone: the others have passed as many, or are about to say so. */
static void check_rounds(uint64_t rounds, int processes) {
  for (int rank = 0; rank < processes; rank++) {
    uint64_t passed = get(&shared->said[rank].passed);
    CHECK(passed + 1 >= rounds && passed <= rounds);
  }
}

static void *kill_later(void *microseconds) {
  struct timespec time = {.tv_nsec = (long)(intptr_t)microseconds * 1000};
  nanosleep(&time, NULL);
  set(&own->is_here, 0);
  kill(getpid(), SIGKILL);
  return NULL;
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  const char *kind = argv[1];
  uint64_t count = (uint64_t)atoll(argv[2]);
  int timed = strcmp(kind, "timed") == 0, guest = strcmp(kind, "guest") == 0;
  CHECK_OK(dsm_open(NULL, &session));
  CHECK(dsm_is_direct(session) == 1);
  shared = dsm_address(session);
  int rank = dsm_rank(session);
  CHECK(rank < RANKS_MAX);
  own = &shared->said[rank];
  seed = (unsigned)(time(NULL) * 31 + getpid());
  /* Another process may have had this rank. */
  add(&own->entered);
  add(&own->left);
  set(&own->is_here, 1);
  if (strcmp(kind, "host") == 0) {
    while (get(&shared->guests) < count) pass(rank == 1);
  } else if (strcmp(kind, "killed") == 0) {
    CHECK_OK(dsm_barrier_wait(session));
    pthread_t thread;
    if (rank > 0)
      CHECK(pthread_create(&thread, NULL, kill_later, (void *)(intptr_t)(rand_r(&seed) % 40000)) == 0);
    for (uint64_t i = 0; rank > 0 || i < count; i++) pass(rank % 2);
  } else {
    for (uint64_t i = 1; i <= count; i++) {
      pass(timed || guest);
      if (!guest) check_rounds(i, (int)dsm_processes(session));
    }
  }
  set(&own->is_here, 0);
  if (guest) add(&shared->guests);
  CHECK_OK(dsm_close(session));
  return 0;
}
