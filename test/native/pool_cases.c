/* Takes, returns and moves blocks of a pool at random, and holds them against a picture of the map in which each grain
 * has one owner: pool_cases SEED COUNT. Prints what was wrong first, or "ok". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/pool.h"

#define MAP_BYTES (1u << 20)
#define GRAINS (MAP_BYTES / POOL_GRAIN)
#define HELD_MAX 4096u

enum owner { NOBODY, POOL, PROGRAM };

static uint8_t owners[GRAINS];
static struct held {
  uint64_t offset;
  int class;
} held[HELD_MAX];
static unsigned held_count;
static uint64_t given; /* bytes of all chunks */

static uint64_t state;

static uint64_t below(uint64_t limit) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state % limit;
}

static void fail(const char *what, uint64_t a, uint64_t b) {
  printf("%s: %llu, %llu\n", what, (unsigned long long)a, (unsigned long long)b);
  exit(1);
}

static void move(uint64_t offset, uint64_t size, enum owner from, enum owner to) {
  if (offset % POOL_GRAIN != 0 || offset + size > MAP_BYTES) fail("a block is not in the map", offset, size);
  for (uint64_t grain = offset / POOL_GRAIN; grain < (offset + size) / POOL_GRAIN; grain++) {
    if (owners[grain] != from) fail("a block has two owners", offset, size);
    owners[grain] = (uint8_t)to;
  }
}

/* The bytes of the lists and of the chunk are those that the pool owns. */
static void check_sum(const struct pool *pool) {
  uint64_t bytes = 0, listed = 0;
  for (unsigned grain = 0; grain < GRAINS; grain++) bytes += owners[grain] == POOL ? POOL_GRAIN : 0;
  for (int class = 0; class < POOL_CLASSES; class++) listed += (uint64_t)pool->count[class] * pool_class_size(class);
  if (listed != pool->free_bytes) fail("the sum of the lists", listed, pool->free_bytes);
  if (bytes != listed + (pool->chunk_end - pool->chunk)) fail("bytes of the pool", bytes, listed);
}

/* For each size and alignment: the block holds it, begins where it should, and wastes little. */
static void check_classes(void) {
  for (size_t align = 1; align <= 2 * POOL_ALIGN_MAX; align *= 2)
    for (size_t size = 0; size <= DSM_POOL_MAX + 1; size++) {
      int class = pool_class(size, align);
      if ((class < 0) != (size == 0 || size > DSM_POOL_MAX || align > POOL_ALIGN_MAX)) fail("whose matter", size, align);
      if (class < 0) continue;
      size_t got = pool_class_size(class);
      size_t rounded = (size + align - 1) / align * align;
      size_t most = rounded < POOL_ALIGN_MAX ? rounded + POOL_GRAIN - 1 : rounded + rounded / 4 + align - 1;
      if (got < size || got % align != 0 || got > most) fail("the class of", size, align);
      if (class > 0 && pool_class_size(class - 1) >= size && pool_class_size(class - 1) % align == 0)
        fail("a smaller class would do", size, align);
    }
}

static void take(struct pool *pool) {
  size_t align = (size_t)1 << below(7);
  int class = pool_class(1 + below(below(4) == 0 ? DSM_POOL_MAX : 200), align);
  uint64_t offset;
  bool got = pool_take(pool, class, &offset) || pool_cut(pool, class, &offset);
  if (!got && given < MAP_BYTES) {
    uint64_t bytes = POOL_LIMIT_MIN * (1 + below(pool->limit / POOL_LIMIT_MIN));
    if (bytes > MAP_BYTES - given) bytes = MAP_BYTES - given;
    move(given, bytes, NOBODY, POOL);
    pool_add_chunk(pool, given, given + bytes);
    given += bytes;
    got = pool_cut(pool, class, &offset);
    if (!got) fail("a chunk has no room for", (uint64_t)class, bytes);
  }
  if (!got) return;
  if (offset % align != 0) fail("the alignment of a block", offset, align);
  move(offset, pool_class_size(class), POOL, PROGRAM);
  held[held_count++] = (struct held){.offset = offset, .class = class};
}

static void give(struct pool *pool) {
  unsigned which = (unsigned)below(held_count);
  move(held[which].offset, pool_class_size(held[which].class), PROGRAM, POOL);
  pool_put(pool, held[which].class, held[which].offset);
  held[which] = held[--held_count];
}

/* What other processes get of it: back to the limit, as after each call. */
static void trim(struct pool *pool) {
  uint64_t offset;
  while (pool->free_bytes > pool->limit) {
    int class = pool_fullest(pool);
    if (class < 0 || !pool_take(pool, class, &offset)) fail("the fullest list is empty", 0, 0);
    move(offset, pool_class_size(class), POOL, NOBODY);
  }
}

int main(int count, char **arguments) {
  if (count != 3) return 2;
  state = strtoull(arguments[1], NULL, 10) * 2654435761u + 1;
  struct pool pool;
  check_classes();
  pool_init(&pool, MAP_BYTES);
  if (pool.limit != MAP_BYTES / POOL_MAP_PART) fail("the limit", pool.limit, 0);
  if (!pool_prepare(&pool)) return 2;
  for (unsigned long step = strtoul(arguments[2], NULL, 10); step > 0; step--) {
    if (held_count > 0 && (held_count == HELD_MAX || below(100) < (step / 1000 % 2 == 0 ? 30 : 70)))
      give(&pool);
    else
      take(&pool);
    trim(&pool);
    if (step % 500 == 0) check_sum(&pool);
  }
  check_sum(&pool);
  if (given < MAP_BYTES / 2) fail("too little was asked for", given, 0);
  pool_drop(&pool);
  puts("ok");
}
