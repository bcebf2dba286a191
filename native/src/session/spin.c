#include "session/spin.h"

/* A wait spins for 3 to 15 us, by the processor: shorter than to sleep and to be woken on another core. */
#define PAUSES_MAX 300u
/* Of so many waits one spins where it does not pay. */
#define SKIPPED_MAX 256u

struct spin spin_begin(struct polling *history, int may_spin) {
  return (struct spin){.history = history, .left = may_spin && !polling_rests(history) ? PAUSES_MAX : 0};
}

int spin_again(struct spin *spin) {
  if (spin->left == 0) return 0;
  __builtin_ia32_pause();
  spin->spun++;
  if (--spin->left == 0) polling_failed(spin->history, SKIPPED_MAX);
  return 1;
}

void spin_ended(const struct spin *spin) {
  /* What was there at once says nothing about spinning. */
  if (spin->spun > 0 && spin->left > 0) polling_succeeded(spin->history);
}
