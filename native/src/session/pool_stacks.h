/* The free blocks that the pools of all processes share: one stack of batches for each class, in a page of the map.
 *
 * A batch is a free block that holds the positions of other free blocks. A process that has too many free blocks pushes
 * a batch, and one that needs some pops one, whichever process has allocated them. A stack changes by one atomic
 * operation, so that the death of a process never leaves it half changed: the blocks of a batch belong to the stack or
 * to one process. */
#ifndef DSM_POOL_STACKS_H
#define DSM_POOL_STACKS_H

#include "session/session.h"

/* Blocks that one batch lists, at most. */
#define POOL_BATCH_MAX 62u

/* The named block with the stacks. Another format gets another name: a snapshot may be older than the program. */
#define POOL_STACKS_NAME "dsm pool 1"
#define POOL_STACKS_BYTES 4096u

#pragma GCC visibility push(hidden)

/* Moves free blocks of the class from the pool to the shared stack, as one batch. Returns a status and keeps its
 * reason; unless it is DSM_OK, these blocks are lost. The lock of the pool is held. */
int pool_push(dsm_session *session, int class);

/* Moves a batch from the shared stack to the pool; `*got` tells whether there was one. Returns a status and keeps its
 * reason. The lock of the pool is held. */
int pool_pop(dsm_session *session, int class, bool *got);

#pragma GCC visibility pop

#endif
