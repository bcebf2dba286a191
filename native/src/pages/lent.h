/* Memory shared by this process and its arbiter, for holes: the arbiter creates an anonymous file and sends its
 * descriptor over the socket. Neither uses the process id of the other, which may differ in another PID namespace. */
#ifndef DSM_LENT_H
#define DSM_LENT_H

#include "link/arbiter_link.h"

#pragma GCC visibility push(hidden)

/* Requests the file. *fd: a zeroed file of the size of the map plus WIRE_STAGING_SIZE, sealed against growing and
 * shrinking; or -1 if the arbiter cannot share memory. Returns a status and keeps its reason. */
int lent_memory(struct arbiter_link *link, int *fd);

#pragma GCC visibility pop

#endif
