/* Two processes pass a ball to and fro through the shared memory: by watching it (busy wait), then by semaphores.
 *
 *   gcc -O2 pingpong.c -o pingpong -ldsm -lpthread -lrt -lxed
 *   dsm run -n 2 -- ./pingpong [busy|semaphore|both] [ROUNDS]
 */
#include <dsm/dsm.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS_MAX 1000000
#define LOOKS 1000 /* looks this often before it lets the machine do something else */

static const char usage[] =
    "usage: dsm run -n N -- ./pingpong [busy|semaphore|both] [ROUNDS]\n"
    "\n"
    "Ranks 0 and 1 pass a ball to and fro ROUNDS times (1 to 1000000, default 1000) and rank 0 prints how long a\n"
    "round took. The ball is a number in the shared memory that each of them increments when it is its turn. N is at\n"
    "least 2; further processes look on.\n";

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "pingpong: %s\n", dsm_last_error());
  exit(1);
}

static double now_us(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

/* Waits until the ball shows `value`. */
static void watch(const int *ball, int value) {
  for (int looks = 1; __atomic_load_n(ball, __ATOMIC_ACQUIRE) != value; looks++) {
    if (looks % LOOKS == 0) sched_yield();
  }
}

static void busy(dsm_session *session, int *ball, int rounds) {
  int rank = dsm_rank(session);
  for (int round = 0; round < rounds; round++) {
    int mine = 2 * round + rank;
    watch(ball, mine);
    __atomic_store_n(ball, mine + 1, __ATOMIC_RELEASE);
  }
  watch(ball, 2 * rounds);
}

static void semaphores(dsm_session *session, int *ball, int rounds) {
  int rank = dsm_rank(session);
  const char *my_turn = rank == 0 ? "pong" : "ping";
  const char *your_turn = rank == 0 ? "ping" : "pong";
  if (rank == 0) check(dsm_sem_post(session, my_turn, 0)); /* rank 0 serves */
  for (int round = 0; round < rounds; round++) {
    check(dsm_sem_wait(session, my_turn, 0));
    *ball += 1;
    check(dsm_sem_post(session, your_turn, 0));
  }
  if (rank == 0) check(dsm_sem_wait(session, my_turn, 0)); /* the last ball comes back */
}

static void play(dsm_session *session, const char *name, void (*game)(dsm_session *, int *, int), int rounds) {
  int rank = dsm_rank(session);
  int *ball = dsm_address(session);
  if (rank == 0) *ball = 0;
  check(dsm_barrier_wait(session));
  double start = now_us();
  if (rank < 2) game(session, ball, rounds);
  double round_us = (now_us() - start) / rounds;
  check(dsm_barrier_wait(session));
  if (rank == 0) {
    printf("%s: the ball was hit %d times in %d rounds, %.1f us a round\n", name, *ball, rounds, round_us);
    fflush(stdout);
  }
}

static int bad_arguments(const char *problem, const char *given) {
  fprintf(stderr, "pingpong: %s, and \"%s\" was given\n%s", problem, given, usage);
  return 2;
}

int main(int argc, char **argv) {
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(usage, stdout);
    return 0;
  }
  if (argc > 3) return bad_arguments("there are two arguments at most", argv[3]);
  const char *which = argc > 1 ? argv[1] : "both";
  int both = strcmp(which, "both") == 0;
  int with_busy = both || strcmp(which, "busy") == 0;
  int with_semaphore = both || strcmp(which, "semaphore") == 0;
  if (!with_busy && !with_semaphore) {
    return bad_arguments("the first argument must be busy, semaphore or both", which);
  }
  const char *text = argc > 2 ? argv[2] : "1000";
  char *end;
  unsigned long rounds = strtoul(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != '\0' || rounds < 1 || rounds > ROUNDS_MAX) {
    return bad_arguments("ROUNDS must be a number from 1 to 1000000", text);
  }

  dsm_session *session;
  check(dsm_open(NULL, &session));
  if (dsm_processes(session) < 2) {
    fprintf(stderr, "pingpong: it takes two to play: dsm run -n 2\n");
    return 2;
  }
  if (with_busy) play(session, "busy", busy, (int)rounds);
  if (with_semaphore) play(session, "semaphore", semaphores, (int)rounds);
  check(dsm_close(session));
  return 0;
}
