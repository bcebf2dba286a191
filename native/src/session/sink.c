/* The sink. It puts a captured store into a private page (pages/), else into the ring of the node under pipelined, else
 * sends it to the arbiter as an entry of its own. All of it is handler-safe. */
#define _GNU_SOURCE
#include "session/sink.h"

#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "pages/release.h"
#include "session/session.h"
#include "trap/region.h"

/* Not write(), which is a cancellation point: a cancelled thread would end in the middle of a store. */
static void say(const char *text, size_t length) {
  syscall(SYS_write, STDERR_FILENO, text, length);
}

static void report_arbiter_gone(const dsm_session *session) {
  static const char what[] = "dsm: a store cannot be shared any more: ";
  char text[sizeof what + LINK_LOST_TEXT_BYTES], why[LINK_LOST_TEXT_BYTES];
  char *at = stpcpy(stpcpy(stpcpy(text, what), link_lost_text(&session->link, why)), "\n");
  say(text, (size_t)(at - text));
}

/* Prints the advice once. If stderr is not writable at once, prints nothing: a slow reader must not delay a store. */
static void advise(dsm_session *session) {
  struct advice_figures figures;
  char text[400];
  struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
  if (advice_due(&session->advice, now_ns(), &figures) && syscall(SYS_poll, &out, 1, 0) == 1 &&
      (out.revents & POLLOUT) != 0)
    say(text, advice_text(text, sizeof text, session->link.rank, &figures));
}

/* Publishes a store that does not fit a frame: through the staging area, as the changes in a hole go. Returns 0, or -1 if the arbiter is gone. */
static int publish_large(dsm_session *session, const struct dsm_run *run) {
  int published = pages_publish(&session->pages, run);
  if (published <= 0) return published;
  if (published == PAGES_HOLE) return session_store(session, run, 1);
  /* There is no staging area: it goes in pieces that fit a frame. */
  struct dsm_run piece = {.offset = run->offset, .bytes = run->bytes};
  for (uint32_t left = run->length; left > 0; left -= piece.length) {
    piece.length = DSM_STORE_BYTES_MAX - piece.offset % DSM_STORE_BYTES_MAX;
    if (piece.length > left) piece.length = left;
    int result = session_store(session, &piece, 1);
    if (result != 0) return result;
    piece.offset += piece.length;
    piece.bytes += piece.length;
  }
  return 0;
}

/* Returns whether a process goes on when its store is in the ring of the node. */
static int queues_stores(const dsm_session *session) {
  return session->order == ORDER_PIPELINED && session->ring.header != NULL;
}

/* Publishes a store outside all private pages, which fits a frame. Returns 0, or -1 if the arbiter is gone. */
static int publish_store(dsm_session *session, const struct dsm_run *runs, uint32_t count) {
  if (count == 1 && advice_note(&session->advice, runs[0].offset, runs[0].length)) advise(session);
  if (queues_stores(session)) {
    int queued = ring_store(&session->ring, runs, count);
    if (queued != 0) return queued > 0 ? 0 : -1;
  }
  return link_publish(&session->link, runs, count);
}

static int sink_fault(void *context, uintptr_t address, int atomic, uintptr_t instruction) {
  dsm_session *session = context;
  int opened = pages_fault(&session->pages, address, atomic, instruction);
  if (opened < 0) report_arbiter_gone(session);
  return opened;
}

static int64_t sink_open(void *context, uint64_t offset, uint64_t length, uintptr_t instruction) {
  dsm_session *session = context;
  return session->link.direct ? (int64_t)length : pages_open(&session->pages, offset, length, instruction);
}

/* Reports the only failure of a store that is not caused by the arbiter: no memory for a page of a hole. */
static void say_no_page(void) {
  static const char text[] =
      "dsm: no memory for a page of a hole, or no room for one more mapping: the store cannot be kept\n";
  say(text, sizeof text - 1);
}

/* Publishes a burst outside all private pages. Returns 0, or -1 if the arbiter is gone. */
static int publish_burst(dsm_session *session, const struct dsm_run *runs, uint32_t count) {
  if (queues_stores(session)) {
    int queued = ring_store(&session->ring, runs, count);
    if (queued != 0) return queued > 0 ? 0 : -1;
  }
  /* What is no longer than one store of a vector is written word by word in any case. */
  if (count == 1 && runs[0].length <= 64) return link_publish(&session->link, runs, 1);
  return link_publish_ordered(&session->link, runs, count);
}

typedef int publish_runs(dsm_session *session, const struct dsm_run *runs, uint32_t count);

static int is_large(const struct dsm_run *runs, uint32_t count) {
  return count == 1 && runs[0].length > DSM_STORE_BYTES_MAX;
}

