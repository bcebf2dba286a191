/* The template in the interface of libdsm (2018): the program forks its own processes.
 *
 *   gcc template_classic.c -o template_classic -ldsm -lpthread -lrt -lxed
 *   ./template_classic 4
 */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: template_classic LOCAL [TOTAL]\n"
    "\n"
    "LOCAL processes are started here; the session has TOTAL (default: LOCAL), the others joining from elsewhere.\n"
    "Every process writes the square of its rank to the shared memory; rank 0 prints all of them.\n";

/* Reads a number of processes, or exits with a message. */
static unsigned int processes(const char *name, const char *text) {
  char *end;
  unsigned long value = strtoul(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != '\0' || value < 1 || value > DSM_PROCESSES_MAX) {
    fprintf(stderr, "template_classic: %s must be a number from 1 to %d, and \"%s\" was given\n", name,
            DSM_PROCESSES_MAX, text);
    exit(2);
  }
  return (unsigned int)value;
}

int main(int argc, char **argv) {
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(usage, stdout);
    return 0;
  }
  if (argc < 2 || argc > 3) {
    fputs(usage, stderr);
    return 2;
  }
  unsigned int local = processes("LOCAL", argv[1]);
  unsigned int total = argc > 2 ? processes("TOTAL", argv[2]) : local;
  if (local > total) {
    fprintf(stderr, "template_classic: LOCAL is %u, more than TOTAL, %u\n", local, total);
    return 2;
  }

  int *squares = dsm_init("template", local, total, total * sizeof(int));
  int rank = dsm_get_gid();

  squares[rank] = rank * rank;
  dsm_barrier();

  if (rank == 0) {
    printf("squares of %u processes:", total);
    for (unsigned int i = 0; i < total; i++) printf(" %d", squares[i]);
    printf("\n");
    fflush(stdout); /* in a forked process nothing else may write it out */
  }
  dsm_exit(); /* only the process that was started returns; the forked ones end here */
  return 0;
}
