#define _GNU_SOURCE
#include "session/pool_stacks.h"

#include <string.h>

#include "base/status.h"
#include "session/sink.h"
#include "trap/signals.h"

/* What a batch holds. Links are offsets in grains, plus 1; 0 is none. */
struct batch {
  uint32_t next;  /* the batch below in the stack */
  uint16_t count; /* of `blocks` */
  uint16_t class; /* of the block that holds the batch; those in `blocks` are of the class of the stack */
  uint32_t blocks[POOL_BATCH_MAX];
};

#define BATCH_HEAD offsetof(struct batch, blocks)
/* A block of this size holds a whole batch. */
_Static_assert(sizeof(struct batch) == 256, "the size of a batch");

/* The head of a stack: the link of its top, and above it the number of changes, by which a process sees that a top it
 * has looked at was popped and pushed again. */
#define HEAD_LINK(head) ((uint32_t)(head))
#define HEAD_NEXT(head, link) (((((head) >> 32) + 1) << 32) | (link))

static uint64_t head_offset(const dsm_session *session, int class) {
  return session->pool.stacks + (uint64_t)class * sizeof(uint64_t);
}

static void *at(const dsm_session *session, uint64_t offset) {
  return (void *)(session->link.base + offset);
}

/* Executes one atomic operation of 8 bytes. Not by an instruction on the map, except in direct mode: the process would
 * die if the arbiter was gone. */
static int atomic_operation(dsm_session *session, enum dsm_atomic_op op, uint64_t offset, uint64_t operand,
                            uint64_t compare, uint64_t *old) {
  uint64_t before;
  dsm_signals_block(&before);
  int failed = session_atomic(session, op, sizeof operand, offset, &operand, &compare, old) != 0;
  dsm_signals_restore(&before);
  return failed ? link_gone(&session->link) : DSM_OK;
}

/* Reads a head, and sees what other processes have stored before they set it: also under `release`, where this process
 * may have a private copy of the page in which the batch lies. */
static int read_head(dsm_session *session, int class, uint64_t *head) {
  uint64_t offset = head_offset(session, class);
  *head = __atomic_load_n((uint64_t *)at(session, offset), __ATOMIC_ACQUIRE);
  if (HEAD_LINK(*head) == 0 || session->link.direct) return DSM_OK;
  return atomic_operation(session, DSM_ATOMIC_OR, offset, 0, 0, head);
}

/* Sets a head if it still is `*head`; `*head` becomes what was found, `*changed` tells whether it was set. */
static int change_head(dsm_session *session, int class, uint64_t *head, uint32_t link, bool *changed) {
  uint64_t offset = head_offset(session, class), expected = *head, desired = HEAD_NEXT(expected, link);
  int status = DSM_OK;
  if (session->link.direct)
    __atomic_compare_exchange_n((uint64_t *)at(session, offset), head, desired, false, __ATOMIC_ACQ_REL,
                                __ATOMIC_ACQUIRE);
  else
    status = atomic_operation(session, DSM_ATOMIC_CMPXCHG, offset, desired, expected, head);
  *changed = status == DSM_OK && *head == expected;
  return status;
}

static int store(dsm_session *session, uint64_t offset, const void *bytes, uint32_t size) {
  if (session->link.direct) {
    memcpy(at(session, offset), bytes, size);
    return DSM_OK;
  }
  struct dsm_run run = {.offset = offset, .length = size, .bytes = bytes};
  uint64_t before;
  dsm_signals_block(&before);
  int failed = session_store(session, &run, 1) != 0;
  dsm_signals_restore(&before);
  return failed ? link_gone(&session->link) : DSM_OK;
}

/* Takes the block that will hold the batch: one with room for a whole batch, else the first of the batch itself. */
static bool take_holder(struct pool *pool, int class, int *holder_class, uint64_t *holder) {
  int whole = pool_class(sizeof(struct batch), POOL_GRAIN);
  *holder_class = whole;
  if (class < whole && (pool_take(pool, whole, holder) || pool_cut(pool, whole, holder))) return true;
  *holder_class = class;
  return pool_take(pool, class, holder);
}

