#define _GNU_SOURCE
#include "link/arbiter_link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"
#include "link/interrupts.h"
#include "trap/tool.h"

/* How long a wait that was interrupted waits for the answer to its cancellation. */
#define CANCEL_TIMEOUT_MS 1000

int link_check(const struct arbiter_link *link) {
  if (link->pid != getpid())
    return dsm_fail(DSM_FORKED, "this process was forked after joining; the session belongs to its parent");
  if (atomic_load(&link->left)) return dsm_fail(DSM_LEFT, "this process has left session \"%s\"", link->name);
  if (atomic_load(&link->dead)) return link_gone(link);
  return DSM_OK;
}

static int is_reason(const struct reply *frame) {
  size_t size = sizeof frame->header;
  return frame->header.kind == WIRE_FAIL && frame->header.status != DSM_OK && frame->header.text_length > 0 &&
         frame->header.size >= size && frame->header.size <= size + REPLY_BODY_MAX &&
         frame->header.text_length <= frame->header.size - size;
}

/* Looks at the first frame on the main connection, and leaves it there: another thread may read that connection. Returns
 * whether it says why the arbiter ends. */
static int peek_reason(int fd, struct reply *frame) {
  size_t most = sizeof frame->header + REPLY_BODY_MAX;
  ssize_t got = syscall(SYS_recvfrom, fd, frame, most, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
  return got >= (ssize_t)sizeof frame->header && is_reason(frame) && frame->header.size <= (size_t)got;
}

void link_lost(struct arbiter_link *link, const struct reply *last) {
  struct reply peeked;
  int empty = 0;
  if (last == NULL || !is_reason(last)) last = peek_reason(link->main_fd, &peeked) ? &peeked : NULL;
  if (last != NULL && atomic_compare_exchange_strong(&link->reason_state, &empty, 1)) {
    memcpy(&link->reason, last, last->header.size);
    link->reason.body[last->header.text_length] = 0;
    atomic_store(&link->reason_state, 2);
  }
  atomic_store(&link->dead, 1);
}

const char *link_lost_text(const struct arbiter_link *link, char text[LINK_LOST_TEXT_BYTES]) {
  if (atomic_load(&link->reason_state) == 2) return strcpy(text, (const char *)link->reason.body);
  char *end = stpcpy(text, "the arbiter of session \"");
  end = stpcpy(end, link->name);
  stpcpy(end, "\" is gone (it was killed, or it crashed); start the session's processes again");
  return text;
}

int link_unreachable(const struct arbiter_link *link) {
  char text[LINK_LOST_TEXT_BYTES];
  return dsm_fail(DSM_UNREACHABLE, "%s", link_lost_text(link, text));
}

int link_gone(const struct arbiter_link *link) {
  if (atomic_load(&link->left)) return dsm_fail(DSM_LEFT, "this process has left session \"%s\"", link->name);
  return link_unreachable(link);
}

int link_finish(struct arbiter_link *link, int slot, int sent, struct reply *reply) {
  struct channel_pool *pool = &link->channels;
  int fd = pool->slots[slot].fd;
  int answered = sent == 0 && channel_answer(pool, slot, reply) == 0;
  int failed = !answered || reply->header.kind != WIRE_REPLY;
  if (failed) {
    link_lost(link, answered ? reply : NULL);
    if (fd >= 0) channel_break(pool, slot);
  }
  channel_release(pool, slot);
  return failed ? -1 : 0;
}

/* Sends the runs as a PUBLISH, or a single one as a STORE if `may_store`, and waits for its place in the order. */
static int publish(struct arbiter_link *link, const struct dsm_run *runs, uint32_t count, int may_store) {
  struct channel_pool *pool = &link->channels;
  int slot = channel_claim(pool, CHANNEL_STORE);
  struct channel_writer writer;
  writer.fd = channel_descriptor(pool, slot);
  writer.length = 0;
  writer.failed = writer.fd < 0;
  struct wire_header header;
  memset(&header, 0, sizeof header);
  if (count == 1 && may_store) {
    header.kind = WIRE_STORE;
    header.map_offset = runs[0].offset;
    header.bytes_length = runs[0].length;
    header.size = (uint32_t)sizeof header + padded(runs[0].length);
    writer_add(&writer, &header, sizeof header);
    writer_add(&writer, runs[0].bytes, runs[0].length);
    writer_pad(&writer, runs[0].length);
  } else {
    header.kind = WIRE_PUBLISH;
    for (uint32_t i = 0; i < count; i++) header.runs_length += 8 + padded(runs[i].length);
    header.size = (uint32_t)sizeof header + header.runs_length;
    writer_add(&writer, &header, sizeof header);
    for (uint32_t i = 0; i < count; i++) {
      uint64_t run = runs[i].offset | (uint64_t)runs[i].length << 40;
      writer_add(&writer, &run, sizeof run);
      writer_add(&writer, runs[i].bytes, runs[i].length);
      writer_pad(&writer, runs[i].length);
    }
  }
  struct reply reply;
  return link_finish(link, slot, writer_flush(&writer), &reply) == 0 && reply.header.status == DSM_OK ? 0 : -1;
}

int link_publish(struct arbiter_link *link, const struct dsm_run *runs, uint32_t count) {
  return publish(link, runs, count, 1);
}

int link_publish_ordered(struct arbiter_link *link, const struct dsm_run *runs, uint32_t count) {
  return publish(link, runs, count, 0);
}

const char *link_shortage(int error) {
  return error == EUSERS ? "the arbiter has all the connections it can have; it needs a higher limit of open files"
                         : strerror(error);
}

int link_await_answer(int fd, int timeout_ms) {
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  long long deadline = now_ms() + timeout_ms;
  for (;;) {
    long long left = timeout_ms < 0 ? -1 : deadline - now_ms();
    if (timeout_ms >= 0 && left < 0) left = 0;
    int ready = poll(&poll_fd, 1, interrupts_slice((int)left));
    if (ready > 0) return 1;
    if (interrupts_raised()) return -1;
    if (ready == 0 && left == 0) return 0;
  }
}

/* Waits for the end of a wait: 1 if its answer is to be read, 0 after its time, -1 if the interrupts end it. */
static int await_end(struct channel_pool *pool, int slot, int timeout_ms, int interruptible) {
  if (timeout_ms < 0 && !interruptible) return 1; /* channel_answer() waits */
  if (timeout_ms < 0) channel_poll(pool, slot);
  return link_await_answer(pool->slots[slot].fd, timeout_ms);
}

/* Waits for the answer to a request that is being cancelled, which the server gives. Returns 0 if the interrupts have
 * ended the wait and no answer comes soon: the server may be gone for a while. */
static int await_cancelled(int fd, int ended) {
  if (ended == 0) ended = link_await_answer(fd, -1);
  if (ended > 0) return 1;
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  long long deadline = now_ms() + CANCEL_TIMEOUT_MS;
  for (long long left; (left = deadline - now_ms()) > 0;)
    if (poll(&poll_fd, 1, (int)left) > 0) return 1;
  return 0;
}

int link_claim(struct arbiter_link *link, struct link_call *call, int wait) {
  struct channel_pool *pool = &link->channels;
  call->slot = channel_claim(pool, wait ? CHANNEL_WAIT : CHANNEL_SHORT);
  if (call->slot < 0)
    return dsm_fail(DSM_LIMIT, "%d threads of this process wait already, the limit", CHANNELS_MAX - CHANNELS_RESERVE);
  struct channel_writer *writer = &call->writer;
  writer->fd = channel_descriptor(pool, call->slot);
  if (writer->fd < 0 && channel_is_short(errno)) {
    int error = errno;
    channel_release(pool, call->slot);
    return dsm_fail(DSM_LIMIT, "no further connection to the arbiter: %s", link_shortage(error));
  }
  writer->length = 0;
  writer->failed = writer->fd < 0;
  return DSM_OK;
}

int link_send(struct arbiter_link *link, struct link_call *call, struct wire_header *header, const void *body,
              size_t body_size) {
  struct channel_writer *writer = &call->writer;
  header->size = (uint32_t)(sizeof *header + ((body_size + 7) & ~(size_t)7));
  writer_add(writer, header, sizeof *header);
  writer_add(writer, body, body_size);
  writer_pad(writer, body_size);
  /* Requests are ordered by the log, which ThreadSanitizer cannot see. */
  tool_release(link);
  call->sent = writer_flush(writer);
  return call->sent;
}

int link_await(struct arbiter_link *link, struct link_call *call, struct wire_header *header, int timeout_ms,
               int *abandoned) {
  if (abandoned != NULL) *abandoned = -1;
  int interruptible = abandoned != NULL && interrupts_are_on();
  int ended = call->sent == 0 ? await_end(&link->channels, call->slot, timeout_ms, interruptible) : 1;
  if (ended <= 0) {
    struct wire_header cancel = {.size = sizeof cancel, .kind = WIRE_SEM_CANCEL, .tag = header->tag};
    call->sent = channel_send(call->writer.fd, &cancel, sizeof cancel);
    /* A process that waits for a condition has its mutex when it goes on. */
    int may_abandon = interruptible && header->kind != WIRE_COND_WAIT;
    if (call->sent == 0 && may_abandon && !await_cancelled(call->writer.fd, ended)) {
      *abandoned = call->slot;
      return dsm_fail(DSM_TIMEOUT, "the wait was interrupted");
    }
  }
  struct reply reply;
  if (link_finish(link, call->slot, call->sent, &reply) != 0) return link_gone(link);
  tool_acquire(link);
  header->value = reply.header.value;
  if (interruptible) interrupts_note(reply.header.status);
  if (reply.header.status == DSM_OK) return DSM_OK;
  return dsm_fail(reply.header.status, "%s", (const char *)reply.body);
}

int link_request(struct arbiter_link *link, struct wire_header *header, const void *body, size_t body_size, int wait,
                 int timeout_ms) {
  struct link_call call;
  int status = link_claim(link, &call, wait);
  if (status != DSM_OK) return status;
  link_send(link, &call, header, body, body_size);
  return link_await(link, &call, header, timeout_ms, NULL);
}

int link_map_replica(const struct arbiter_link *link, uint64_t offset, uint64_t length) {
  void *place = (void *)(link->base + offset);
  int protection = link->direct ? PROT_READ | PROT_WRITE : PROT_READ;
  if (mmap(place, length, protection, MAP_SHARED | MAP_FIXED, link->map_fd, (off_t)offset) == MAP_FAILED) return -1;
  /* A forked child must not use the map: without the pages its loads fault, too, and it gets the message. */
  return madvise(place, length, MADV_DONTFORK);
}
