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

#include "link/arbiter_link.h"
#include "pages/pages.h"

struct direct_exit {
  struct arbiter_link *link;
  struct pages *pages;
  int is_on;            /* there is a thread; written before it begins */
  atomic_uint over;     /* futex: 1 when it has read the last frame there is */
  int failed;           /* the connection ended without an answer */
  struct reply *answer; /* where the answer to LEAVE is to be, written before that is sent */
};

#pragma GCC visibility push(hidden)

/* Starts the thread, and tells the arbiter that this process waits. A status, with its words kept. */
int direct_exit_begin(struct direct_exit *exit, struct arbiter_link *link, struct pages *pages);

/* Sends LEAVE on the main connection and waits for the answer. 0, or -1: the connection has ended. */
int direct_exit_leave(struct direct_exit *exit, const struct wire_header *leave, struct reply *answer);

/* Ends the connection and the thread, if there is one and it has not ended: its descriptor may be closed then. */
void direct_exit_stop(struct direct_exit *exit);

#pragma GCC visibility pop

#endif
