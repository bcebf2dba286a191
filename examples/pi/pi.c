/* Pi as the area under 4 / (1 + x * x) from 0 to 1, cut into strips that the processes share among them.
 *
 *   gcc -O2 pi.c -o pi -ldsm -lpthread -lrt -lxed
 *   dsm run -n 4 -- ./pi [STRIPS]
 */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRIPS_MAX 1000000000ul

static const char usage[] =
    "usage: dsm run -n N -- ./pi [STRIPS]\n"
    "\n"
    "Computes pi from STRIPS strips (1 to 1000000000, default 10000000), divided among the processes.\n";

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "pi: %s\n", dsm_last_error());
  exit(1);
}

int main(int argc, char **argv) {
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(usage, stdout);
    return 0;
  }
  if (argc > 2) {
    fprintf(stderr, "pi: one argument at most, and %d were given\n%s", argc - 1, usage);
    return 2;
  }
  const char *text = argc > 1 ? argv[1] : "10000000";
  char *end;
  unsigned long strips = strtoul(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != '\0' || strips < 1 || strips > STRIPS_MAX) {
    fprintf(stderr, "pi: STRIPS must be a number from 1 to %lu, and \"%s\" was given\n%s", STRIPS_MAX, text, usage);
    return 2;
  }

  dsm_session *session;
  check(dsm_open(NULL, &session));
  int rank = dsm_rank(session);
  int processes = dsm_processes(session);
  double *parts = dsm_address(session);

  /* The sum grows in a local variable: a store to the shared memory is for what others are to see. */
  double sum = 0;
  for (unsigned long strip = (unsigned long)rank; strip < strips; strip += (unsigned long)processes) {
    double x = ((double)strip + 0.5) / (double)strips;
    sum += 4 / (1 + x * x);
  }
  parts[rank] = sum / (double)strips;
  check(dsm_barrier_wait(session));

  if (rank == 0) {
    double pi = 0;
    for (int i = 0; i < processes; i++) pi += parts[i];
    printf("pi is about %.12f (%lu strips, %d processes)\n", pi, strips, processes);
  }
  check(dsm_close(session));
  return 0;
}
