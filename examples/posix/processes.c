/* After: numbers handed over from one process to three others, on any machines.
 *
 *   gcc -O2 processes.c -o processes -ldsm && dsm run -n 4 --nodes 2 -- ./processes
 */
#include <dsm/dsm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define NUMBERS 300

struct box {
  int number;
  bool full;
  long sum;
  uint32_t changes; /* what those who wait look at */
};

static dsm_session *session;
static struct box *box; /* in the shared memory, at the same address in every process */

static void check(int status) {
  if (status == DSM_OK || status == DSM_AGAIN) return;
  fprintf(stderr, "processes: %s\n", dsm_last_error());
  exit(1);
}

/* pthread_cond_wait(): to be called with the lock, and while what is waited for is not so. */
static void wait_for_change(void) {
  uint32_t seen = box->changes;
  check(dsm_unlock(session, "box"));
  check(dsm_wait_while(session, &box->changes, sizeof seen, seen, -1)); /* DSM_AGAIN: it has changed already */
  check(dsm_lock(session, "box"));
}

/* pthread_cond_broadcast(): to be called with the lock. */
static void say_changed(void) {
  box->changes += 1;
  check(dsm_wake(session, &box->changes, UINT32_MAX, NULL));
}

static void put(int number) {
  check(dsm_lock(session, "box"));
  while (box->full) wait_for_change();
  box->number = number;
  box->full = true;
  say_changed();
  check(dsm_unlock(session, "box"));
}

static int take(void) {
  check(dsm_lock(session, "box"));
  while (!box->full) wait_for_change();
  int number = box->number;
  box->sum += number;
  box->full = false;
  say_changed();
  check(dsm_unlock(session, "box"));
  return number;
}

int main(void) {
  check(dsm_open(NULL, &session));
  check(dsm_named(session, "box", sizeof *box, (void **)&box)); /* all zeros at first */

  if (dsm_rank(session) == 0) {
    for (int number = 1; number <= NUMBERS; number++) put(number);
    for (int i = 1; i < dsm_processes(session); i++) put(0); /* no more */
  } else {
    while (take() != 0) continue;
  }
  check(dsm_barrier_wait(session));
  if (dsm_rank(session) == 0) printf("the sum is %ld\n", box->sum);
  check(dsm_close(session));
  return 0;
}
