/* Written bits: the bytes of the map that captured stores of this process have written since it last published, under
 * `release`. There is a bit for each byte, so a byte of bits is the mask of an aligned word, as in a run (runs.h).
 *
 * If a publication only compared a page with its twin, it would publish the bytes that differ, and a word that two
 * processes store at the same time could become a mix of both. So all bytes that a captured store has written are
 * published, even if they are unchanged. Handler-safe; the caller holds the lock of the pages. */
#ifndef DSM_WRITTEN_H
#define DSM_WRITTEN_H

#include <stdint.h>

/* The size of the bits for this many bytes of the map, in bytes. */
#define WRITTEN_BYTES(map_bytes) ((map_bytes) / 8)

#pragma GCC visibility push(hidden)

/* Marks the bytes that one captured store has written at [from, to) of the map. `now` is the map as this process sees
 * it, with the store; `then` is the twin. For a store longer than any register (memcpy, read into the map) it marks
 * only aligned words in which a byte differs: most other words need no copy, and an unchanged word cannot be torn. */
void written_mark(uint8_t *written, const uint8_t *now, const uint8_t *then, uint64_t from, uint64_t to);

#pragma GCC visibility pop

#endif
