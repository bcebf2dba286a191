#define _GNU_SOURCE
#include "pages/publication.h"

#include "pages/copies.h"
#include "pages/ring.h"

/* The most bytes of runs that go to the arbiter as one frame; it reads the parts of a larger publication from the
 * staging area. */
#define INLINE_MAX (16u << 10)
/* The most bytes of runs that go through the ring. There the arbiter accounts for each byte. */
#define QUEUED_MAX (4u << 10)

/* The publication has tag 0. */
#define FOLLOWING_TAG 1u

#define STAGED_PARTS_MAX (WIRE_STAGING_SIZE / WIRE_PUBLISH_PART_MAX)

/* Claims a channel, unless the publication has one. */
static void claim(struct publication *publication) {
  struct channel_pool *pool = &publication->pages->link->channels;
  if (publication->slot >= 0) return;
  publication->slot = channel_claim(pool, CHANNEL_STORE);
  publication->fd = channel_descriptor(pool, publication->slot);
  publication->failed = publication->fd < 0;
}

/* Waits until the arbiter has taken the oldest announced part. */
static void await_taken(struct publication *publication) {
  struct wire_header header;
  if (!publication->failed && (channel_receive_header(publication->fd, &header) != 0 || header.kind != WIRE_TAKEN))
    publication->failed = 1;
  publication->untaken--;
}

/* Sends a part over the socket, if the arbiter cannot map the staging area. The part may be overwritten at once. */
static void send_part(struct publication *publication) {
  struct run_writer *writer = &publication->writer;
  struct wire_header header = {
      .size = (uint32_t)sizeof header + writer->length,
      .kind = WIRE_PUBLISH,
      .part = WIRE_PUBLISH_PART,
      .runs_length = writer->length,
  };
  if (!publication->failed)
    publication->failed = channel_send(publication->fd, &header, sizeof header) != 0 ||
                          channel_send(publication->fd, writer->bytes, writer->length) != 0;
  writer->length = 0;
  writer->joins = RUNS_JOIN_NONE;
}

/* Announces a full part to the arbiter and continues in the next one. */
static void stage_part(struct publication *publication) {
  const struct pages *pages = publication->pages;
  struct run_writer *writer = &publication->writer;
  claim(publication);
  if (!pages->copies.is_lent) {
    send_part(publication);
    return;
  }
  struct wire_header header = {
      .size = sizeof header,
      .kind = WIRE_PUBLISH,
      .part = WIRE_PUBLISH_PART_IN_STAGING,
      .staging_offset = (uint64_t)(writer->bytes - pages->copies.staging),
      .runs_length = writer->length,
  };
  if (!publication->failed) publication->failed = channel_send(publication->fd, &header, sizeof header) != 0;
  if (++publication->untaken == STAGED_PARTS_MAX) await_taken(publication);
  writer->bytes = pages->copies.staging + (header.staging_offset + WIRE_PUBLISH_PART_MAX) % WIRE_STAGING_SIZE;
  writer->length = 0;
  writer->joins = RUNS_JOIN_NONE;
}

uint32_t publication_add(struct publication *publication, uint64_t from, uint64_t to) {
  const struct pages *pages = publication->pages;
  uint32_t added = 0;
  while (from < to) {
    uint64_t page_end = PAGE_FLOOR(from) + PAGE_BYTES;
    uint64_t end = to < page_end ? to : page_end;
    uint32_t before = publication->writer.length;
    if (publication->pages->link->direct)
      runs_copy(pages->copies.alias, pages->copies.shadow, pages->copies.twin, from, end);
    else if (!runs_add(&publication->writer, pages->copies.shadow, pages->copies.twin,
                       pages->release.stores[from / PAGE_BYTES] > 0 ? pages->release.written : NULL, from, end)) {
      stage_part(publication);
      continue;
    }
    added += publication->writer.length - before;
    from = end;
  }
  return added;
}

void publication_add_bytes(struct publication *publication, uint64_t offset, const uint8_t *bytes, uint64_t length) {
  while (length > 0) {
    uint32_t added = runs_add_bytes(&publication->writer, offset, bytes, length);
    if (added == 0) stage_part(publication);
    offset += added;
    bytes += added;
    length -= added;
  }
}

void publication_begin(struct pages *pages, struct publication *publication,
                       const struct following_request *following) {
  *publication = (struct publication){
      .pages = pages,
      .following = following,
      .slot = -1,
      .fd = -1,
      .writer = {.bytes = pages->copies.staging, .room = WIRE_PUBLISH_PART_MAX, .joins = RUNS_JOIN_NONE},
  };
  if (pages->link->direct || following == NULL) return;
  publication->slot = following->call->slot;
  publication->fd = following->call->writer.fd;
  publication->failed = publication->fd < 0;
}

/* Sends the frames of the last part, and the request that follows. */
static void send_end(struct publication *publication) {
  const struct following_request *following = publication->following;
  struct wire_header header = {
      .size = (uint32_t)sizeof header + publication->writer.length,
      .kind = WIRE_PUBLISH,
      .part = WIRE_PUBLISH_FINAL,
      .runs_length = publication->writer.length,
  };
  struct channel_writer own = {.fd = publication->fd}, *writer = following != NULL ? &following->call->writer : &own;
  writer->failed = publication->failed;
  writer_add(writer, &header, sizeof header);
  writer_add(writer, publication->writer.bytes, publication->writer.length);
  if (following == NULL) {
    publication->failed = writer_flush(writer) != 0;
    return;
  }
  following->header->tag = FOLLOWING_TAG;
  publication->failed = link_send(publication->pages->link, following->call, following->header, following->body,
                                  following->body_size) != 0;
}

/* Puts the publication into the ring of the node. Returns 1 if that is done, 0 if it must be sent, -1 if the arbiter is
 * gone. */
static int queue(const struct publication *publication) {
  const struct run_writer *writer = &publication->writer;
  struct ring *ring = publication->pages->ring;
  /* With a channel, a part of it has been sent. */
  if (!publication->may_queue || ring == NULL || publication->slot >= 0 || writer->length > QUEUED_MAX) return 0;
  return writer->length == 0 ? 1 : ring_publish(ring, writer->bytes, writer->length);
}

int publication_end(struct publication *publication) {
  struct pages *pages = publication->pages;
  struct reply reply;
  int status = DSM_OK, queued = pages->link->direct ? 1 : queue(publication);
  if (queued != 0) return queued > 0 ? DSM_OK : DSM_UNREACHABLE;
  claim(publication);
  int slot = publication->slot;
  if (publication->writer.length > INLINE_MAX) stage_part(publication);
  send_end(publication);
  while (publication->untaken > 0) await_taken(publication);
  /* The answer to the request that follows may have arrived, too: it stays in the socket. */
  if (publication->failed || channel_receive_frame(publication->fd, &reply) != 0 || reply.header.kind != WIRE_REPLY) {
    atomic_store(&pages->link->dead, 1);
    channel_break(&pages->link->channels, slot);
    status = DSM_UNREACHABLE;
  } else {
    status = reply.header.status;
  }
  if (publication->following == NULL) channel_release(&pages->link->channels, slot);
  return status;
}
