/* Pi in the interface of libdsm (2018): the program forks its own processes, and a semaphore guards the sum.
 *
 *   gcc -O2 pi_classic.c -o pi_classic -ldsm -lpthread -lrt -lxed
 *   ./pi_classic 4
 *
 * or as two nodes of one host, in two terminals:
 *
 *   DSM_NODE=a ./pi_classic 1 2
 *   DSM_NODE=b ./pi_classic 1 2
 */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRIPS_MAX 1000000000ul

static const char usage[] =
    "usage: pi_classic LOCAL [TOTAL [STRIPS]]\n"
    "\n"
    "LOCAL processes are started here; the session has TOTAL (default: LOCAL), the others joining from elsewhere.\n"
    "Computes pi from STRIPS strips (1 to 1000000000, default 10000000), divided among the processes.\n";

/* Reads a number from 1 to max, or exits with a message. */
static unsigned long number(const char *name, const char *text, unsigned long max) {
  char *end;
  unsigned long value = strtoul(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != '\0' || value < 1 || value > max) {
    fprintf(stderr, "pi_classic: %s must be a number from 1 to %lu, and \"%s\" was given\n", name, max, text);
    exit(2);
  }
  return value;
}

int main(int argc, char **argv) {
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(usage, stdout);
    return 0;
  }
  if (argc < 2 || argc > 4) {
    fputs(usage, stderr);
    return 2;
  }
  unsigned long local = number("LOCAL", argv[1], DSM_PROCESSES_MAX);
  unsigned long total = argc > 2 ? number("TOTAL", argv[2], DSM_PROCESSES_MAX) : local;
  unsigned long strips = argc > 3 ? number("STRIPS", argv[3], STRIPS_MAX) : 10000000;
  if (local > total) {
    fprintf(stderr, "pi_classic: LOCAL is %lu, more than TOTAL, %lu\n", local, total);
    return 2;
  }

  double *pi = dsm_init("pi", (unsigned int)local, (unsigned int)total, sizeof(double));

  double sum = 0;
  for (unsigned long strip = (unsigned long)dsm_get_gid(); strip < strips; strip += total) {
    double x = ((double)strip + 0.5) / (double)strips;
    sum += 4 / (1 + x * x);
  }
  dsm_wait_sem("sum"); /* a named semaphore starts at 1 */
  *pi += sum / (double)strips;
  dsm_post_sem("sum");
  dsm_barrier();

  if (dsm_get_gid() == 0) {
    printf("pi is about %.12f (%lu strips, %lu processes)\n", *pi, strips, total);
    fflush(stdout); /* in a forked process nothing else may write it out */
  }
  dsm_exit(); /* only the process that was started returns; the forked ones end here */
  return 0;
}
