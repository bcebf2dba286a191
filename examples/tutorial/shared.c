/* One counter for all processes, counted in three ways: dsm run -n 2 -- ./shared plain|atomic|lock */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "shared: %s\n", dsm_last_error());
  exit(1);
}

int main(int argc, char **argv) {
  const char *way = argc > 1 ? argv[1] : "plain";
  dsm_session *session;
  check(dsm_open(NULL, &session));
  int *counter = dsm_address(session);

  check(dsm_barrier_wait(session)); /* begin together */
  for (int i = 0; i < 1000; i++) {
    if (strcmp(way, "plain") == 0) *(volatile int *)counter += 1; /* a load and a store: another process may come between */
    if (strcmp(way, "atomic") == 0) __atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST); /* one step of the order */
    if (strcmp(way, "lock") == 0) {
      check(dsm_lock(session, "counter"));
      *counter += 1; /* no other process comes between */
      check(dsm_unlock(session, "counter"));
    }
  }
  check(dsm_barrier_wait(session));

  if (dsm_rank(session) == 0) printf("%s: %d of %d\n", way, *counter, 1000 * dsm_processes(session));
  check(dsm_close(session));
  return 0;
}
