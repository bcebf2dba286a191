#define _GNU_SOURCE
#include "session/direct_exit.h"

#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"
#include "link/thread.h"
#include "trap/tool.h"

/* Includes what glibc puts on each stack, among it the thread-local variables of the program, which may be large. */
#define STACK_BYTES (256u << 10)

static int send_change(const struct direct_exit *exit, uint8_t op) {
  struct wire_header header = {.size = sizeof header, .kind = WIRE_CHANGE, .op = op};
  return channel_send(exit->link->main_fd, &header, sizeof header);
}

static void *await_exit(void *argument) {
  struct direct_exit *exit = argument;
  struct reply reply;
  int failed;
  tool_enter();
  while ((failed = channel_receive_frame(exit->link->main_fd, &reply)) == 0 && reply.header.kind == WIRE_CHANGE) {
    pages_close_direct(exit->pages);
    send_change(exit, WIRE_CHANGE_CLOSED);
  }
  if (!failed && reply.header.kind == WIRE_REPLY && exit->answer != NULL) {
    *exit->answer = reply;
  } else {
    /* The arbiter has exited, or this was its last frame. */
    exit->failed = 1;
    link_lost(exit->link, failed ? NULL : &reply);
    pages_close_direct(exit->pages);
  }
  tool_leave();
  atomic_store(&exit->over, 1);
  syscall(SYS_futex, &exit->over, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
  return NULL;
}

int direct_exit_begin(struct direct_exit *exit, struct arbiter_link *link, struct pages *pages) {
  exit->link = link;
  exit->pages = pages;
  exit->is_on = 1;
  int error = thread_start(await_exit, exit, STACK_BYTES);
  if (error != 0) {
    exit->is_on = 0;
    return dsm_fail(DSM_SYSTEM, "cannot start the thread that waits for the end of direct mode: %s", strerror(error));
  }
  if (send_change(exit, WIRE_CHANGE_WATCH) != 0) {
    direct_exit_stop(exit);
    return link_unreachable(exit->link);
  }
  return DSM_OK;
}

static void await_end(struct direct_exit *exit) {
  while (atomic_load(&exit->over) == 0) syscall(SYS_futex, &exit->over, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

int direct_exit_leave(struct direct_exit *exit, const struct wire_header *leave, struct reply *answer) {
  exit->answer = answer;
  if (channel_send(exit->link->main_fd, leave, sizeof *leave) != 0) return -1;
  await_end(exit);
  return exit->failed ? -1 : 0;
}

void direct_exit_stop(struct direct_exit *exit) {
  if (!exit->is_on) return;
  syscall(SYS_shutdown, exit->link->main_fd, SHUT_RDWR);
  await_end(exit);
}
