/* The actions that the program has set for the signals whose handlers are dsm's (signal_action.c). */
#ifndef DSM_ACTIONS_H
#define DSM_ACTIONS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Of a struct sigaction what counts: the alternate stack that dsm's handlers run on may be small. The mask is in
 * program form. */
struct dsm_action {
  sighandler_t handler;
  uint64_t mask;
  int flags;
};

#pragma GCC visibility push(hidden)

/* Returns whether the program's action for the signal is kept here: dsm has taken it, and in this process. Not in the
 * child of a vfork, which shares this memory but not its actions. */
bool dsm_action_is_kept(int signo);

/* Sets the program's action (NULL: leaves it) and gives the one before. It must be kept here. */
void dsm_action_exchange(int signo, const struct dsm_action *action, struct dsm_action *old);

#pragma GCC visibility pop

#endif