int pool_push(dsm_session *session, int class) {
  struct pool *pool = &session->pool;
  struct batch batch = {0};
  int holder_class;
  uint64_t holder, block;
  if (!take_holder(pool, class, &holder_class, &holder)) return DSM_OK;
  size_t room = (pool_class_size(holder_class) - BATCH_HEAD) / sizeof batch.blocks[0];
  /* A batch of a quarter of the limit at most: the process that pops it keeps most of its own blocks. */
  size_t most = pool->limit / 4 / pool_class_size(class);
  if (room > POOL_BATCH_MAX) room = POOL_BATCH_MAX;
  if (room > most) room = most;
  while (batch.count < room && pool_take(pool, class, &block))
    batch.blocks[batch.count++] = (uint32_t)(block / POOL_GRAIN) + 1;
  batch.class = (uint16_t)holder_class;
  size_t size = BATCH_HEAD + batch.count * sizeof batch.blocks[0];
  uint64_t head = __atomic_load_n((uint64_t *)at(session, head_offset(session, class)), __ATOMIC_RELAXED);
  bool is_changed = false;
  int status = DSM_OK;
  while (status == DSM_OK && !is_changed) {
    batch.next = HEAD_LINK(head);
    status = store(session, holder, &batch, (uint32_t)size);
    size = BATCH_HEAD;
    if (status == DSM_OK) status = change_head(session, class, &head, (uint32_t)(holder / POOL_GRAIN) + 1, &is_changed);
  }
  return status;
}

/* Returns whether a block of the class can lie there. */
static bool is_block(const dsm_session *session, int class, uint32_t link) {
  uint64_t size = pool_class_size(class);
  return link != 0 && (uint64_t)(link - 1) * POOL_GRAIN <= session->link.size - size;
}

/* Returns whether what was read is a batch of the class. A program that stores to memory it has freed may have
 * overwritten it. */
static bool is_batch(const dsm_session *session, int class, const struct batch *batch) {
  if (batch->count > POOL_BATCH_MAX || batch->class >= POOL_CLASSES) return false;
  if (BATCH_HEAD + batch->count * sizeof batch->blocks[0] > pool_class_size(batch->class)) return false;
  for (unsigned i = 0; i < batch->count; i++)
    if (!is_block(session, class, batch->blocks[i])) return false;
  return batch->next == 0 || is_block(session, 0, batch->next);
}

static int overwritten(uint64_t offset) {
  return dsm_fail(DSM_INVALID,
                  "a free block of the pool was overwritten, at byte %llu of the map; look for a store to memory that "
                  "was freed, or for a block that was freed twice",
                  (unsigned long long)offset);
}

int pool_pop(dsm_session *session, int class, bool *got) {
  struct pool *pool = &session->pool;
  struct batch batch;
  uint64_t head;
  uint64_t top = 0;
  *got = false;
  int status = read_head(session, class, &head);
  while (status == DSM_OK && !*got && HEAD_LINK(head) != 0) {
    if (!is_block(session, 0, HEAD_LINK(head))) return overwritten(head_offset(session, class));
    top = (uint64_t)(HEAD_LINK(head) - 1) * POOL_GRAIN;
    /* Another process may pop and use the block meanwhile. Then this reads nonsense, and the head has changed. */
    memset(&batch, 0, sizeof batch);
    memcpy(&batch, at(session, top), POOL_GRAIN);
    size_t size = BATCH_HEAD + batch.count * sizeof batch.blocks[0];
    if (size > POOL_GRAIN && size <= sizeof batch && top + size <= session->link.size)
      memcpy(&batch, at(session, top), size);
    uint64_t seen = head;
    if (is_batch(session, class, &batch)) {
      status = change_head(session, class, &head, batch.next, got);
    } else {
      status = read_head(session, class, &head);
      if (status == DSM_OK && head == seen) return overwritten(top);
    }
  }
  if (!*got) return status;
  for (unsigned i = 0; i < batch.count; i++) pool_put(pool, class, (uint64_t)(batch.blocks[i] - 1) * POOL_GRAIN);
  pool_put(pool, batch.class, top);
  return DSM_OK;
}
