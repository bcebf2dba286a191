/* Written against the interface of libdsm (2018) alone: classic LPROC TPROC [SESSIONS]. */
#include <dsm/dsm.h>
#include <dsm/dsm_util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 25

struct shared {
  volatile int turns;       /* guarded by the semaphore "turn", which starts at 1 */
  volatile int present[64]; /* by rank */
  volatile int sum;         /* of all ranks, by rank 0 */
  volatile char text[64];
  volatile unsigned char block[3 * 4096];
};

static void session(const char *name, unsigned lproc, unsigned tproc) {
  dsm_cfg cfg = {
      .lproc = lproc,
      .tproc = tproc,
      .sid_name = name,
      .d_addr = NULL,
      .d_port = NULL,
      .map_size = sizeof(struct shared),
  };
  struct shared *shared = tproc % 2 == 0 ? dsm_init(name, lproc, tproc, sizeof(struct shared)) : dsm_init2(&cfg);
  int gid = dsm_get_gid();
  ASSERT_COND(gid >= 0 && gid < (int)tproc);

  shared->present[gid] = gid + 1;
  dsm_barrier();
  for (int i = 0; i < (int)tproc; i++) ASSERT_COND(shared->present[i] == i + 1);

  for (int i = 0; i < ROUNDS; i++) {
    dsm_wait_sem("turn");
    shared->turns = shared->turns + 1;
    dsm_post_sem("turn");
  }
  dsm_barrier();
  ASSERT_STATE(shared->turns == ROUNDS * (int)tproc);

  /* Each process writes its part of the block in a hole; the parts meet in the middle of pages. */
  size_t part = sizeof(shared->block) / tproc;
  unsigned char *mine = (unsigned char *)shared->block + part * (size_t)gid;
  int hole = dsm_dig_hole(mine, part);
  ASSERT_COND(hole > 0);
  ASSERT_COND(dsm_dig_hole(mine, part) == -1);
  ASSERT_COND(dsm_dig_hole(mine, 0) == -1);
  memset(mine, gid + 1, part);
  dsm_barrier();
  for (int i = 0; i < (int)tproc; i++) ASSERT_COND(i == gid || shared->block[part * (size_t)i] == 0);
  dsm_barrier();
  dsm_fill_hole(hole);
  dsm_barrier();
  for (size_t i = 0; i < part * tproc; i++) ASSERT_COND(shared->block[i] == i / part + 1);

  if (gid == 0) {
    int sum = 0;
    for (int i = 0; i < (int)tproc; i++) sum += shared->present[i];
    shared->sum = sum;
    strcpy((char *)shared->text, "written by rank 0");
  }
  dsm_barrier();
  ASSERT_COND(shared->sum == (int)(tproc * (tproc + 1) / 2));
  ASSERT_COND(strcmp((const char *)shared->text, "written by rank 0") == 0);
  printf("rank %d\n", gid);
  fflush(stdout);
  dsm_exit();
  /* Only the process that called dsm_init comes here. */
  printf("back\n");
  fflush(stdout);
}

int main(int argc, char *argv[]) {
  if (argc < 3) dsm_cpanic("classic", "give LPROC and TPROC");
  unsigned lproc = (unsigned)atoi(argv[1]), tproc = (unsigned)atoi(argv[2]);
  int sessions = argc > 3 ? atoi(argv[3]) : 1;
  double start = dsm_getWallTime();
  int *zeros = dsm_zalloc(100 * sizeof(int));
  for (int i = 0; i < 100; i++) ASSERT_COND(zeros[i] == 0);
  free(zeros);
  ASSERT_COND(DSM_PAGESIZE == 4096 && MAX(1, 2) == 2 && MIN(1, 2) == 1);
  const char *name = getenv("CLASSIC_SESSION");
  for (int i = 0; i < sessions; i++) session(name != NULL ? name : "classic", lproc, tproc);
  ASSERT_COND(dsm_getWallTime() >= start);
  return 0;
}
