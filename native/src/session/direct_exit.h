/* The end of direct mode, in a process: src/core/replica/direct-mode-exit.ts describes the whole protocol.
 *
 * In an elastic session in direct mode a thread waits on the main connection for the request to close the map. It makes
 * the map read-only for all threads of the process: once mprotect has returned, no processor has a writable translation
 * of its pages, so a store is in memory by then, or traps and is ordered like any other. Then the thread confirms. The
 * program does nothing and sees nothing of it. The thread also closes the map if the connection ends, because later
 * stores could not be shared.
 *
 * All else that ordered stores need (ring, page copies) is made when the process joins, so that nothing can fail
 * later. */
#ifndef DSM_DIRECT_EXIT_H
#define DSM_DIRECT_EXIT_H

#include <stdatomic.h>

#include "link/arbiter_link.h"
#include "pages/pages.h"

struct direct_exit {
  struct arbiter_link *link;
  struct pages *pages;
  int is_on;            /* there is a thread; written before it starts */
  atomic_uint over;     /* futex: 1 when the thread has read the last frame */
  int failed;           /* the connection ended without an answer */
  struct reply *answer; /* where the thread puts the answer to LEAVE; set before LEAVE is sent */
};

#pragma GCC visibility push(hidden)

/* Starts the thread, and tells the arbiter that this process waits. Returns a status and keeps its reason. */
int direct_exit_begin(struct direct_exit *exit, struct arbiter_link *link, struct pages *pages);

/* Sends LEAVE on the main connection and waits for the answer. Returns 0, or -1 if the connection has ended. */
int direct_exit_leave(struct direct_exit *exit, const struct wire_header *leave, struct reply *answer);

/* Ends the connection and the thread, if it is running. Afterwards the descriptor may be closed. */
void direct_exit_stop(struct direct_exit *exit);

#pragma GCC visibility pop

#endif
