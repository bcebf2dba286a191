/* Finds the arbiter of a session on this node, and starts it if there is none. */
#ifndef DSM_FIND_ARBITER_H
#define DSM_FIND_ARBITER_H

#include <dsm/dsm.h>

struct arbiter_place {
  char socket[108];
  char lock[108];
};

#pragma GCC visibility push(hidden)

/* Computes where the arbiter of this session, node and daemon listens. Returns a status. */
int arbiter_locate(const dsm_config *config, struct arbiter_place *place);

/* Connects to the arbiter, and starts it if it is not running. Many processes may call this at once: one of them starts
 * it. Returns a status; on DSM_OK *fd is the connection, after DSM_ENDED the caller retries. */
int arbiter_connect(const dsm_config *config, const struct arbiter_place *place, int *fd);

#pragma GCC visibility pop

#endif
