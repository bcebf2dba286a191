/* Sleeping on a value of the map, and fences. */
#include "sync/wait.h"
#include "base/size.h"
#include "base/status.h"
#include "pages/release.h"
#include "session/session.h"

/* Checks that `width` bytes at `address` are in the map and can be slept on. */
static int check_place(const dsm_session *session, const void *address, size_t width) {
  uint64_t offset = (uintptr_t)address - session->link.base;
  if (width != 1 && width != 2 && width != 4 && width != 8)
    return dsm_fail(DSM_INVALID, "a value of %zu bytes cannot be waited on; use 1, 2, 4 or 8", width);
  if ((uintptr_t)address >= session->link.base && offset < session->link.size && width <= session->link.size - offset)
    return DSM_OK;
  char advice[SIZE_ADVICE_BYTES];
  return (uintptr_t)address < session->link.base || offset >= DSM_SIZE_MAX
             ? dsm_fail(DSM_INVALID, "%p is not in the map", address)
             : dsm_fail(DSM_INVALID, "byte %llu is not in the map of %llu bytes; %s", (unsigned long long)offset,
                        (unsigned long long)session->link.size, size_advice(offset + width, SIZE_ROOM(offset), advice));
}

int dsm_wait_while(dsm_session *session, const void *address, size_t width, uint64_t value, int32_t timeout_ms) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = check_place(session, address, width);
  if (status == DSM_OK) {
    struct wire_header header = {
        .kind = WIRE_FUTEX_WAIT,
        .map_offset = (uintptr_t)address - session->link.base,
        .width = (uint32_t)width,
    };
    status = session_wait(session, &header, &value, sizeof value, timeout_ms);
    if (status == DSM_OK || status == DSM_AGAIN) {
      int caught_up = release_stores(&session->pages);
      status = caught_up != DSM_OK ? caught_up : status;
    }
    if (status == DSM_AGAIN)
      status = dsm_fail(status, "the place holds another value");
    else if (status == DSM_TIMEOUT)
      status = dsm_fail(status, "no process woke this one within %d ms", timeout_ms);
  }
  session_end(session);
  return status;
}

int dsm_wake(dsm_session *session, const void *address, uint32_t count, uint32_t *woken) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  status = check_place(session, address, 1);
  if (status == DSM_OK) {
    struct wire_header header = {
        .kind = WIRE_FUTEX_WAKE, .map_offset = (uintptr_t)address - session->link.base, .count = count};
    status = release_request(&session->pages, &header, NULL, 0, 0, -1, NULL);
    if (status == DSM_OK && woken != NULL) *woken = (uint32_t)header.value;
  }
  session_end(session);
  return status;
}

int dsm_fence(dsm_session *session) {
  int status = session_begin(session);
  if (status != DSM_OK) return status;
  /* A sequential store returns when it is applied and has its number; only released and queued stores need a wait
   * here. */
  status = release_stores(&session->pages);
  if (status == DSM_OK && session->ring.header != NULL && !session->link.direct && !ring_is_empty(&session->ring)) {
    struct wire_header header = {.kind = WIRE_FENCE};
    status = link_request(&session->link, &header, NULL, 0, 1, -1);
  }
  session_end(session);
  return status;
}
