/* The cache of translated copies, and which stores are worth a burst. */
#ifndef DSM_BURST_CACHE_H
#define DSM_BURST_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "burst/translate.h"

/* Memory for code, and for what is known of it. When it is used up all translations are dropped, as soon as no thread is
 * in a burst. */
#define BURST_CODE_BYTES (2u << 20)
#define BURST_FACTS_BYTES (2u << 20)
#define BURST_ENTRIES 1024u /* stores that are remembered */
/* Traps of a store before it is translated. */
#define BURST_TRAPS_FIRST 4u
/* After this many bursts in a row of one store, the stores are single, but for one of so many, which tries again: a burst
 * costs a fourth more than a trap. */
#define BURST_SHORT_MAX 16u
#define BURST_TRY_AGAIN 256u
/* So often a store whose code has changed is translated anew. */
#define BURST_CHANGES_MAX 8u

struct burst_entry;

/* Consecutive instructions that a translation is made of. */
struct burst_block {
  uint64_t rip;
  uint32_t length;
  const uint8_t *bytes;
};

struct burst_translation {
  struct burst_entry *entry;
  const uint8_t *code; /* executable; begins with the entry */
  uint32_t size;
  uint32_t width; /* bytes of its first store */
  uint32_t block_count, point_count, insn_count;
  const struct burst_block *blocks;
  const struct burst_point *points;
  const uint64_t *insns; /* their addresses */
};

#pragma GCC visibility push(hidden)

/* Maps the memory and writes the stubs; `leave` as for burst_write_stubs(). Returns 0, or -1 with errno. Not
 * handler-safe; once in a process. */
int burst_cache_init(uint64_t leave);

/* Returns the translation of the code at rip, where a store has just trapped, or NULL: that store is to be single. A
 * translation stays until burst_cache_give_back(). handler-safe. */
const struct burst_translation *burst_cache_take(uint64_t rip);

/* Ends the use of a translation, whose burst has stored so many bytes. handler-safe. */
void burst_cache_give_back(const struct burst_translation *translation, size_t bytes);
/* Likewise, if the burst has not begun. */
void burst_cache_put_off(void);

/* Returns whether rip is in a copy, or a stub. handler-safe. */
bool burst_cache_holds(uint64_t rip);

#pragma GCC visibility pop

#endif
