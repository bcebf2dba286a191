/* Which bytes of the map the captured stores of this process have written since it last published, under `release`: a bit
 * for each byte, so a byte of bits is the mask of an aligned word, as in a run (runs.h).
 *
 * A publication that compared a page with its twin and nothing else would publish the bytes that differ, and a word that
 * two processes store at the same time would end as a mix of both. So what a captured store has written is published as it
 * stands, also where it is the same as before. Handler-safe; the caller holds the lock of the pages. */
#ifndef DSM_WRITTEN_H
#define DSM_WRITTEN_H

#include <stdint.h>

/* Bytes of bits for so many bytes of the map. */
#define WRITTEN_BYTES(map_bytes) ((map_bytes) / 8)

#pragma GCC visibility push(hidden)

/* Marks what one captured store has written at [from, to) of the map. `now` and `then` are the map as this process has it,
 * with the store, and the twin. Of a store longer than any register (memcpy, read into the map) the aligned words are
 * marked in which a byte differs: most of the rest is copied without need, and a word that stays what it was is not torn. */
void written_mark(uint8_t *written, const uint8_t *now, const uint8_t *then, uint64_t from, uint64_t to);

#pragma GCC visibility pop

#endif
