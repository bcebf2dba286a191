/* A session's settings. */
#ifndef DSM_CONFIG_H
#define DSM_CONFIG_H

#include <dsm/dsm.h>

#pragma GCC visibility push(hidden)

/* Completes the settings with defaults, and checks all of them. `node`: memory for the host's name. Returns a status
 * and keeps its reason. */
int config_complete(dsm_config *config, char node[DSM_NAME_MAX + 1]);

#pragma GCC visibility pop

#endif