/* Publishes a store that is under way, and ends that. Returns 0, or negative as session_store() does. */
static int publish_under_way(dsm_session *session, const struct dsm_run *runs, uint32_t count, publish_runs *publish) {
  /* A large one needs the lock of the pages, and looks for holes itself. A burst fits. */
  int large = publish == publish_store && is_large(runs, count);
  int result = large ? 0 : publish(session, runs, count);
  pages_store_ended(&session->pages);
  return large ? publish_large(session, runs) : result;
}

/* Stores to private pages what belongs there, and publishes the rest. Returns 0, or negative as session_store() does. */
static int store(dsm_session *session, const struct dsm_run *runs, uint32_t count, publish_runs *publish) {
  struct pages *pages = &session->pages;
  pages_store_begins(pages);
  if (atomic_load(&pages->count) == 0) return publish_under_way(session, runs, count, publish);
  pages_store_ended(pages);
  struct store_progress progress = {.runs = runs, .count = count};
  int result = 0;
  while (progress.count > 0 && result == 0) {
    struct dsm_run rest[32];
    /* Of a large store each part is published before the next one is looked at: that takes long, and another thread
     * may dig or fill a hole meanwhile. */
    int left = pages_store(pages, &progress, rest, is_large(progress.runs, 1) ? 1 : 32);
    if (left < 0) {
      say_no_page();
      return -2;
    }
    if (left > 0) result = publish_under_way(session, rest, (uint32_t)left, publish);
  }
  return result;
}

int session_store(dsm_session *session, const struct dsm_run *runs, uint32_t count) {
  return store(session, runs, count, publish_store);
}

int session_atomic(dsm_session *session, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                   const void *compare, void *old) {
  if (release_publish(&session->pages) != 0) return -1;
  pages_store_begins(&session->pages);
  if (atomic_load(&session->pages.count) > 0) {
    pages_store_ended(&session->pages);
    int done = pages_atomic(&session->pages, op, width, offset, operand, compare, old);
    if (done == 1) return 0;
    if (done == -2) say_no_page();
    if (done == -1) {
      static const char text[] = "dsm: an atomic operation across the edge of a hole is not possible\n";
      say(text, sizeof text - 1);
    }
    if (done < 0) return -2;
  }
  struct {
    struct wire_header header;
    uint8_t operand[16];
    uint8_t compare[16];
  } frame;
  memset(&frame, 0, sizeof frame);
  frame.header.size = sizeof frame;
  frame.header.kind = WIRE_ATOMIC;
  frame.header.op = (uint8_t)op;
  frame.header.map_offset = offset;
  frame.header.width = width;
  if (operand != NULL) memcpy(frame.operand, operand, width);
  if (compare != NULL) memcpy(frame.compare, compare, width);
  struct channel_pool *pool = &session->link.channels;
  int slot = channel_claim(pool, CHANNEL_STORE);
  int fd = channel_descriptor(pool, slot);
  int sent = fd < 0 ? -1 : channel_send(fd, &frame, sizeof frame);
  struct reply reply;
  int answered = link_finish(&session->link, slot, sent, &reply);
  pages_store_ended(&session->pages);
  if (answered != 0 || reply.header.status != DSM_OK || reply.header.body_length != 16 ||
      /* Pages that other threads opened in the meantime lack what other processes published before this operation. */
      release_publish(&session->pages) != 0)
    return -1;
  memcpy(old, reply.body, width);
  return 0;
}

static int sink_store(void *context, const struct dsm_run *runs, uint32_t count) {
  int result = session_store(context, runs, count);
  if (result == -1) report_arbiter_gone(context);
  return result;
}

static int sink_atomic(void *context, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                       const void *compare, void *old) {
  int result = session_atomic(context, op, width, offset, operand, compare, old);
  if (result == -1) report_arbiter_gone(context);
  return result;
}

/* While the process has holes, and under `release`, stores are not gathered: they would go to private pages anyway. */
static struct dsm_burst_rules sink_burst_rules(void *context) {
  const dsm_session *session = context;
  struct dsm_burst_rules none = {.bytes = 0};
  if (atomic_load_explicit(&session->pages.count, memory_order_acquire) > 0) return none;
  /* With the old bytes, and a header for each run, a batch fits a record of the ring. */
  if (queues_stores(session)) return (struct dsm_burst_rules){.bytes = WIRE_RING_RECORD_MAX / 4};
  return (struct dsm_burst_rules){.bytes = WIRE_PUBLISH_PART_MAX / 2, .is_strict = true};
}

static int sink_burst(void *context, const struct dsm_run *runs, uint32_t count) {
  int result = store(context, runs, count, publish_burst);
  if (result == -1) report_arbiter_gone(context);
  return result;
}

static const char *sink_name(const void *context) {
  return ((const dsm_session *)context)->link.name;
}

const struct dsm_sink session_sink = {.fault = sink_fault,
                                      .open = sink_open,
                                      .store = sink_store,
                                      .atomic = sink_atomic,
                                      .burst_rules = sink_burst_rules,
                                      .burst = sink_burst,
                                      .name = sink_name};
