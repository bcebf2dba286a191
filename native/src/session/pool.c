#include "session/pool.h"

#include <stdlib.h>
#include <string.h>

/* Four sizes to each doubling, so that a block is at most a quarter larger than asked for, from 64 bytes on. */
static const uint16_t sizes[POOL_CLASSES] = {16,   32,   48,   64,   80,   96,   112,  128, 160, 192,
                                             224,  256,  320,  384,  448,  512,  640,  768, 896, 1024,
                                             1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096};

_Static_assert(POOL_LIMIT_MIN >= DSM_POOL_MAX, "a chunk holds the largest block");

/* Between two calls the lists have at most `limit` bytes. Within one, what is left of a chunk (at most `limit`) and a
 * batch (less than `limit`) may be added. */
static uint32_t capacity(const struct pool *pool) {
  return 3 * pool->limit / POOL_GRAIN;
}

void pool_init(struct pool *pool, uint64_t map_size) {
  uint64_t part = map_size / POOL_MAP_PART;
  memset(pool, 0, sizeof *pool);
  pthread_mutex_init(&pool->lock, NULL);
  pool->limit = part < POOL_LIMIT_MIN ? POOL_LIMIT_MIN : part > POOL_LIMIT_MAX ? POOL_LIMIT_MAX : (uint32_t)part;
  pool->limit -= pool->limit % POOL_LIMIT_MIN;
  pool->chunk_bytes = pool->limit / 4 < POOL_LIMIT_MIN ? POOL_LIMIT_MIN : pool->limit / 4;
}

bool pool_prepare(struct pool *pool) {
  if (pool->blocks != NULL) return true;
  uint32_t count = capacity(pool);
  pool->blocks = calloc(count, sizeof *pool->blocks);
  if (pool->blocks == NULL) return false;
  for (uint32_t i = 0; i < count; i++) pool->blocks[i].next = i + 1 < count ? i + 2 : 0;
  pool->unused = 1;
  return true;
}

void pool_drop(struct pool *pool) {
  free(pool->blocks);
  pool->blocks = NULL;
  pool->unused = pool->free_bytes = 0;
  memset(pool->first, 0, sizeof pool->first);
  memset(pool->count, 0, sizeof pool->count);
}

/* Returns the alignment of the blocks of a class: what divides their size, up to POOL_ALIGN_MAX. */
static uint32_t class_align(int class) {
  uint32_t align = sizes[class] & -(uint32_t)sizes[class];
  return align < POOL_ALIGN_MAX ? align : POOL_ALIGN_MAX;
}

int pool_class(size_t size, size_t align) {
  if (size == 0 || size > DSM_POOL_MAX || align > POOL_ALIGN_MAX) return -1;
  int class;
  if (size <= 128) {
    class = (int)((size + POOL_GRAIN - 1) / POOL_GRAIN) - 1;
  } else {
    /* `size` is in (4 * step, 8 * step]. */
    int doubling = 63 - __builtin_clzll(size - 1);
    size_t step = (size_t)1 << (doubling - 2);
    class = 8 + 4 * (doubling - 7) + (int)((size - 1) / step) - 4;
  }
  while (sizes[class] % align != 0) class++;
  return class;
}

uint32_t pool_class_size(int class) {
  return sizes[class];
}

bool pool_take(struct pool *pool, int class, uint64_t *offset) {
  uint32_t at = pool->first[class];
  if (at == 0) return false;
  struct pool_block *block = &pool->blocks[at - 1];
  *offset = (uint64_t)block->grain * POOL_GRAIN;
  pool->first[class] = block->next;
  pool->count[class]--;
  pool->free_bytes -= sizes[class];
  block->next = pool->unused;
  pool->unused = at;
  return true;
}

void pool_put(struct pool *pool, int class, uint64_t offset) {
  uint32_t at = pool->unused;
  /* capacity() says why there is room. If a mistake there took it, a block would be lost, and nothing overwritten. */
  if (at == 0) return;
  struct pool_block *block = &pool->blocks[at - 1];
  pool->unused = block->next;
  *block = (struct pool_block){.grain = (uint32_t)(offset / POOL_GRAIN), .next = pool->first[class]};
  pool->first[class] = at;
  pool->count[class]++;
  pool->free_bytes += sizes[class];
}

/* Makes free blocks of [from, to), the largest that fit and are aligned. */
static void put_range(struct pool *pool, uint64_t from, uint64_t to) {
  while (from + POOL_GRAIN <= to) {
    int class = POOL_CLASSES - 1;
    while (sizes[class] > to - from || from % class_align(class) != 0) class--;
    pool_put(pool, class, from);
    from += sizes[class];
  }
}

/* Finds the first place for a block of the class in [from, to). */
static bool fits(uint64_t from, uint64_t to, int class, uint64_t *offset) {
  uint64_t align = class_align(class);
  *offset = (from + align - 1) / align * align;
  return *offset + sizes[class] <= to;
}

bool pool_cut(struct pool *pool, int class, uint64_t *offset) {
  if (!fits(pool->chunk, pool->chunk_end, class, offset)) return false;
  put_range(pool, pool->chunk, *offset);
  pool->chunk = *offset + sizes[class];
  return true;
}

void pool_add_chunk(struct pool *pool, uint64_t from, uint64_t to) {
  put_range(pool, pool->chunk, pool->chunk_end);
  pool->chunk = from;
  pool->chunk_end = to;
}

int pool_fullest(const struct pool *pool) {
  int fullest = -1;
  uint32_t most = 0;
  for (int class = 0; class < POOL_CLASSES; class++) {
    uint32_t bytes = pool->count[class] * sizes[class];
    if (bytes > most) most = bytes, fullest = class;
  }
  return fullest;
}
