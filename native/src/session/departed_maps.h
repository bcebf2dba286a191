/* Departed maps: private copies of the maps that this process has left.
 *
 * A program may still read a map after dsm_close(), and a store there gets a message of its own. The newest ones have a
 * region; the oldest lose it, so that new sessions find room in the table of regions. The caller holds handles_lock(). */
#ifndef DSM_DEPARTED_MAPS_H
#define DSM_DEPARTED_MAPS_H

#include <stdint.h>

#include "link/arbiter_link.h"

#pragma GCC visibility push(hidden)

/* Puts a private copy of the map's last state in its place, sparse where it is zero. 0, or -1 with errno. Needs no lock. */
int replace_with_copy(const struct arbiter_link *link);

/* Remembers the copy and its region. */
void departed_map_add(const struct arbiter_link *link, int region);

/* Unmaps the copies that lie where a new map is to be. */
void departed_maps_clear(uintptr_t base, uint64_t size);

#pragma GCC visibility pop

#endif
