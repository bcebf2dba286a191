/* What a barrier costs the processes of one node: barrier COUNT SLICES. Joins the session in the environment, which must be in
 * direct mode. All processes pass COUNT barriers SLICES times, in turns a pthread_barrier that they share and the session's;
 * rank 0 prints the nanoseconds of both, one slice a line. */
#include <pthread.h>

#include "session.h"

static dsm_session *session;

static void pass_plain(pthread_barrier_t *barrier, long count) {
  for (long i = 0; i < count; i++)
    pthread_barrier_wait(barrier);
}

static void pass(pthread_barrier_t *barrier, long count) {
  (void)barrier;
  for (long i = 0; i < count; i++)
    check(dsm_barrier_wait(session));
}

static long long time_of(void (*run)(pthread_barrier_t *, long), pthread_barrier_t *barrier, long count) {
  long long start = now_ns();
  run(barrier, count);
  return now_ns() - start;
}

int main(int argc, char **argv) {
  if (argc != 3 || atol(argv[1]) < 1 || atol(argv[2]) < 1) {
    fprintf(stderr, "usage: barrier COUNT SLICES\n");
    return 2;
  }
  long count = atol(argv[1]), slices = atol(argv[2]);
  check(dsm_open(NULL, &session));
  if (!dsm_is_direct(session)) {
    fprintf(stderr, "barrier: the session is not in direct mode\n");
    return 1;
  }
  pthread_barrier_t *plain = dsm_address(session);
  if (dsm_rank(session) == 0) {
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(plain, &attributes, (unsigned)dsm_processes(session));
  }
  for (int i = 0; i < 3; i++)
    check(dsm_barrier_wait(session));
  for (long i = 0; i < slices; i++) {
    /* Who comes first takes turns too. */
    long long first = time_of(i % 2 == 0 ? pass_plain : pass, plain, count);
    long long second = time_of(i % 2 == 0 ? pass : pass_plain, plain, count);
    if (dsm_rank(session) == 0)
      printf("%lld %lld\n", i % 2 == 0 ? first : second, i % 2 == 0 ? second : first);
  }
  check(dsm_close(session));
  return 0;
}
