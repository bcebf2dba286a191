/* What the self-checking programs share: a failed check says where and ends the process. */
#ifndef CHECK_H
#define CHECK_H

#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) {                                                           \
      fprintf(stderr, "%s:%d: this must hold: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                    \
    }                                                                             \
  } while (0)

#define CHECK_OK(call)                                                                                     \
  do {                                                                                                     \
    int status_ = (call);                                                                                  \
    if (status_ != DSM_OK) {                                                                               \
      fprintf(stderr, "%s:%d: %s: %s %s\n", __FILE__, __LINE__, #call, dsm_status_name(status_), dsm_last_error()); \
      exit(1);                                                                                             \
    }                                                                                                      \
  } while (0)

#endif
