/* ArbiterLink: the connections of a process to the arbiter of one session, and the map that the arbiter maintains.
 *
 * All communication with the arbiter goes through it. `dead` is set when a connection ends unexpectedly and is never
 * cleared: from then on nothing can be ordered. `left` is set when the process leaves. */
#ifndef DSM_ARBITER_LINK_H
#define DSM_ARBITER_LINK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <dsm/dsm.h>
#include "link/channel.h"
#include "trap/sink.h"

#define PAGE_BYTES 4096u

struct arbiter_link {
  char name[DSM_NAME_MAX + 1]; /* of the session */
  uint32_t rank;
  pid_t pid; /* the process that joined */
  uintptr_t base;
  uint64_t size; /* of the map, bytes */
  int main_fd; /* its end tells the arbiter that the process has ended; read by the direct_exit thread only, if any */
  int map_fd; /* the replica; read-write in direct mode (also after its end) and under release and pipelined, else read-only */
  int elastic; /* processes may join while it runs */
  atomic_int direct; /* all processes are on this node and share the replica read-write. Changed once, under the lock of
                        the pages; from then on the map is as in any other session */
  atomic_int left; /* this process has left; the handle stays for a while, so that later calls return DSM_LEFT */
  atomic_int dead; /* the arbiter is gone: nothing can be ordered any more; set by link_lost() */
  atomic_int reason_state; /* of `reason`: 0 empty, 1 being written, 2 complete */
  struct reply reason; /* FAIL, with which the arbiter said why it ends; it may not have come to that */
  struct channel_pool channels;
};

/* Returns where the page marks end in the map's file: a byte a page behind the map, rounded up to whole pages. Behind them
 * come the ring, under `release` and `pipelined`, and the cells. */
static inline uint64_t link_marks_end(uint64_t map_size) {
  uint64_t marks = map_size / PAGE_BYTES;
  return map_size + ((marks + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1));
}

#pragma GCC visibility push(hidden)

/* Returns DSM_OK if this process may use the session now, else a status, and keeps its reason. */
int link_check(const struct arbiter_link *link);

/* Notes that the connection to the arbiter has ended, and why, if the arbiter has said so: in `last`, its last frame on
 * any channel (NULL: none was read), or on the main connection. handler-safe. */
void link_lost(struct arbiter_link *link, const struct reply *last);

/* Enough for every link_lost_text(). */
#define LINK_LOST_TEXT_BYTES (REPLY_BODY_MAX + 1)

/* Writes why nothing can be ordered any more and what to do, in words, and returns `text`. handler-safe. */
const char *link_lost_text(const struct arbiter_link *link, char text[LINK_LOST_TEXT_BYTES]);

/* Fails because the arbiter is gone, with the text of link_lost_text(). */
int link_unreachable(const struct arbiter_link *link);

/* Fails because the connection to the arbiter has ended: the arbiter is gone, or this process has left meanwhile. */
int link_gone(const struct arbiter_link *link);

/* A request on a channel of its own, in three steps: claim the channel, send, await. */
struct link_call {
  int slot; /* of the channel */
  int sent; /* 0 if sending succeeded */
  struct channel_writer writer; /* frames added before are sent with the request */
};

/* Claims a channel for a request; `wait` as in link_request(). Returns a status and keeps its reason. */
int link_claim(struct arbiter_link *link, struct link_call *call, int wait);

/* Sends the request. Returns 0, or -1: then link_await() fails. */
int link_send(struct arbiter_link *link, struct link_call *call, struct wire_header *header, const void *body,
              size_t body_size);

/* Waits for the answer and releases the channel, as link_request() does. With `abandoned`, the thread's interrupts may end
 * the wait, too: then it gives DSM_TIMEOUT, or what it got meanwhile. *abandoned is -1; or the claimed channel of a wait
 * whose cancellation was not answered soon: the caller sees to it that link_finish() reads the answer. */
int link_await(struct arbiter_link *link, struct link_call *call, struct wire_header *header, int timeout_ms,
               int *abandoned);

/* Sends one request on a channel of the pool and waits for its answer. `wait` is for requests that may take long. After
 * timeout_ms (< 0: no limit) the request is cancelled. Returns a status and keeps its reason; header->value gets the
 * value of the answer. */
int link_request(struct arbiter_link *link, struct wire_header *header, const void *body, size_t body_size, int wait,
                 int timeout_ms);

/* Publishes runs as one log entry and waits until it is ordered. Returns 0, or -1 if the arbiter is gone.
 * handler-safe. */
int link_publish(struct arbiter_link *link, const struct dsm_run *runs, uint32_t count);

/* Does the same for runs in the order of the program: every node applies them, and the words of each, in their sequence.
 * With 8 bytes for each run they are at most WIRE_PUBLISH_PART_MAX. */
int link_publish_ordered(struct arbiter_link *link, const struct dsm_run *runs, uint32_t count);

/* Reads the answer to a request on a claimed channel (`sent`: 0 if sending it succeeded) and releases the channel.
 * Returns 0, or -1 if the arbiter is gone. handler-safe. */
int link_finish(struct arbiter_link *link, int slot, int sent, struct reply *reply);

/* Returns 1 when an answer can be read, 0 after the timeout (< 0: there is none), -1 if the thread's interrupts end the
 * wait. */
int link_await_answer(int fd, int timeout_ms);

/* Returns a text for an error for which channel_is_short() is true. */
const char *link_shortage(int error);

/* Remaps [offset, offset + length) of the map from the replica. Returns 0, or -1 with errno. handler-safe. */
int link_map_replica(const struct arbiter_link *link, uint64_t offset, uint64_t length);

#pragma GCC visibility pop

#endif
