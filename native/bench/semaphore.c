/* What it costs two processes of one node to pass a ball by semaphores: semaphore COUNT SLICES. Joins the session in the
 * environment, which must be in direct mode and have two processes. They pass it COUNT times there and back, SLICES times, in
 * turns by two sem_t that they share and by two semaphores of the session; rank 0 prints the nanoseconds of both, one slice a
 * line. */
#include <semaphore.h>

#include "session.h"

static const char *const names[] = {"ping", "pong"};
static dsm_session *session;
static int rank;

static void pass_plain(sem_t *plain, long count) {
  for (long i = 0; i < count; i++) {
    if (rank == 0)
      sem_post(&plain[0]);
    while (sem_wait(&plain[rank == 0 ? 1 : 0]) != 0)
      continue;
    if (rank == 1)
      sem_post(&plain[1]);
  }
}

static void pass(sem_t *plain, long count) {
  (void)plain;
  for (long i = 0; i < count; i++) {
    if (rank == 0)
      check(dsm_sem_post(session, names[0], 0));
    check(dsm_sem_wait(session, names[rank == 0 ? 1 : 0], 0));
    if (rank == 1)
      check(dsm_sem_post(session, names[1], 0));
  }
}

static long long time_of(void (*run)(sem_t *, long), sem_t *plain, long count) {
  long long start = now_ns();
  run(plain, count);
  return now_ns() - start;
}

int main(int argc, char **argv) {
  if (argc != 3 || atol(argv[1]) < 1 || atol(argv[2]) < 1) {
    fprintf(stderr, "usage: semaphore COUNT SLICES\n");
    return 2;
  }
  long count = atol(argv[1]), slices = atol(argv[2]);
  check(dsm_open(NULL, &session));
  rank = dsm_rank(session);
  if (!dsm_is_direct(session) || dsm_processes(session) != 2) {
    fprintf(stderr, "semaphore: the session is not in direct mode, or has not two processes\n");
    return 1;
  }
  sem_t *plain = dsm_address(session);
  if (rank == 0) {
    sem_init(&plain[0], 1, 0);
    sem_init(&plain[1], 1, 0);
  }
  check(dsm_barrier_wait(session));
  pass(plain, 10);
  for (long i = 0; i < slices; i++) {
    /* Who comes first takes turns too. */
    long long first = time_of(i % 2 == 0 ? pass_plain : pass, plain, count);
    long long second = time_of(i % 2 == 0 ? pass : pass_plain, plain, count);
    if (rank == 0)
      printf("%lld %lld\n", i % 2 == 0 ? first : second, i % 2 == 0 ? second : first);
  }
  check(dsm_barrier_wait(session));
  check(dsm_close(session));
  return 0;
}
