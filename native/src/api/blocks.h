/* Blocks of the session's allocator, for the calls that need one. */
#ifndef DSM_BLOCKS_H
#define DSM_BLOCKS_H

#include "session/session.h"

#pragma GCC visibility push(hidden)

/* Allocates a block, or finds that of the name (NULL: none). Returns a status and keeps its reason. Between
 * session_begin() and session_end(). */
int block_allocate(dsm_session *session, const char *name, size_t size, size_t align, void **block);

/* Frees a block. Returns a status and keeps its reason. Between session_begin() and session_end(). */
int block_free(dsm_session *session, void *block);

#pragma GCC visibility pop

#endif
