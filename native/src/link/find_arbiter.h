/* Finding the arbiter of a session on this node, and starting it where there is none. */
#ifndef DSM_FIND_ARBITER_H
#define DSM_FIND_ARBITER_H

#include <dsm/dsm.h>

struct arbiter_place {
  char socket[108];
  char lock[108];
};

#pragma GCC visibility push(hidden)

/* Where the arbiter of this session, node and daemon listens. A status. */
int arbiter_locate(const dsm_config *config, struct arbiter_place *place);

/* A connection to the arbiter, which is started if it is not there. Many processes may call this at once: one of them
 * starts it. A status; on DSM_OK *fd is the connection, after DSM_ENDED the caller tries again. */
int arbiter_connect(const dsm_config *config, const struct arbiter_place *place, int *fd);

#pragma GCC visibility pop

#endif
