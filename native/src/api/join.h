/* Joining: the first exchange with the arbiter. */
#ifndef DSM_JOIN_H
#define DSM_JOIN_H

#include <dsm/dsm.h>
#include "link/channel.h"
#include "link/find_arbiter.h"

#pragma GCC visibility push(hidden)

/* Connects to the arbiter, says hello, and waits until the session starts; tries again while sessions of this name are
 * just ending. A status, with its words kept; on DSM_OK *fd is the connection, and *reply holds a struct wire_joined that
 * has been checked. */
int join_session(const dsm_config *config, const struct arbiter_place *place, int *fd, struct reply *reply);

#pragma GCC visibility pop

#endif
