/* A lock that all processes of an elastic session want at once, in all the ways there are: contended_locks PROCESSES
 * SECTIONS SEED. Each process has two threads, which enter sections: after dsm_lock, dsm_lock_timed or dsm_lock_try, mostly
 * for a moment, sometimes for longer than a thread sleeps on a cell. Each process enters that many sections, and more until
 * all PROCESSES have come. What the lock guards says whether two were in it at once. Prints the sections that this process
 * has entered, and all that were entered by then. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "check.h"

struct guarded {
  volatile uint64_t inside; /* 0 or 1 */
  volatile uint64_t sections;
  volatile uint64_t arrived; /* processes */
};

static dsm_session *session;
static struct guarded *guarded;
static uint64_t processes, sections;
static atomic_ullong entered;

static void rest(long microseconds) {
  struct timespec time = {.tv_nsec = microseconds * 1000};
  nanosleep(&time, NULL);
}

/* Returns whether this thread has the lock. */
static int take(unsigned *seed) {
  unsigned how = (unsigned)rand_r(seed) % 10;
  int status = how == 0   ? dsm_lock_try(session, "guarded")
               : how == 1 ? dsm_lock_timed(session, "guarded", (uint32_t)rand_r(seed) % 4)
               : how == 2 ? dsm_lock_timed(session, "guarded", 10000)
                          : dsm_lock(session, "guarded");
  if (status == DSM_OK) return 1;
  /* The other thread of the process has it, or waits for it. */
  CHECK(status == DSM_BUSY || (how == 0 && status == DSM_AGAIN) || (how == 1 && status == DSM_TIMEOUT));
  return 0;
}

static void *enter_sections(void *argument) {
  unsigned seed = (unsigned)(uintptr_t)argument;
  for (int done = 0; !done;) {
    if (!take(&seed)) continue;
    CHECK(guarded->inside == 0);
    guarded->inside = 1;
    guarded->sections++;
    unsigned length = (unsigned)rand_r(&seed) % 2000;
    if (length == 0) rest(150000);
    if (length < 20) rest(2000);
    CHECK(guarded->inside == 1);
    guarded->inside = 0;
    done = atomic_fetch_add(&entered, 1) >= sections && guarded->arrived == processes;
    CHECK_OK(dsm_unlock(session, "guarded"));
    if (rand_r(&seed) % 8 == 0) rest(rand_r(&seed) % 100);
  }
  return NULL;
}

int main(int argc, char **argv) {
  CHECK(argc == 4);
  processes = strtoull(argv[1], NULL, 10);
  sections = strtoull(argv[2], NULL, 10);
  CHECK_OK(dsm_open(NULL, &session));
  guarded = dsm_address(session);
  unsigned seed = (unsigned)atoi(argv[3]);
  CHECK_OK(dsm_lock(session, "guarded"));
  guarded->arrived++;
  CHECK_OK(dsm_unlock(session, "guarded"));
  pthread_t threads[2];
  for (unsigned i = 0; i < 2; i++)
    CHECK(pthread_create(&threads[i], NULL, enter_sections, (void *)(uintptr_t)(seed * 2 + i)) == 0);
  for (unsigned i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK_OK(dsm_lock(session, "guarded"));
  printf("%llu %llu\n", atomic_load(&entered), (unsigned long long)guarded->sections);
  CHECK_OK(dsm_unlock(session, "guarded"));
  CHECK_OK(dsm_close(session));
  return 0;
}
