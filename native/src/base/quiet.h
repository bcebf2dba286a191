/* Whether the user wants no notes and no advice on stderr. */
#ifndef DSM_BASE_QUIET_H
#define DSM_BASE_QUIET_H

#include <stdlib.h>
#include <string.h>

#include "base/settings.h"

/* Empty and 0 are "no", as for every other flag. */
static inline int is_quiet(void) {
  const char *quiet = getenv(SETTING_QUIET);
  return quiet != NULL && quiet[0] != 0 && strcmp(quiet, "0") != 0;
}

#endif
