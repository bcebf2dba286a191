/* Bursts: a store that traps, and the stores that the program makes after it, cost one trap. README.md has the rules. */
#ifndef DSM_BURST_H
#define DSM_BURST_H

#pragma GCC visibility push(hidden)

/* Makes stores to regions with a sink for bursts begin one. Does nothing where bursts are not possible: under valgrind
 * and ThreadSanitizer, with a shadow stack, on a processor without lahf in 64-bit mode, or without memory. Not
 * handler-safe; may be called again, and must be in a forked child. */
void dsm_burst_init(void);

/* Forgets all bursts, in a forked child: it does not have the memory of its parent's. */
void dsm_burst_in_child(void);

#pragma GCC visibility pop

#endif
