/* After, with the locks of pthreads: they lie in the shared memory, and processes on any machines use them as threads do.
 *
 *   gcc -O2 in_map.c -o in_map -ldsm -lpthread && dsm run -n 4 --nodes 2 -- ./in_map
 */
#include <dsm/dsm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define NUMBERS 300

struct shared {
  pthread_mutex_t mutex; /* zeros are PTHREAD_MUTEX_INITIALIZER, */
  pthread_cond_t changed; /* and PTHREAD_COND_INITIALIZER */
  pthread_barrier_t finished;
  pthread_spinlock_t spinlock;
  int number;
  bool full;
  long sum;
  int turns;
};

static struct shared *box; /* at the same address in every process */

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "in_map: %s\n", dsm_last_error());
  exit(1);
}

static void put(int number) {
  pthread_mutex_lock(&box->mutex);
  while (box->full) pthread_cond_wait(&box->changed, &box->mutex);
  box->number = number;
  box->full = true;
  pthread_cond_broadcast(&box->changed);
  pthread_mutex_unlock(&box->mutex);
}

static int take(void) {
  pthread_mutex_lock(&box->mutex);
  while (!box->full) pthread_cond_wait(&box->changed, &box->mutex);
  int number = box->number;
  box->sum += number;
  box->full = false;
  pthread_cond_broadcast(&box->changed);
  pthread_mutex_unlock(&box->mutex);
  return number;
}

int main(void) {
  dsm_session *session;
  check(dsm_open(NULL, &session));
  check(dsm_named(session, "box", sizeof *box, (void **)&box)); /* all zeros at first */
  int rank = dsm_rank(session), processes = dsm_processes(session);
  if (rank == 0) {
    pthread_barrier_init(&box->finished, NULL, (unsigned)processes);
    pthread_spin_init(&box->spinlock, PTHREAD_PROCESS_SHARED);
  }
  check(dsm_barrier_wait(session));

  if (rank == 0) {
    for (int number = 1; number <= NUMBERS; number++) put(number);
    for (int i = 1; i < processes; i++) put(0); /* no more */
  } else {
    while (take() != 0) continue;
  }
  pthread_spin_lock(&box->spinlock); /* it works by atomic operations, which are the processor's */
  box->turns += 1;
  pthread_spin_unlock(&box->spinlock);
  pthread_barrier_wait(&box->finished);
  if (rank == 0) printf("the sum is %ld, of %d processes\n", box->sum, box->turns);
  check(dsm_close(session));
  return 0;
}
