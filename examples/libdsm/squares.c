/* The same in the session interface: no fork, and a failing call says so instead of ending the program. */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>

#define NUMBERS 10000

struct shared {
  long sum;
  long table[NUMBERS];
};

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "squares: %s\n", dsm_last_error());
  exit(1);
}

int main(void) {
  dsm_config config;
  check(dsm_config_init(&config)); /* what `dsm run` has set */
  config.size = sizeof(struct shared);
  dsm_session *session;
  check(dsm_open(&config, &session));
  struct shared *shared = dsm_address(session);
  int rank = dsm_rank(session), processes = dsm_processes(session);
  int first = NUMBERS * rank / processes, end = NUMBERS * (rank + 1) / processes;

  int hole;
  check(dsm_hole_dig(session, &shared->table[first], (size_t)(end - first) * sizeof(long), &hole));
  long sum = 0;
  for (int i = first; i < end; i++) {
    shared->table[i] = (long)i * i;
    sum += shared->table[i];
  }
  check(dsm_hole_fill(session, hole));

  check(dsm_sem_wait(session, "sum", 1));
  shared->sum += sum;
  check(dsm_sem_post(session, "sum", 1));
  check(dsm_barrier_wait(session));

  if (rank == 0) printf("the sum is %ld, the last square %ld\n", shared->sum, shared->table[NUMBERS - 1]);
  check(dsm_barrier_wait(session)); /* dsm_exit() begins with one */
  check(dsm_close(session));
  return 0;
}
