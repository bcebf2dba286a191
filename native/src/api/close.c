/* dsm_close: leaves a session. */
#define _GNU_SOURCE

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/pool_calls.h"
#include "base/clock.h"
#include "base/status.h"
#include "pages/release.h"
#include "session/departed_maps.h"
#include "session/handles.h"
#include "session/session.h"
#include "trap/region.h"
#include "trap/tool.h"

/* How long a process that has left waits for the arbiter to close its connection. */
#define ARBITER_END_TIMEOUT_MS 5000

/* Sends LEAVE. Returns 0 with the answer, or -1 if the arbiter is gone. */
static int send_leave(dsm_session *session, const struct wire_header *leave, struct reply *answer) {
  if (session->direct_exit.is_on) return direct_exit_leave(&session->direct_exit, leave, answer);
  return channel_send(session->link.main_fd, leave, sizeof *leave) != 0
             ? -1
             : channel_receive(session->link.main_fd, answer);
}

/* Shuts the connection down for writing and waits until the arbiter closes it too. The arbiter closes it at once or,
 * for the last process of the node, after it has finished its work: a container may end with its last process, and
 * would kill the arbiter. */
static void await_farewell(const dsm_session *session) {
  struct pollfd connection = {.fd = session->link.main_fd, .events = POLLRDHUP};
  long long deadline = now_ms() + ARBITER_END_TIMEOUT_MS;
  if (shutdown(session->link.main_fd, SHUT_WR) != 0) return;
  for (long long left; (left = deadline - now_ms()) > 0;)
    if (poll(&connection, 1, (int)left) > 0) return;
}

static int close_session(dsm_session *session) {
  if (session == NULL) return dsm_fail(DSM_INVALID, "the session is NULL");
  if (session->link.pid != getpid())
    return dsm_fail(DSM_FORKED, "this process was forked after joining; the session belongs to its parent");
  if (session_check_stack() != DSM_OK) return DSM_INVALID;
  pool_close(session);
  if (atomic_exchange(&session->link.left, 1))
    return dsm_fail(DSM_LEFT, "this process has left session \"%s\" before", session->link.name);
  /* Before LEAVE: another process may have this one's rank then, and its mark in the cells. */
  cells_retire(&session->cells);
  int released = release_stores(&session->pages);
  /* Wait for stores in progress, then for holes being filled; later calls find the session left. */
  dsm_region_leave(session->region);
  /* A departed process no longer writes to the map. */
  if (session->direct_exit.is_on) pages_close_direct(&session->pages);
  pages_drop(&session->pages);
  int status = released;
  struct wire_header leave = {.size = sizeof leave, .kind = WIRE_LEAVE};
  struct reply reply;
  int answered = !atomic_load(&session->link.dead) && send_leave(session, &leave, &reply) == 0;
  if (!answered) {
    link_lost(&session->link, NULL);
    status = link_unreachable(&session->link);
  } else if (reply.header.kind != WIRE_REPLY || reply.header.status != DSM_OK) {
    status = dsm_fail(reply.header.status != 0 ? reply.header.status : DSM_PROTOCOL, "%s", (const char *)reply.body);
  }
  /* By now the arbiter has answered the waits of other threads, or their connections have ended. */
  session_await_calls(session);
  int copied = replace_with_copy(&session->link) == 0;
  int reason = errno;
  dsm_region_copied(session->region, copied);
  if (!copied && status == DSM_OK)
    status = dsm_fail(DSM_NO_MEMORY, "no memory to keep the map's last state: %s", strerror(reason));

  handles_lock();
  handles_remove(session);
  departed_map_add(&session->link, session->region);
  handles_unlock();
  if (!atomic_load(&session->link.dead)) await_farewell(session);
  direct_exit_stop(&session->direct_exit);
  session_release_resources(session);
  handle_keep(session);
  return status;
}

int dsm_close(dsm_session *session) {
  tool_enter();
  int status = close_session(session);
  tool_leave();
  return status;
}
