#define _GNU_SOURCE
#include "session/direct_exit.h"

#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "link/thread.h"
#include "session/session.h"
#include "base/status.h"
#include "trap/tool.h"

/* What glibc puts there for each thread, which a program with large thread-local variables makes large, included. */
#define STACK_BYTES (256u << 10)

static int send_change(const dsm_session *session, uint8_t op) {
  struct wire_header header = {.size = sizeof header, .kind = WIRE_CHANGE, .op = op};
  return channel_send(session->link.main_fd, &header, sizeof header);
}

static void *await_exit(void *argument) {
  dsm_session *session = argument;
  struct direct_exit *direct_exit = &session->direct_exit;
  struct reply reply;
  int failed;
  tool_enter();
  while ((failed = channel_receive_frame(session->link.main_fd, &reply)) == 0 && reply.header.kind == WIRE_CHANGE) {
    pages_close_direct(&session->pages);
    send_change(session, WIRE_CHANGE_CLOSED);
  }
  if (!failed && reply.header.kind == WIRE_REPLY && direct_exit->answer != NULL) {
    *direct_exit->answer = reply;
  } else {
    /* Nobody is there any more, or these were the arbiter's last words. */
    direct_exit->failed = 1;
    atomic_store(&session->link.dead, 1);
    pages_close_direct(&session->pages);
  }
  tool_leave();
  atomic_store(&direct_exit->over, 1);
  syscall(SYS_futex, &direct_exit->over, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
  return NULL;
}

int direct_exit_begin(dsm_session *session) {
  session->direct_exit.on = 1;
  int error = thread_start(await_exit, session, STACK_BYTES);
  if (error != 0) {
    session->direct_exit.on = 0;
    return dsm_fail(DSM_SYSTEM, "cannot start a thread to watch for others: %s", strerror(error));
  }
  if (send_change(session, WIRE_CHANGE_WATCH) != 0) {
    direct_exit_stop(session);
    return dsm_fail(DSM_UNREACHABLE, "the arbiter of session \"%s\" is gone", session->link.name);
  }
  return DSM_OK;
}

static void await_end(struct direct_exit *direct_exit) {
  while (atomic_load(&direct_exit->over) == 0)
    syscall(SYS_futex, &direct_exit->over, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

int direct_exit_leave(dsm_session *session, const struct wire_header *leave, struct reply *answer) {
  struct direct_exit *direct_exit = &session->direct_exit;
  direct_exit->answer = answer;
  if (channel_send(session->link.main_fd, leave, sizeof *leave) != 0)
    return -1;
  await_end(direct_exit);
  return direct_exit->failed ? -1 : 0;
}

void direct_exit_stop(dsm_session *session) {
  if (!session->direct_exit.on)
    return;
  syscall(SYS_shutdown, session->link.main_fd, SHUT_RDWR);
  await_end(&session->direct_exit);
}
