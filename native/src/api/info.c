/* Queries about an open session. */

#include "session/names.h"
#include "base/size.h"
#include "base/status.h"
#include "session/handles.h"
#include "session/session.h"

int dsm_session_at(const void *address, dsm_session **session) {
  if (session == NULL) return dsm_fail(DSM_INVALID, "nowhere to put the session");
  *session = NULL;
  dsm_session *found = handle_of(address);
  if (found == NULL)
    return dsm_fail(DSM_INVALID, "%p is in the map of no session that this process has joined", address);
  /* The next call checks all else; this one is made for each block that a container takes. */
  int status = atomic_load(&found->link.left) ? session_check(found) : DSM_OK;
  if (status == DSM_OK) *session = found;
  return status;
}

const char *dsm_size_advice(uint64_t bytes) {
  static __thread char text[SIZE_ADVICE_BYTES];
  return size_advice(bytes, SIZE_ROOM(bytes), text);
}

int dsm_rank(const dsm_session *session) {
  return (int)session->link.rank;
}

int dsm_processes(const dsm_session *session) {
  return (int)atomic_load(&session->processes);
}

void *dsm_address(const dsm_session *session) {
  return (void *)session->link.base;
}

size_t dsm_size(const dsm_session *session) {
  return session->link.size;
}

const char *dsm_node(const dsm_session *session) {
  return session->node;
}

const char *dsm_name(const dsm_session *session) {
  return session->link.name;
}

const char *dsm_order(const dsm_session *session) {
  return order_name(session->order);
}

const char *dsm_on_loss(const dsm_session *session) {
  return on_loss_name(session->on_loss);
}

int dsm_is_direct(const dsm_session *session) {
  return session->link.direct;
}
