/* What the programs that time a session share. */
#ifndef BENCH_SESSION_H
#define BENCH_SESSION_H

#include <dsm/dsm.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../src/base/clock.h"

/* Says what failed, and ends the program. */
static inline void check(int status) {
  if (status == DSM_OK)
    return;
  fprintf(stderr, "%s: %s\n", program_invocation_short_name, dsm_last_error());
  exit(1);
}

#endif
