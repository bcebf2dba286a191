/* Departed maps: private copies of the maps that this process has left.
 *
 * A program may still read a map after dsm_close(); a store there terminates it with a specific message. The newest
 * maps have a region; the oldest lose it, to make room for new sessions in the region table. The caller holds
 * handles_lock(). */
#ifndef DSM_DEPARTED_MAPS_H
#define DSM_DEPARTED_MAPS_H

#include <stdint.h>

#include "link/arbiter_link.h"

#pragma GCC visibility push(hidden)

/* Replaces the map with a private copy of its last state, sparse where it is zero. Returns 0, or -1 with errno. Needs
 * no lock. */
int replace_with_copy(const struct arbiter_link *link);

/* Remembers the copy and its region. */
void departed_map_add(const struct arbiter_link *link, int region);

/* Unmaps what the copies have in the place of a new map. What lies outside it stays: a program may still read it. */
void departed_maps_clear(uintptr_t base, uint64_t size);

#pragma GCC visibility pop

#endif
