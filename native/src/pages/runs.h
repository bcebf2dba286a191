/* The runs of a publication, in the format of src/core/wire/runs.ts: built by comparing a page with its twin, and
 * applied to a map, whose bytes can be saved before. Everything here is handler-safe and independent of sessions. */
#ifndef DSM_RUNS_H
#define DSM_RUNS_H

#include <stdint.h>

#define RUNS_PAGE_BYTES 4096u

#pragma GCC visibility push(hidden)

/* Builds runs. Initial state: length 0, joins RUNS_JOIN_NONE. */
struct run_writer {
  uint8_t *bytes; /* at a multiple of 8 */
  uint32_t room; /* size of `bytes` */
  uint32_t length; /* of the runs written */
  uint32_t last; /* where the last run begins, if it is a plain one */
  uint64_t joins; /* a plain run that starts at this offset extends the last one */
  int portable; /* do not use AVX-512 VBMI2, even if the processor has it */
};
#define RUNS_JOIN_NONE UINT64_MAX

/* Adds the bytes of [from, to), part of one page of the map, that differ between `now` and `then` (each the start of a
 * whole map), and those that have a bit in `written` (written.h; NULL: none has). Returns 1; or 0 without adding any,
 * if there is less room than RUNS_PAGE_MAX. */
int runs_add(struct run_writer *writer, const uint8_t *now, const uint8_t *then, const uint8_t *written, uint64_t from,
             uint64_t to);

/* Adds the bytes at [offset, offset + length) as they are, to the end of the room at most. Returns how many it has added;
 * 0: there is no room. All but the last ones end at a multiple of 8 of the map, so that no word is divided. */
uint32_t runs_add_bytes(struct run_writer *writer, uint64_t offset, const uint8_t *bytes, uint64_t length);

/* The room that a page may need. There are at least 16 unchanged words between two masked runs, so the worst case is a
 * page as one run: its header, a mask for each word, and the bytes. Packing the last bytes may write 8 bytes beyond. */
#define RUNS_PAGE_MAX (8u + RUNS_PAGE_BYTES / 8 + RUNS_PAGE_BYTES + 8u)

/* Copies the bytes of [from, to) that differ into a map that other threads write to (direct mode): words that change as
 * a whole by one store, others by an atomic operation. */
void runs_copy(uint8_t *map, const uint8_t *now, const uint8_t *then, uint64_t from, uint64_t to);

/* Copies the words of `map` that these well-formed runs reach into, run by run, each padded to 8 bytes: what was there
 * before they are applied. */
void runs_save(const uint8_t *map, const uint8_t *runs, uint32_t size, uint8_t *to);

/* Returns how many bytes runs_save() copies. */
uint32_t runs_saved_size(const uint8_t *runs, uint32_t size);

/* Does what dsm_apply_runs() does, with AVX-512 VBMI2 (which the processor must have) or without. */
uint32_t runs_apply(uint8_t *map, const uint8_t *runs, uint32_t size, int vbmi2);

#pragma GCC visibility pop

/* Applies well-formed runs to a map that no other thread writes to. Every aligned word is written once, as a whole.
 * Returns how many bytes they change. Called from TypeScript. */
__attribute__((visibility("default"))) uint32_t dsm_apply_runs(uint8_t *map, const uint8_t *runs, uint32_t size);

#endif
