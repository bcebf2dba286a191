/* After: four processes of one machine or many add to a sum in the shared memory, guarded by a named semaphore.
 *
 *   gcc -O2 shm_dsm.c -o shm_dsm -ldsm && dsm run -n 4 --nodes 2 -- ./shm_dsm
 */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "shm_dsm: %s\n", dsm_last_error());
  exit(1);
}

int main(void) {
  dsm_session *session; /* shm_open(), ftruncate(), mmap(), fork(): `dsm run` and this */
  check(dsm_open(NULL, &session));
  double *sum = dsm_address(session);

  check(dsm_sem_wait(session, "turn", 1)); /* sem_open() with 1, and sem_wait() */
  *sum += dsm_rank(session) + 1;
  check(dsm_sem_post(session, "turn", 1));

  check(dsm_barrier_wait(session)); /* wait() */
  if (dsm_rank(session) == 0) printf("the sum is %g\n", *sum);
  check(dsm_close(session)); /* nothing to unlink: it ends with its last process */
  return 0;
}
