/* Semaphores of a session in direct mode: semaphore_cells ITEMS. Rank 0 posts that many items, as there is room for them; the
 * others wait for items, try, and wait for a short time, until rank 0 says that it is over. Those of odd rank are killed, by a
 * thread of their own after a random time. Prints how many items were posted, taken, and are left: a process that was killed
 * may have taken one that it did not count. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define ROOM 16
#define RANKS 8

struct counts {
  volatile uint64_t is_over;
  volatile uint64_t posted; /* by rank 0 */
  struct {
    volatile uint64_t taken; /* and counted */
    uint64_t line[7];
  } of[RANKS];
};

static void *kill_later(void *microseconds) {
  struct timespec time = {.tv_nsec = (long)(intptr_t)microseconds * 1000};
  nanosleep(&time, NULL);
  kill(getpid(), SIGKILL);
  return NULL;
}

/* Takes an item, in one of the ways. Returns a status. */
static int take(dsm_session *session, unsigned way) {
  if (way % 8 == 0) return dsm_sem_trywait(session, "items", 0);
  if (way % 8 < 3) return dsm_sem_timedwait(session, "items", 0, way % 4);
  return dsm_sem_wait(session, "items", 0);
}

static void consume(dsm_session *session, struct counts *counts, int rank) {
  for (unsigned way = (unsigned)rank; !counts->is_over; way++) {
    int status = take(session, way);
    CHECK(status == DSM_OK || status == DSM_AGAIN || status == DSM_TIMEOUT);
    if (status != DSM_OK) continue;
    counts->of[rank].taken++;
    CHECK_OK(dsm_sem_post(session, "room", ROOM));
  }
}

static void post_item(dsm_session *session, struct counts *counts) {
  CHECK_OK(dsm_sem_post(session, "items", 0));
  counts->posted++;
}

static void produce(dsm_session *session, struct counts *counts, uint64_t items) {
  unsigned random = (unsigned)getpid();
  for (uint64_t i = 0; i < items; i++) {
    int status = dsm_sem_timedwait(session, "room", ROOM, 20);
    CHECK(status == DSM_OK || status == DSM_TIMEOUT); /* a process that was killed has left its items */
    post_item(session, counts);
    if (rand_r(&random) % ROOM == 0) sched_yield();
  }
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  dsm_session *session;
  CHECK_OK(dsm_open(NULL, &session));
  CHECK(dsm_is_direct(session) == 1);
  struct counts *counts = dsm_address(session);
  int rank = dsm_rank(session), processes = dsm_processes(session);
  CHECK(processes <= RANKS);
  CHECK_OK(dsm_barrier_wait(session));
  if (rank % 2 == 1) {
    pthread_t thread;
    unsigned random = (unsigned)(time(NULL) * 31 + getpid());
    CHECK(pthread_create(&thread, NULL, kill_later, (void *)(intptr_t)(rand_r(&random) % 30000)) == 0);
    for (;;) consume(session, counts, rank);
  }
  if (rank > 0) {
    consume(session, counts, rank);
  } else {
    produce(session, counts, strtoull(argv[1], NULL, 10));
    counts->is_over = 1;
    /* Ends the last wait of each. */
    for (int i = 1; i < processes; i++) post_item(session, counts);
  }
  /* Opens when those that are to be killed are. */
  CHECK_OK(dsm_barrier_wait(session));
  if (rank == 0) {
    uint64_t taken = 0, left = 0;
    for (int i = 0; i < processes; i++) taken += counts->of[i].taken;
    while (dsm_sem_trywait(session, "items", 0) == DSM_OK) left++;
    printf("posted %llu taken %llu left %llu\n", (unsigned long long)counts->posted, (unsigned long long)taken,
           (unsigned long long)left);
  }
  CHECK_OK(dsm_close(session));
  return 0;
}
