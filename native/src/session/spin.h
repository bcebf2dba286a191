/* Spinning: waiting awake for another process that is about to change a word. Where it does not pay, because waits are
 * longer or the other process does not run, most waits sleep at once.
 *
 *   struct spin spin = spin_begin(&history, may_spin);
 *   while (not yet && spin_again(&spin)) continue;
 *   if (not yet) sleep, else spin_ended(&spin);
 */
#ifndef DSM_SPIN_H
#define DSM_SPIN_H

#include "base/polling.h"

struct spin {
  struct polling *history;
  unsigned left; /* pauses */
  unsigned spun;
};

#pragma GCC visibility push(hidden)

/* Begins a wait. `history`: of waits of this kind. `may_spin`: 0 if this process has one core only. */
struct spin spin_begin(struct polling *history, int may_spin);

/* Waits for some ten nanoseconds, and returns 1; or returns 0: it is time to sleep. */
int spin_again(struct spin *spin);

/* What was waited for has come. */
void spin_ended(const struct spin *spin);

#pragma GCC visibility pop

#endif
