/* Every process writes the name of its machine to the shared memory; rank 0 prints all of them. */
#define _GNU_SOURCE
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef char machine_name[64];

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "where: %s\n", dsm_last_error());
  exit(1);
}

int main(void) {
  dsm_session *session;
  check(dsm_open(NULL, &session));
  machine_name *names = dsm_address(session), own = "";
  gethostname(own, sizeof own - 1);
  snprintf(names[dsm_rank(session)], sizeof own, "%s", own);
  check(dsm_barrier_wait(session));
  if (dsm_rank(session) == 0) {
    for (int rank = 0; rank < dsm_processes(session); rank++) printf("process %d is on %s\n", rank, names[rank]);
  }
  check(dsm_close(session));
  return 0;
}
