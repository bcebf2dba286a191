/* Two counters, one for each process. */
#include <dsm/dsm.h>
#include <stdio.h>

int main(void) {
  dsm_session *session;
  if (dsm_open(NULL, &session) != DSM_OK) {
    fprintf(stderr, "own: %s\n", dsm_last_error());
    return 1;
  }
  int *counters = dsm_address(session);

  for (int i = 0; i < 1000; i++) counters[dsm_rank(session)] += 1; /* no other process writes this one */
  if (dsm_barrier_wait(session) != DSM_OK) { /* all processes have counted */
    fprintf(stderr, "own: %s\n", dsm_last_error());
    return 1;
  }
  if (dsm_rank(session) == 0) printf("the counters: %d %d\n", counters[0], counters[1]);
  return dsm_close(session) == DSM_OK ? 0 : 1;
}
