/* Files that killed processes have left in the run-time directory. */
#ifndef DSM_STALE_H
#define DSM_STALE_H

#pragma GCC visibility push(hidden)

/* Removes sockets without a listener and locks without a holder from the directory, except `keep`, a path in it. */
void stale_remove(const char *keep);

#pragma GCC visibility pop

#endif
