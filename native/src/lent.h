/* Memory that this process and its arbiter share, for holes: the arbiter makes an anonymous file and sends its descriptor
 * over the socket. Neither names the other by its process id, which in another process namespace is another process's. */
#ifndef DSM_LENT_H
#define DSM_LENT_H

#include "../include/dsm/dsm.h"

#pragma GCC visibility push(hidden)

/* Asks for it. *fd: a file of the map's size and WIRE_STAGING_SIZE behind that, of zeros, which can neither grow nor shrink;
 * or -1: the arbiter can share none. A status, with its words kept. */
int lent_memory(dsm_session *session, int *fd);

#pragma GCC visibility pop

#endif
