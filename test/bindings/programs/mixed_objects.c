/* Objects in the map as processes of several languages use them together: see objects.test.ts. Arguments: "work" and a number
 * of rounds, or "death". Prints "ok". */
#include <dsm/dsm.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct shared {
  dsm_mutex mutex;
  dsm_cond changed;
  dsm_rwlock table;
  dsm_semaphore one;
  struct dsm_barrier step;
  int64_t total, turn, left, right, taken, lasts, deaths;
};

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "%s: %s\n", dsm_status_name(status), dsm_last_error());
  exit(1);
}

static void expect(const char *what, int64_t is, int64_t expected) {
  if (is == expected) return;
  fprintf(stderr, "%s is %lld, not %lld\n", what, (long long)is, (long long)expected);
  exit(1);
}

static void work(dsm_session *session, struct shared *shared, int rounds) {
  int rank = dsm_rank(session), processes = dsm_processes(session);
  if (rank == 0) {
    check(dsm_semaphore_init(&shared->one, 1));
    check(dsm_barrier_init(&shared->step, (uint32_t)processes));
  }
  check(dsm_barrier_wait(session));
  for (int i = 0; i < rounds; i++) {
    check(dsm_mutex_lock(&shared->mutex));
    shared->total++;
    check(dsm_mutex_unlock(&shared->mutex));

    check(dsm_mutex_lock(&shared->mutex));
    while (shared->turn % processes != rank) check(dsm_cond_wait(&shared->changed, &shared->mutex));
    shared->turn++;
    check(dsm_cond_broadcast(&shared->changed));
    check(dsm_mutex_unlock(&shared->mutex));

    check(dsm_rwlock_wrlock(&shared->table));
    shared->left++;
    shared->right++;
    check(dsm_rwlock_unlock(&shared->table));
    check(dsm_rwlock_rdlock(&shared->table));
    expect("right", shared->right, shared->left);
    check(dsm_rwlock_unlock(&shared->table));

    check(dsm_semaphore_wait(&shared->one));
    shared->taken++;
    check(dsm_semaphore_post(&shared->one));

    int is_last = 0;
    check(dsm_barrier_arrive_and_wait(&shared->step, &is_last));
    if (is_last) {
      check(dsm_mutex_lock(&shared->mutex));
      shared->lasts++;
      check(dsm_mutex_unlock(&shared->mutex));
    }
  }
  check(dsm_barrier_wait(session));
  int64_t all = (int64_t)rounds * processes;
  expect("total", shared->total, all);
  expect("turn", shared->turn, all);
  expect("left", shared->left, all);
  expect("taken", shared->taken, all);
  expect("lasts", shared->lasts, rounds);
}

/* Locks, and counts a death that it hears of. */
static void count_death(struct shared *shared, int status) {
  if (status == DSM_OWNER_DIED) shared->deaths++;
  else check(status);
}

static void death(dsm_session *session, struct shared *shared) {
  if (dsm_rank(session) == 0) {
    check(dsm_mutex_lock(&shared->mutex));
    check(dsm_rwlock_wrlock(&shared->table));
  }
  check(dsm_barrier_wait(session));
  if (dsm_rank(session) == 0) raise(SIGKILL);
  count_death(shared, dsm_mutex_lock(&shared->mutex));
  count_death(shared, dsm_rwlock_wrlock(&shared->table));
  check(dsm_rwlock_unlock(&shared->table));
  check(dsm_mutex_unlock(&shared->mutex));
  check(dsm_barrier_wait(session));
  expect("deaths", shared->deaths, 2);
}

int main(int count, char **arguments) {
  dsm_session *session;
  void *block;
  check(dsm_open(NULL, &session));
  check(dsm_named(session, "objects", sizeof(struct shared), &block));
  if (count > 1 && strcmp(arguments[1], "death") == 0) death(session, block);
  else work(session, block, atoi(arguments[2]));
  check(dsm_close(session));
  puts("ok");
}
