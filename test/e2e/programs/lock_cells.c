/* One lock of a session, whose owners are killed: lock_cells SECTIONS LIFE_US. Rank 0 enters that many sections; the others
 * enter sections until they are killed, by a thread of their own after a random time of up to LIFE_US microseconds (0: they
 * enter SECTIONS, too). What the lock guards says whether two were in it at once, and whether the death of an owner was
 * told. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

struct guarded {
  volatile uint64_t owner; /* 1 plus the rank of who is in the section; 0: none */
  volatile uint64_t sections;
  volatile uint64_t deaths; /* of owners, as DSM_OWNER_DIED told them */
};

static void *kill_later(void *microseconds) {
  long us = (long)(intptr_t)microseconds;
  struct timespec time = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
  nanosleep(&time, NULL);
  kill(getpid(), SIGKILL);
  return NULL;
}

/* Enters one section. */
static void enter(dsm_session *session, struct guarded *guarded, uint64_t mark) {
  int status = dsm_lock(session, "guarded");
  CHECK(status == DSM_OK || status == DSM_OWNER_DIED);
  if (status == DSM_OK) CHECK(guarded->owner == 0);
  CHECK(guarded->owner != mark);
  if (status == DSM_OWNER_DIED) guarded->deaths++;
  guarded->owner = mark;
  for (int i = 0; i < 20; i++) CHECK(guarded->owner == mark);
  guarded->sections++;
  guarded->owner = 0;
  CHECK_OK(dsm_unlock(session, "guarded"));
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  int sections = atoi(argv[1]), life_us = atoi(argv[2]);
  dsm_session *session;
  CHECK_OK(dsm_open(NULL, &session));
  struct guarded *guarded = dsm_address(session);
  int rank = dsm_rank(session);
  CHECK_OK(dsm_barrier_wait(session));
  if (rank > 0 && life_us > 0) {
    pthread_t thread;
    srand((unsigned)(time(NULL) * 31 + getpid()));
    CHECK(pthread_create(&thread, NULL, kill_later, (void *)(intptr_t)(rand() % life_us)) == 0);
    for (;;) enter(session, guarded, (uint64_t)rank + 1);
  }
  for (int i = 0; i < sections; i++) enter(session, guarded, (uint64_t)rank + 1);
  if (life_us == 0) {
    CHECK_OK(dsm_barrier_wait(session));
    CHECK(guarded->sections == (uint64_t)sections * (uint64_t)dsm_processes(session));
  }
  printf("deaths %llu\n", (unsigned long long)guarded->deaths);
  CHECK_OK(dsm_close(session));
  return 0;
}
