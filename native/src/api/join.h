/* Joining: the handshake with the arbiter. */
#ifndef DSM_JOIN_H
#define DSM_JOIN_H

#include <dsm/dsm.h>
#include "link/channel.h"
#include "link/find_arbiter.h"

#pragma GCC visibility push(hidden)

/* Connects to the arbiter, sends HELLO, and waits until the session starts; retries while a session of this name is
 * ending. Returns a status and keeps its reason; on DSM_OK *fd is the connection, and *reply holds a validated struct
 * wire_joined. */
int join_session(const dsm_config *config, struct arbiter_place *place, int *fd, struct reply *reply);

#pragma GCC visibility pop

#endif
