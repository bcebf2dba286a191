#define _GNU_SOURCE
#include "watch.h"

#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "session.h"
#include "status.h"
#include "tool.h"

/* What glibc puts there for each thread, which a program with large thread-local variables makes large, included. */
#define STACK_BYTES (256u << 10)

static int say(const dsm_session *session, uint8_t op) {
  struct wire_header header = {.size = sizeof header, .kind = WIRE_CHANGE, .op = op};
  return channel_send(session->main_fd, &header, sizeof header);
}

static void *watch(void *argument) {
  dsm_session *session = argument;
  struct watch *watch = &session->watch;
  struct reply reply;
  int failed;
  tool_enter();
  while ((failed = channel_receive_frame(session->main_fd, &reply)) == 0 && reply.header.kind == WIRE_CHANGE) {
    hole_end_direct(session);
    say(session, WIRE_CHANGE_CLOSED);
  }
  if (!failed && reply.header.kind == WIRE_REPLY && watch->answer != NULL) {
    *watch->answer = reply;
  } else {
    /* Nobody is there any more, or these were the arbiter's last words. */
    watch->failed = 1;
    atomic_store(&session->dead, 1);
    hole_end_direct(session);
  }
  tool_leave();
  atomic_store(&watch->over, 1);
  syscall(SYS_futex, &watch->over, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
  return NULL;
}

int watch_begin(dsm_session *session) {
  session->watch.on = 1;
  int error = session_start_thread(watch, session, STACK_BYTES);
  if (error != 0) {
    session->watch.on = 0;
    return dsm_fail(DSM_SYSTEM, "cannot start a thread to watch for others: %s", strerror(error));
  }
  if (say(session, WIRE_CHANGE_WATCH) != 0) {
    watch_stop(session);
    return dsm_fail(DSM_UNREACHABLE, "the arbiter of session \"%s\" is gone", session->name);
  }
  return DSM_OK;
}

static void await_end(struct watch *watch) {
  while (atomic_load(&watch->over) == 0)
    syscall(SYS_futex, &watch->over, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

int watch_leave(dsm_session *session, const struct wire_header *leave, struct reply *answer) {
  struct watch *watch = &session->watch;
  watch->answer = answer;
  if (channel_send(session->main_fd, leave, sizeof *leave) != 0)
    return -1;
  await_end(watch);
  return watch->failed ? -1 : 0;
}

void watch_stop(dsm_session *session) {
  if (!session->watch.on)
    return;
  syscall(SYS_shutdown, session->main_fd, SHUT_RDWR);
  await_end(&session->watch);
}
