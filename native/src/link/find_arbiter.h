/* Finds the arbiter of a session on this node, and starts it if there is none. */
#ifndef DSM_FIND_ARBITER_H
#define DSM_FIND_ARBITER_H

#include <dsm/dsm.h>

/* Run-time directories of the same user's other processes, whose XDG_RUNTIME_DIR may differ. */
#define OTHER_DIRECTORIES_MAX 2

struct arbiter_place {
  char socket[108];
  char lock[108];
  char others[OTHER_DIRECTORIES_MAX][108]; /* where the socket may be instead, in directories that may be missing */
  char connected[108];                     /* where arbiter_connect() has found it */
};

#pragma GCC visibility push(hidden)

/* Computes where the arbiter of this session, node and daemon listens. Returns a status. */
int arbiter_locate(const dsm_config *config, struct arbiter_place *place);

/* Returns whether the socket's directory is one that only this user can access. */
int arbiter_is_own_directory(const char *socket);

/* Connects to the arbiter, and starts it if it is not running. Many processes may call this at once: one of them starts
 * it. Returns a status; on DSM_OK *fd is the connection and place->connected is where it leads, after DSM_ENDED the caller
 * retries. */
int arbiter_connect(const dsm_config *config, struct arbiter_place *place, int *fd);

#pragma GCC visibility pop

#endif
