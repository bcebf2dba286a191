/* Frame layouts. Generated from src/core/protocol.ts by scripts/wire.ts: do not edit. */
#ifndef DSM_WIRE_H
#define DSM_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION 3u
#define WIRE_MAGIC 0x00657269776d7364ull
#define WIRE_FRAME_MAX 1048576u
#define WIRE_PUBLISH_PART_MAX 524288u
#define WIRE_RUN_LENGTH_MAX 8388607u
#define WIRE_RUN_MASKED 8388608u
#define WIRE_RUN_DENSE 4194304u
#define WIRE_RUN_WORDS_MAX 512u
#define WIRE_RUN_BYTES_BITS 12u
#define WIRE_STAGING_SIZE 2097152u
#define WIRE_NO_TAG 4294967295u
#define WIRE_RING_HEADER_SIZE 4096u
#define WIRE_RING_SIZE 1048576u
#define WIRE_RING_RECORD_MAX 262144u
#define WIRE_RING_WRAP 4294967295u
#define WIRE_RING_ARBITER 4294967295u
#define WIRE_RING_LOCK 0u
#define WIRE_RING_TAIL 64u
#define WIRE_RING_HEAD 128u
#define WIRE_RING_SLEEPING 192u
#define WIRE_RING_SHADOWED 196u
#define WIRE_RING_NUMBERS 200u
#define WIRE_ADDRESS_FIRST 0x200000000000ull
#define WIRE_ADDRESS_STRIDE 0x1000000000ull
#define WIRE_ADDRESS_SLOTS 512u
#define WIRE_ADDRESS_NARROW_FIRST 0x550000000000ull
#define WIRE_ADDRESS_NARROW_STRIDE 0x100000000ull
#define WIRE_ADDRESS_NARROW_SLOTS 64u

enum wire_kind {
  WIRE_HELLO = 1,
  WIRE_WELCOME = 2,
  WIRE_REPLY = 3,
  WIRE_ATTACH = 4,
  WIRE_STATUS = 5,
  WIRE_FAIL = 6,
  WIRE_SHADOW = 7,
  WIRE_UNSHADOW = 8,
  WIRE_FENCE = 9,
  WIRE_DOORBELL = 10,
  WIRE_TAKEN = 11,
  WIRE_MEMORY = 38,
  WIRE_CHALLENGE = 14,
  WIRE_PROOF = 15,
  WIRE_PING = 12,
  WIRE_STATE = 13,
  WIRE_JOIN = 16,
  WIRE_LEAVE = 17,
  WIRE_STORE = 18,
  WIRE_ATOMIC = 19,
  WIRE_PUBLISH = 20,
  WIRE_BARRIER = 21,
  WIRE_SEM_WAIT = 22,
  WIRE_SEM_POST = 23,
  WIRE_SEM_CANCEL = 24,
  WIRE_ALLOC = 25,
  WIRE_FREE = 26,
  WIRE_NAMED = 27,
  WIRE_SLEEP = 28,
  WIRE_WAKE = 29,
  WIRE_LOCK = 30,
  WIRE_UNLOCK = 31,
  WIRE_MAP = 32,
  WIRE_SNAPSHOT = 33,
  WIRE_TRACE = 34,
  WIRE_SHARE = 35,
  WIRE_CHANGE = 36,
  WIRE_COPY = 37,
};

enum wire_publish_op {
  WIRE_PUBLISH_LAST = 0,
  WIRE_PUBLISH_MORE = 1,
  WIRE_PUBLISH_ABANDON = 2,
  WIRE_PUBLISH_STAGED = 3,
  WIRE_PUBLISH_LENT = 4,
};

enum wire_change_op {
  WIRE_CHANGE_WATCH = 0,
  WIRE_CHANGE_CLOSE = 1,
  WIRE_CHANGE_CLOSED = 2,
};

struct wire_header {
  uint32_t size;
  uint8_t kind;
  uint8_t op;
  uint16_t rank;
  uint32_t tag;
  uint32_t node;
  uint64_t seq;
  uint64_t offset;
  uint32_t length;
  uint32_t aux;
};
_Static_assert(offsetof(struct wire_header, size) == 0, "header.size");
_Static_assert(offsetof(struct wire_header, kind) == 4, "header.kind");
_Static_assert(offsetof(struct wire_header, op) == 5, "header.op");
_Static_assert(offsetof(struct wire_header, rank) == 6, "header.rank");
_Static_assert(offsetof(struct wire_header, tag) == 8, "header.tag");
_Static_assert(offsetof(struct wire_header, node) == 12, "header.node");
_Static_assert(offsetof(struct wire_header, seq) == 16, "header.seq");
_Static_assert(offsetof(struct wire_header, offset) == 24, "header.offset");
_Static_assert(offsetof(struct wire_header, length) == 32, "header.length");
_Static_assert(offsetof(struct wire_header, aux) == 36, "header.aux");
_Static_assert(sizeof(struct wire_header) == 40, "header");

struct wire_process_hello {
  uint32_t pid;
  uint32_t processes;
  uint64_t size;
  uint32_t wished_rank;
  uint8_t order;
  uint8_t elastic;
  uint8_t no_direct;
  uint8_t on_loss;
  char session[64];
};
_Static_assert(offsetof(struct wire_process_hello, pid) == 0, "process_hello.pid");
_Static_assert(offsetof(struct wire_process_hello, processes) == 4, "process_hello.processes");
_Static_assert(offsetof(struct wire_process_hello, size) == 8, "process_hello.size");
_Static_assert(offsetof(struct wire_process_hello, wished_rank) == 16, "process_hello.wished_rank");
_Static_assert(offsetof(struct wire_process_hello, order) == 20, "process_hello.order");
_Static_assert(offsetof(struct wire_process_hello, elastic) == 21, "process_hello.elastic");
_Static_assert(offsetof(struct wire_process_hello, no_direct) == 22, "process_hello.no_direct");
_Static_assert(offsetof(struct wire_process_hello, on_loss) == 23, "process_hello.on_loss");
_Static_assert(offsetof(struct wire_process_hello, session) == 24, "process_hello.session");
_Static_assert(sizeof(struct wire_process_hello) == 88, "process_hello");

struct wire_joined {
  uint64_t base;
  uint64_t size;
  uint64_t token;
  uint32_t processes;
  uint32_t node;
  char node_name[64];
  char map_path[160];
  uint32_t order;
  uint32_t direct;
  uint32_t on_loss;
  uint32_t elastic;
};
_Static_assert(offsetof(struct wire_joined, base) == 0, "joined.base");
_Static_assert(offsetof(struct wire_joined, size) == 8, "joined.size");
_Static_assert(offsetof(struct wire_joined, token) == 16, "joined.token");
_Static_assert(offsetof(struct wire_joined, processes) == 24, "joined.processes");
_Static_assert(offsetof(struct wire_joined, node) == 28, "joined.node");
_Static_assert(offsetof(struct wire_joined, node_name) == 32, "joined.node_name");
_Static_assert(offsetof(struct wire_joined, map_path) == 96, "joined.map_path");
_Static_assert(offsetof(struct wire_joined, order) == 256, "joined.order");
_Static_assert(offsetof(struct wire_joined, direct) == 260, "joined.direct");
_Static_assert(offsetof(struct wire_joined, on_loss) == 264, "joined.on_loss");
_Static_assert(offsetof(struct wire_joined, elastic) == 268, "joined.elastic");
_Static_assert(sizeof(struct wire_joined) == 272, "joined");

#endif
