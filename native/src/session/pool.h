/* Pool: the free memory that this process keeps for small blocks, so that most allocations need no request.
 *
 * It takes chunks from the session's allocator and cuts blocks from them. Blocks have one of POOL_CLASSES sizes, and a
 * freed block serves requests of its size again. Which blocks are free here is known to this process alone; the map
 * holds no word about them, so this process changes the pool without a store to the map. Blocks beyond the limit go to
 * the stacks that all processes share (pool_stacks.h).
 *
 * Positions are offsets in the map. A pool is used under its lock; the functions of pool.c make no requests. */
#ifndef DSM_POOL_H
#define DSM_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dsm/dsm.h>

#define POOL_CLASSES 28
/* Blocks begin at multiples of this. */
#define POOL_GRAIN 16u
/* Largest alignment of a block; larger ones come from the session's allocator. */
#define POOL_ALIGN_MAX 64u
/* Bounds of the limit of a pool, and the part of the map that it is between them. */
#define POOL_LIMIT_MIN 4096u
#define POOL_LIMIT_MAX 65536u
#define POOL_MAP_PART 64u

/* A free block in the list of its class. */
struct pool_block {
  uint32_t grain; /* its offset in grains */
  uint32_t next;  /* index + 1 of the next one; 0: none */
};

struct pool {
  pthread_mutex_t lock;
  bool is_closed;       /* the process leaves: no further allocations */
  bool is_full;         /* the map had no room for a chunk */
  bool has_stacks;      /* `stacks` is known */
  uint64_t stacks;      /* offset of the shared stacks */
  uint64_t chunk;       /* the part of the last chunk that is not cut yet */
  uint64_t chunk_end;
  uint32_t chunk_bytes; /* of the next chunk: twice the last one, up to the limit */
  uint32_t limit;       /* bytes of a chunk, and of the free blocks after each call */
  uint32_t free_bytes;  /* of all blocks in the lists */
  struct pool_block *blocks; /* NULL until the first use */
  uint32_t unused;           /* index + 1 of the first entry of `blocks` that holds no block */
  uint32_t first[POOL_CLASSES];
  uint32_t count[POOL_CLASSES];
};

#pragma GCC visibility push(hidden)

void pool_init(struct pool *pool, uint64_t map_size);
/* Makes room for the lists. Returns false if out of memory. */
bool pool_prepare(struct pool *pool);
void pool_drop(struct pool *pool);

/* Returns the class of blocks for `size` bytes at that alignment (a power of two), or -1: not a matter of the pool. */
int pool_class(size_t size, size_t align);
uint32_t pool_class_size(int class);

/* Takes a free block of the class off its list. Returns false if there is none. */
bool pool_take(struct pool *pool, int class, uint64_t *offset);
/* Adds a block to the list of its class. */
void pool_put(struct pool *pool, int class, uint64_t offset);
/* Cuts a block off the chunk. Returns false if the chunk has no room. */
bool pool_cut(struct pool *pool, int class, uint64_t *offset);
/* Makes [from, to) the chunk; what is left of the last one becomes free blocks. */
void pool_add_chunk(struct pool *pool, uint64_t from, uint64_t to);
/* Returns the class whose free blocks have the most bytes, or -1 if no block is free. */
int pool_fullest(const struct pool *pool);

#pragma GCC visibility pop

#endif
