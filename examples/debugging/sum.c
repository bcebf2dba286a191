/* Adds up numbers that each process has in memory of its own. `sum overflow` reads one too many. */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT 1000

static long add_up(const long *numbers, int count) {
  long sum = 0;
  for (int i = 0; i < count; i++)
    sum += numbers[i];
  return sum;
}

int main(int argc, char **argv) {
  dsm_session *session;
  if (dsm_open(NULL, &session) != DSM_OK) {
    fprintf(stderr, "sum: %s\n", dsm_last_error());
    return 1;
  }
  long *total = dsm_address(session);
  long *numbers = malloc(COUNT * sizeof *numbers);
  for (long i = 0; i < COUNT; i++)
    numbers[i] = dsm_rank(session) + i;
  int count = argc > 1 && strcmp(argv[1], "overflow") == 0 ? COUNT + 1 : COUNT;
  __atomic_fetch_add(total, add_up(numbers, count), __ATOMIC_SEQ_CST);
  free(numbers);
  dsm_barrier_wait(session);
  if (dsm_rank(session) == 0)
    printf("%ld\n", *total);
  return dsm_close(session);
}
