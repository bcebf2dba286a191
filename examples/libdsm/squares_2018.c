/* A program for libdsm as it was in 2018: every process squares its part of a table, and adds up what it wrote. */
#include <dsm/dsm.h>
#include <dsm/dsm_util.h>
#include <stdio.h>
#include <stdlib.h>

#define NUMBERS 10000

struct shared {
  long sum;
  long table[NUMBERS];
};

int main(int argc, char *argv[]) {
  if (argc != 3) dsm_panicf("usage: %s LOCAL TOTAL", argv[0]);
  dsm_cfg cfg = {
      .lproc = (unsigned int)atoi(argv[1]),
      .tproc = (unsigned int)atoi(argv[2]),
      .sid_name = "squares",
      .map_size = sizeof(struct shared),
  };
  struct shared *shared = dsm_init2(&cfg); /* forks; each process comes back with the map */
  int gid = dsm_get_gid(), total = (int)cfg.tproc;
  int first = NUMBERS * gid / total, end = NUMBERS * (gid + 1) / total;

  int hole = dsm_dig_hole(&shared->table[first], (size_t)(end - first) * sizeof(long));
  ASSERT_COND(hole > 0);
  long sum = 0;
  for (int i = first; i < end; i++) {
    shared->table[i] = (long)i * i;
    sum += shared->table[i];
  }
  dsm_fill_hole(hole);

  dsm_wait_sem("sum");
  shared->sum += sum;
  dsm_post_sem("sum");
  dsm_barrier();

  if (gid == 0) {
    printf("the sum is %ld, the last square %ld\n", shared->sum, shared->table[NUMBERS - 1]);
    fflush(stdout); /* in a forked process nothing else may write it out */
  }
  dsm_exit(); /* only the first process comes back */
  return 0;
}
