/* Allocation in the map. Allocations are log entries, so every process sees the same blocks and the map holds no
 * metadata. */
#include "api/blocks.h"

#include <string.h>

#include "session/names.h"
#include "base/size.h"
#include "base/status.h"
#include "pages/release.h"

#define NAMED_ALIGN 64u
#define ALIGN_MAX 4096u

int block_allocate(dsm_session *session, const char *name, size_t size, size_t align, void **block) {
  if (block == NULL) return dsm_fail(DSM_INVALID, "nowhere to put the block's address");
  if (size == 0) return dsm_fail(DSM_INVALID, "a block of 0 bytes is not possible; give it 1 byte or more");
  char advice[SIZE_ADVICE_BYTES];
  unsigned long long map_size = session->link.size;
  if (size > map_size)
    return dsm_fail(DSM_NO_MEMORY, "a block of %zu bytes does not fit in the map of %llu bytes of session \"%s\"; %s",
                    size, map_size, session->link.name, size_advice(size, SIZE_ROOM(size), advice));
  if (align == 0 || align > ALIGN_MAX || (align & (align - 1)) != 0)
    return dsm_fail(DSM_INVALID, "an alignment of %zu is not a power of two up to %u", align, ALIGN_MAX);
  size_t length = name != NULL ? strlen(name) : 0;
  struct wire_header header = {
      .kind = name != NULL ? WIRE_NAMED : WIRE_ALLOC,
      .bytes = size,
      .name_length = (uint32_t)length,
      .alignment = (uint32_t)align,
  };
  /* Stores of this process to an earlier block there must be ordered before the zeros. */
  int status = release_request(&session->pages, &header, name, length, 0, -1, NULL);
  if (status == DSM_NO_MEMORY && header.value == 0)
    return dsm_fail(status, "session \"%s\" has %u blocks, the limit; free some, or make fewer and larger ones",
                    session->link.name, WIRE_BLOCKS_MAX);
  /* A program that fills the map goes on allocating: twice the map is room for that. */
  if (status == DSM_NO_MEMORY)
    return dsm_fail(status,
                    "no gap of %zu bytes is left in the map of %llu bytes of session \"%s\"; free blocks, or %s", size,
                    map_size, session->link.name, size_advice(header.value, map_size, advice));
  if (status == DSM_MISMATCH && name != NULL)
    return dsm_fail(status, "block \"%s\" has %llu bytes in session \"%s\", not %zu; give all processes the same size",
                    name, (unsigned long long)header.value, session->link.name, size);
  /* Pages that other threads have opened in the meantime lack the zeros. */
  if (status == DSM_OK) status = release_stores(&session->pages);
  if (status != DSM_OK) return status;
  if (header.value > session->link.size - size || (name == NULL && header.value % align != 0))
    return dsm_fail(DSM_PROTOCOL, "the arbiter gave a block outside the map, or one that is not aligned");
  *block = (void *)(session->link.base + header.value);
  return DSM_OK;
}

int dsm_alloc(dsm_session *session, size_t size, size_t align, void **block) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = block_allocate(session, NULL, size, align, block);
  session_end(session);
  return status;
}

int dsm_named(dsm_session *session, const char *name, size_t size, void **block) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = name_check("block", name);
  if (status == DSM_OK) status = block_allocate(session, name, size, NAMED_ALIGN, block);
  session_end(session);
  return status;
}

int block_free(dsm_session *session, void *block) {
  uint64_t offset = (uintptr_t)block - session->link.base;
  if ((uintptr_t)block < session->link.base || offset >= session->link.size)
    return dsm_fail(DSM_INVALID, "%p is not in the map", block);
  struct wire_header header = {.kind = WIRE_FREE, .map_offset = offset};
  int status = release_request(&session->pages, &header, NULL, 0, 0, -1, NULL);
  if (status == DSM_INVALID) status = dsm_fail(status, "no block begins at %p; was it freed before?", block);
  return status;
}

int dsm_free(dsm_session *session, void *block) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = block_free(session, block);
  session_end(session);
  return status;
}
