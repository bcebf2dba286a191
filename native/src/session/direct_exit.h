/* The end of direct mode, in a process: src/core/replica/direct-mode-exit.ts says how all of it goes.
 *
 * In an elastic session that is in direct mode a thread waits on the main connection to be told to close the map. It makes
 * the map read-only, for all threads of the process: when mprotect has returned no processor has the pages as writable any
 * more, so a store is in memory by then, or traps and is ordered like any other. Then it says so. The program does nothing
 * and sees nothing of it. Where the connection ends the map is closed, too: what is stored after that could not be shared.
 *
 * What the order needs beside that (ring, page copies) is made when the process joins, so that nothing can fail later. */
#ifndef DSM_DIRECT_EXIT_H
#define DSM_DIRECT_EXIT_H

#include <stdatomic.h>

#include <dsm/dsm.h>
#include "link/channel.h"

struct direct_exit {
  int on;               /* there is a thread; written before it begins */
  atomic_uint over;     /* futex: 1 when it has read the last frame there is */
  int failed;           /* the connection ended without an answer */
  struct reply *answer; /* where the answer to LEAVE is to be, written before that is sent */
};

#pragma GCC visibility push(hidden)

/* Begins to wait, and tells the arbiter so. A status, with its words kept. */
int direct_exit_begin(dsm_session *session);

/* Sends LEAVE on the main connection and waits for the answer. 0, or -1: it has ended. */
int direct_exit_leave(dsm_session *session, const struct wire_header *leave, struct reply *answer);

/* Ends the connection and the thread, if they have not ended and if there is one: its descriptor may be closed then. */
void direct_exit_stop(dsm_session *session);

#pragma GCC visibility pop

#endif
