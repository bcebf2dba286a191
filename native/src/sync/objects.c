#include "sync/objects.h"

#include "base/cancel.h"
#include "base/status.h"
#include "pages/release.h"
#include "session/handles.h"

int object_find_in(dsm_session *session, struct object *object, const char *what, const void *address, size_t size,
                   size_t align) {
  uint64_t offset = (uintptr_t)address - session->link.base;
  if ((offset & (align - 1)) != 0)
    return dsm_fail(DSM_INVALID, "the %s at %p is not aligned; put it at a multiple of %zu", what, address, align);
  if (size > session->link.size - offset)
    return dsm_fail(DSM_INVALID, "the %s at %p ends behind the map", what, address);
  struct object_state *state = object_state_at(&session->objects, session->link.size, offset);
  if (state == NULL)
    return dsm_fail(DSM_NO_MEMORY, "no room for the state of objects in an address space; lift its limit (ulimit -v)");
  *object = (struct object){session, offset, state};
  return DSM_OK;
}

int object_find(struct object *object, const char *what, const void *address, size_t size, size_t align) {
  dsm_session *session = handle_at(address);
  if (session != NULL) return object_find_in(session, object, what, address, size, align);
  session = handle_of(address); /* one that was left */
  int status = session != NULL ? session_check(session) : DSM_OK;
  return status != DSM_OK
             ? status
             : dsm_fail(DSM_INVALID, "the %s at %p is not in the map of a session of this process", what, address);
}

int object_init(const struct object *object, uint8_t kind, uint32_t initial) {
  dsm_session *session = object->session;
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  struct wire_header header = {
      .kind = WIRE_OBJECT_INIT, .object_kind = kind, .map_offset = object->offset, .initial = initial};
  int cancel = cancel_disable();
  status = release_request(&session->pages, &header, NULL, 0, 0, -1, NULL);
  cancel_restore(cancel);
  /* A block that was freed with a mutex that was locked leaves its owner here. */
  struct object_state *state = object->state;
  if (status == DSM_OK && atomic_exchange(&state->owner, 0) != 0) {
    state->depth = 0;
    state->has_turn = 0;
    state->is_kept = 0;
    atomic_store(&state->turn, 0);
  }
  session_end(session);
  return status;
}
