/* Files that killed processes have left in the run-time directory. */
#ifndef DSM_STALE_H
#define DSM_STALE_H

#pragma GCC visibility push(hidden)

/* Removes the sockets nobody listens at and the locks nobody holds from the directory, except `keep`, a path in it. */
void stale_remove(const char *keep);

#pragma GCC visibility pop

#endif
