/* Holes, as programs dig and fill them. */

#include "pages/hole.h"
#include "session/session.h"

int dsm_hole_dig(dsm_session *session, void *address, size_t size, int *id) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = hole_dig(&session->pages, address, size, id);
  session_end(session);
  return status;
}

int dsm_hole_fill(dsm_session *session, int id) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = hole_fill(&session->pages, id);
  session_end(session);
  return status;
}
