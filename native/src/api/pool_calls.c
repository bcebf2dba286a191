/* Small blocks of the map from the pool of this process; see session/pool.h. */
#include "api/pool_calls.h"

#include "api/blocks.h"
#include "base/status.h"
#include "session/pool_stacks.h"

/* Fetches what the pool needs before its first block. */
static int prepare(dsm_session *session) {
  struct pool *pool = &session->pool;
  if (pool->is_closed) return dsm_fail(DSM_LEFT, "this process has left session \"%s\"", session->link.name);
  if (!pool_prepare(pool)) return dsm_fail(DSM_NO_MEMORY, "no memory for the list of free blocks");
  if (pool->has_stacks) return DSM_OK;
  void *stacks;
  int status = block_allocate(session, POOL_STACKS_NAME, POOL_STACKS_BYTES, POOL_STACKS_BYTES, &stacks);
  if (status != DSM_OK && status != DSM_MISMATCH) return status;
  if (status == DSM_OK) pool->stacks = (uintptr_t)stacks - session->link.base;
  if (status == DSM_MISMATCH || pool->stacks % POOL_STACKS_BYTES != 0)
    return dsm_fail(DSM_MISMATCH, "the program has a block named \"%s\", which is the pool's; use another name",
                    POOL_STACKS_NAME);
  pool->has_stacks = true;
  return DSM_OK;
}

/* Brings the pool back to its limit. */
static int trim(dsm_session *session) {
  struct pool *pool = &session->pool;
  int status = DSM_OK;
  while (pool->free_bytes > pool->limit && status == DSM_OK) status = pool_push(session, pool_fullest(pool));
  return status;
}

/* Takes a new chunk, the smaller the less room the map has, and cuts the block from it. DSM_NO_MEMORY: the map has no
 * room for this one block. */
static int take_from_chunk(dsm_session *session, int class, uint64_t *offset) {
  struct pool *pool = &session->pool;
  uint32_t least = pool_class_size(class);
  uint32_t bytes = pool->chunk_bytes > least ? pool->chunk_bytes : least;
  void *chunk;
  int status;
  while ((status = block_allocate(session, NULL, bytes, POOL_ALIGN_MAX, &chunk)) == DSM_NO_MEMORY && bytes > least)
    bytes = bytes / 2 > least ? bytes / 2 : least;
  pool->is_full = status == DSM_NO_MEMORY;
  if (status != DSM_OK) return status;
  pool->chunk_bytes = 2 * bytes < pool->limit ? 2 * bytes : pool->limit;
  uint64_t from = (uintptr_t)chunk - session->link.base;
  pool_add_chunk(pool, from, from + bytes);
  pool_cut(pool, class, offset);
  return DSM_OK;
}

/* Takes a free block of a larger class, of this process or shared, as a chunk, and cuts the block from it.
 * DSM_NO_MEMORY: there is none; this keeps no reason. */
static int take_from_larger(dsm_session *session, int class, uint64_t *offset) {
  struct pool *pool = &session->pool;
  for (int larger = class + 1; larger < POOL_CLASSES; larger++) {
    uint64_t from;
    bool got = pool->count[larger] > 0;
    int status = got ? DSM_OK : pool_pop(session, larger, &got);
    if (status != DSM_OK) return status;
    if (!got || !pool_take(pool, larger, &from)) continue;
    pool_add_chunk(pool, from, from + pool_class_size(larger));
    if (pool_cut(pool, class, offset)) return DSM_OK;
  }
  return DSM_NO_MEMORY;
}

static int take(dsm_session *session, int class, uint64_t *offset) {
  struct pool *pool = &session->pool;
  bool got;
  int status = prepare(session);
  if (status != DSM_OK || pool_take(pool, class, offset)) return status;
  status = pool_pop(session, class, &got);
  if (status != DSM_OK || (got && pool_take(pool, class, offset))) return status;
  if (pool_cut(pool, class, offset)) return DSM_OK;
  /* A map that was full is asked when nothing else is left: it takes its time to answer. */
  bool was_full = pool->is_full;
  status = was_full ? take_from_larger(session, class, offset) : take_from_chunk(session, class, offset);
  if (status == DSM_NO_MEMORY)
    status = was_full ? take_from_chunk(session, class, offset) : take_from_larger(session, class, offset);
  return status;
}

static int check_align(size_t align) {
  return align != 0 && (align & (align - 1)) == 0
             ? DSM_OK
             : dsm_fail(DSM_INVALID, "an alignment of %zu is not a power of two", align);
}

static int pool_allocate(dsm_session *session, size_t size, size_t align, void **block) {
  if (block == NULL) return dsm_fail(DSM_INVALID, "nowhere to put the block's address");
  if (check_align(align) != DSM_OK) return DSM_INVALID;
  int class = pool_class(size, align);
  if (class < 0) return block_allocate(session, NULL, size, align, block);
  uint64_t offset = 0;
  pthread_mutex_lock(&session->pool.lock);
  int status = take(session, class, &offset);
  if (status == DSM_OK) status = trim(session);
  pthread_mutex_unlock(&session->pool.lock);
  if (status == DSM_OK) *block = (void *)(session->link.base + offset);
  return status;
}

static int pool_release(dsm_session *session, void *block, size_t size, size_t align) {
  if (check_align(align) != DSM_OK) return DSM_INVALID;
  int class = pool_class(size, align);
  if (class < 0) return block_free(session, block);
  uint64_t offset = (uintptr_t)block - session->link.base;
  if ((uintptr_t)block < session->link.base || session->link.size < pool_class_size(class) ||
      offset > session->link.size - pool_class_size(class))
    return dsm_fail(DSM_INVALID, "a block of %zu bytes at %p is not in the map", size, block);
  if (offset % POOL_GRAIN != 0) return dsm_fail(DSM_INVALID, "no block begins at %p", block);
  pthread_mutex_lock(&session->pool.lock);
  int status = prepare(session);
  if (status == DSM_OK) {
    pool_put(&session->pool, class, offset);
    status = trim(session);
  }
  pthread_mutex_unlock(&session->pool.lock);
  return status;
}

int dsm_pool_alloc(dsm_session *session, size_t size, size_t align, void **block) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = pool_allocate(session, size, align, block);
  session_end(session);
  return status;
}

int dsm_pool_free(dsm_session *session, void *block, size_t size, size_t align) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = pool_release(session, block, size, align);
  session_end(session);
  return status;
}

void pool_close(dsm_session *session) {
  struct pool *pool = &session->pool;
  int class;
  int status = DSM_OK;
  pthread_mutex_lock(&pool->lock);
  pool->is_closed = true;
  if (pool->blocks != NULL) pool_add_chunk(pool, 0, 0);
  while (status == DSM_OK && !atomic_load(&session->link.dead) && (class = pool_fullest(pool)) >= 0)
    status = pool_push(session, class);
  pool_drop(pool);
  pthread_mutex_unlock(&pool->lock);
}
