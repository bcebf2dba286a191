/* The smallest whole dsm program: every process writes its own slot, one of them reads them all.
 *
 *   gcc template.c -o template -ldsm -lpthread -lrt -lxed
 *   dsm run -n 4 -- ./template
 */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: dsm run -n N -- ./template\n"
    "\n"
    "Every process writes the square of its rank to the shared memory; rank 0 prints all of them.\n";

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "template: %s\n", dsm_last_error());
  exit(1);
}

int main(int argc, char **argv) {
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(usage, stdout);
    return 0;
  }
  if (argc > 1) {
    fprintf(stderr, "template: it takes no arguments, and \"%s\" was given\n%s", argv[1], usage);
    return 2;
  }

  /* Which session, how many processes and how much memory: from the environment that `dsm run` sets. */
  dsm_session *session;
  check(dsm_open(NULL, &session));
  int rank = dsm_rank(session);
  int *squares = dsm_address(session);

  squares[rank] = rank * rank; /* a plain store: every process sees it */
  check(dsm_barrier_wait(session));

  if (rank == 0) {
    printf("squares of %d processes:", dsm_processes(session));
    for (int i = 0; i < dsm_processes(session); i++) printf(" %d", squares[i]);
    printf("\n");
  }
  check(dsm_close(session));
  return 0;
}
