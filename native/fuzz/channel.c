/* What the arbiter answers, cut anywhere: channel_receive gives the frames a plain reading of the bytes gives, an error
 * where they are none, and never touches memory outside the reply. And the way out: channel_writer sends exactly what
 * it was given. */
#include "link/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc, (void)argv;
  return 0;
}

#define ANSWER_MAX (sizeof(struct wire_header) + REPLY_BODY_MAX)
#define PIECES_MAX 64

struct pieces {
  const uint8_t *at[PIECES_MAX];
  size_t size[PIECES_MAX];
  unsigned count, next;
};

/* What channel_receive should do: 0 with the frame in `frame`, or the errno. */
static int model(struct pieces *pieces, uint8_t *frame) {
  size_t have = 0;
  while (pieces->next < pieces->count) {
    /* No more is taken of a piece than a reply has room for. */
    size_t room = ANSWER_MAX - have, size = pieces->size[pieces->next] < room ? pieces->size[pieces->next] : room;
    memcpy(frame + have, pieces->at[pieces->next++], size);
    have += size;
    struct wire_header header;
    if (have < sizeof header) continue;
    memcpy(&header, frame, sizeof header);
    if (header.size < sizeof header || header.size > ANSWER_MAX || header.length > header.size - sizeof header ||
        have > header.size)
      return EPROTO;
    if (have == header.size) return 0;
  }
  return ECONNRESET;
}

static void receive(const uint8_t *data, size_t size) {
  /* A socket of packets gives one piece a call, as a stream does that is slow. */
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
  struct pieces pieces = {.count = 0};
  uint8_t *packets = malloc(size + 1);
  CHECK(packets != NULL);
  memcpy(packets, data, size);
  for (size_t at = 0; at < size && pieces.count < PIECES_MAX;) {
    size_t length = packets[at] & 0x80 ? (size_t)(packets[at] & 0x7f) + 1 : 4u * packets[at] + 8;
    at++;
    if (length > size - at) length = size - at;
    if (length == 0) break;
    CHECK(send(ends[0], packets + at, length, 0) == (ssize_t)length);
    pieces.at[pieces.count] = packets + at;
    pieces.size[pieces.count++] = length;
    at += length;
  }
  shutdown(ends[0], SHUT_WR);
  for (;;) {
    struct reply *reply = malloc(sizeof *reply);
    uint8_t frame[ANSWER_MAX];
    CHECK(reply != NULL);
    int expected = model(&pieces, frame);
    int got = channel_receive(ends[1], reply);
    CHECK((got == 0) == (expected == 0));
    if (got == 0) {
      CHECK(memcmp(reply, frame, sizeof reply->header + reply->header.length) == 0);
      CHECK(reply->body[reply->header.length] == 0 && strlen((char *)reply->body) <= reply->header.length);
    } else {
      CHECK(errno == expected);
    }
    free(reply);
    if (got != 0) break;
  }
  close(ends[0]);
  close(ends[1]);
  free(packets);
}

static void send_pieces(const uint8_t *data, size_t size) {
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  struct channel_writer *writer = malloc(sizeof *writer);
  uint8_t *sent = malloc(2 * size + 8), *got = malloc(2 * size + 8);
  CHECK(writer != NULL && sent != NULL && got != NULL);
  size_t total = 0;
  writer->fd = ends[0];
  writer->length = 0;
  writer->failed = 0;
  for (size_t at = 0; at < size;) {
    size_t length = data[at] & 0x80 ? (size_t)(data[at] & 0x7f) * 16 : data[at];
    at++;
    if (length > size - at) length = size - at;
    if (total + length + 8 > 2 * size) break;
    writer_add(writer, data + at, length);
    memcpy(sent + total, data + at, length);
    total += length;
    if (length % 3 == 0) {
      writer_pad(writer, length);
      memset(sent + total, 0, -length & 7);
      total += -length & 7;
    }
    at += length;
  }
  CHECK(writer_flush(writer) == 0);
  close(ends[0]);
  size_t have = 0;
  for (ssize_t length; (length = recv(ends[1], got + have, 2 * size + 8 - have, 0)) > 0;) have += (size_t)length;
  CHECK(have == total && memcmp(got, sent, total) == 0);
  close(ends[1]);
  free(writer);
  free(sent);
  free(got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  (data[0] % 4 == 3 ? send_pieces : receive)(data + 1, size - 1);
  return 0;
}

void fuzz_seeds(void (*give)(const uint8_t *data, size_t size)) {
  static const uint32_t lengths[] = {0, 1, 7, 8, 16, 63, 264, 500, REPLY_BODY_MAX};
  for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    for (uint32_t piece = 0; piece < 4; piece++) {
      uint8_t whole[2 * ANSWER_MAX], input[4 * ANSWER_MAX + 200];
      struct wire_header header = {.size = (uint32_t)sizeof header + ((lengths[i] + 7) & ~7u),
                                   .kind = WIRE_REPLY,
                                   .op = piece == 1,
                                   .length = lengths[i]};
      size_t total = 0, size = 1;
      for (int twice = 0; twice < 2; twice++) {
        memcpy(whole + total, &header, sizeof header);
        memset(whole + total + sizeof header, 'x', header.size - sizeof header);
        total += header.size;
      }
      /* Whole frames; halves; bytes; and one that goes on in the next. */
      static const uint8_t marks[] = {0, 0x93, 0x80, 0};
      input[0] = 0;
      for (size_t at = 0; at < total && size + 130 < sizeof input;) {
        uint8_t mark = piece == 0 ? (uint8_t)((header.size - 8) / 4) : marks[piece];
        size_t length = mark & 0x80 ? (size_t)(mark & 0x7f) + 1 : 4u * mark + 8;
        if (length > total - at) length = total - at;
        input[size++] = mark;
        memcpy(input + size, whole + at, length);
        size += length;
        at += length;
      }
      give(input, size);
      input[0] = 3;
      give(input, size);
    }
  }
}
