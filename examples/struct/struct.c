/* Pi by darts, thrown by processes in TypeScript and in C that share one struct.
 *
 *   dsm header state.ts --out state.h
 *   gcc -O2 struct.c -o struct -ldsm -lm && dsm run -n 4 -- ./struct [DARTS] */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

#define WORKERS_MAX ((int)(sizeof(((state *)0)->workers) / sizeof(worker)))

static const char usage[] =
    "usage: dsm run -n N -- struct [DARTS]\n"
    "\n"
    "Every process throws DARTS darts (1 to 1000000000, default 1000000) at a square with a circle in it.\n";

static void check(int status, const char *what) {
  if (status == DSM_OK) return;
  fprintf(stderr, "struct: %s: %s\n", what,
          status == DSM_MISMATCH ? "others have defined it with other fields" : dsm_last_error());
  exit(1);
}

static uint64_t random_state;

static double random_number(void) { /* xorshift64*; Vigna, 2016 */
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (double)(random_state * 2685821657736338717ull >> 11) / (double)(1ull << 53);
}

int main(int argc, char **argv) {
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(usage, stdout);
    return 0;
  }
  char *end = "";
  long darts = argc > 1 ? strtol(argv[1], &end, 10) : 1000000;
  if (argc > 2 || *end != '\0' || darts < 1 || darts > 1000000000) {
    fprintf(stderr, "struct: one argument, a number of darts from 1 to 1000000000\n%s", usage);
    return 2;
  }

  dsm_session *session;
  check(dsm_open(NULL, &session), "joining");
  int rank = dsm_rank(session), processes = dsm_processes(session);
  if (processes > WORKERS_MAX) {
    fprintf(stderr, "struct: %d processes; there is room for %d\n", processes, WORKERS_MAX);
    return 2;
  }
  state *shared;
  check(state_named(session, "darts", &shared), "the struct");

  random_state = 88172645463325252ull * (uint64_t)(rank + 1);
  long hits = 0;
  for (long i = 0; i < darts; i++) {
    double x = random_number(), y = random_number();
    if (x * x + y * y < 1) hits++;
  }
  __atomic_fetch_add(&shared->darts, darts, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&shared->hits, hits, __ATOMIC_SEQ_CST);

  check(dsm_lock(session, state_lock("darts")), "the lock");
  worker *me = &shared->workers[rank];
  me->rank = rank;
  strcpy(me->language, "C");
  me->darts = darts;
  double pi = 4.0 * (double)hits / (double)darts;
  if (shared->best.by[0] == '\0' || fabs(pi - M_PI) < fabs(shared->best.pi - M_PI)) {
    shared->best.pi = pi;
    snprintf(shared->best.by, sizeof(shared->best.by), "rank %d", rank);
  }
  check(dsm_unlock(session, state_lock("darts")), "the lock");
  __atomic_fetch_add(&shared->done, 1, __ATOMIC_SEQ_CST);
  check(dsm_wake(session, &shared->done, UINT32_MAX, NULL), "waking");

  if (rank == 0) {
    for (uint32_t done; (done = __atomic_load_n(&shared->done, __ATOMIC_SEQ_CST)) < (uint32_t)processes;) {
      int status = dsm_wait_while(session, &shared->done, sizeof(done), done, -1);
      if (status != DSM_AGAIN) check(status, "waiting");
    }
    for (int i = 0; i < processes; i++) {
      const worker *one = &shared->workers[i];
      printf("rank %d, in %s: %lld darts\n", one->rank, one->language, (long long)one->darts);
    }
    printf("pi is about %.6f; alone, %s came closest: %.6f\n", 4.0 * (double)shared->hits / (double)shared->darts,
           shared->best.by, shared->best.pi);
  }
  check(dsm_barrier_wait(session), "the barrier");
  check(dsm_close(session), "leaving");
  return 0;
}
