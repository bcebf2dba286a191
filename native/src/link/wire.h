/* Frame layouts. Generated from the tables of src/core/wire by scripts/wire.ts: do not edit. */
#ifndef DSM_WIRE_H
#define DSM_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION 5u
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
#define WIRE_BLOCKS_MAX 65536u
#define WIRE_CELLS_SIZE 528384u
#define WIRE_BARRIER_CELL_AT 0u
#define WIRE_BARRIER_MARKS_AT 2048u
#define WIRE_BARRIER_GIVEN 1u
#define WIRE_BARRIER_PHASE 2u
#define WIRE_BARRIER_COUNT_BITS 12u
#define WIRE_BARRIER_SLEEPERS 16777216u
#define WIRE_OPEN_UNTIL_AT 1024u
#define WIRE_LOCK_CELLS_AT 4096u
#define WIRE_SEMAPHORE_CELLS_AT 266240u
#define WIRE_NAMED_CELLS_MAX 16384u
#define WIRE_NAMED_CELL_SIZE 16u
#define WIRE_CELL_ARBITER 0u
#define WIRE_CELL_FREE 1u
#define WIRE_CELL_KEPT 2u
#define WIRE_CELL_OWNED 3u
#define WIRE_CELL_STATE 0xfffffffu
#define WIRE_CELL_STARVING 0x10000000u
#define WIRE_CELL_SLEEPERS 0x20000000u
#define WIRE_SEMAPHORE_CELL_GIVEN 1u
#define WIRE_SEMAPHORE_CELL_SLEEPERS 2u
#define WIRE_SEMAPHORE_CELL_STEP 4u
#define WIRE_SEMAPHORE_CELL_VALUE_MAX 1048576u
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
  WIRE_FUTEX_WAIT = 28,
  WIRE_FUTEX_WAKE = 29,
  WIRE_LOCK = 30,
  WIRE_UNLOCK = 31,
  WIRE_MAP = 32,
  WIRE_SNAPSHOT = 33,
  WIRE_TRACE = 34,
  WIRE_SHARE = 35,
  WIRE_CHANGE = 36,
  WIRE_COPY = 37,
  WIRE_SEM_VALUE = 39,
  WIRE_RETURN = 40,
  WIRE_COND_WAIT = 41,
  WIRE_COND_SIGNAL = 42,
  WIRE_RW_LOCK = 43,
  WIRE_RW_UNLOCK = 44,
  WIRE_ARRIVE = 45,
  WIRE_OBJECT_INIT = 46,
};

enum wire_object_kind {
  WIRE_OBJECT_MUTEX = 1,
  WIRE_OBJECT_SEMAPHORE = 2,
  WIRE_OBJECT_CONDITION = 3,
  WIRE_OBJECT_RW_LOCK = 4,
  WIRE_OBJECT_BARRIER = 5,
};

enum wire_publish_op {
  WIRE_PUBLISH_FINAL = 0,
  WIRE_PUBLISH_PART = 1,
  WIRE_PUBLISH_ABORT = 2,
  WIRE_PUBLISH_PART_IN_STAGING = 3,
  WIRE_PUBLISH_PART_IN_SHARED_MEMORY = 4,
};

enum wire_change_op {
  WIRE_CHANGE_WATCH = 0,
  WIRE_CHANGE_CLOSE = 1,
  WIRE_CHANGE_CLOSED = 2,
  WIRE_CHANGE_RETURN = 3,
};

/* A field of the header has several names: its own, and those that kinds of frames give it. */
struct wire_header {
  uint32_t size;
  uint8_t kind;
  union {
    uint8_t op;
    uint8_t is_resume;
    uint8_t status;
    uint8_t query;
    uint8_t piece;
    uint8_t refuses_direct;
    uint8_t is_lost;
    uint8_t part;
    uint8_t try_only;
    uint8_t is_sent_back;
    uint8_t is_compared;
    uint8_t keeps_mark;
    uint8_t is_owned;
    uint8_t object_kind;
    uint8_t has_more;
  };
  uint16_t rank;
  uint32_t tag;
  uint32_t node;
  uint64_t seq;
  union {
    uint64_t offset;
    uint64_t magic;
    uint64_t value;
    uint64_t page;
    uint64_t staging_offset;
    uint64_t applied_through;
    uint64_t map_offset;
    uint64_t pid;
    uint64_t memory_offset;
    uint64_t passed;
    uint64_t increment;
    uint64_t may_return;
    uint64_t bytes;
  };
  union {
    uint32_t length;
    uint32_t body_length;
    uint32_t text_length;
    uint32_t instance_length;
    uint32_t hole_length;
    uint32_t piece_length;
    uint32_t name_length;
    uint32_t gave_up;
    uint32_t bytes_length;
    uint32_t width;
    uint32_t runs_length;
    uint32_t frame_length;
    uint32_t records_length;
  };
  union {
    uint32_t aux;
    uint32_t version;
    uint32_t related_rank;
    uint32_t hole_from;
    uint32_t is_shared;
    uint32_t asked_at;
    uint32_t wished_rank;
    uint32_t is_evicted;
    uint32_t slot_counter;
    uint32_t initial;
    uint32_t alignment;
    uint32_t count;
    uint32_t uses_cell;
    uint32_t is_short;
    uint32_t was_asked;
    uint32_t is_writer;
    uint32_t dropped;
    uint32_t memory_descriptor;
  };
};
_Static_assert(offsetof(struct wire_header, size) == 0, "header.size");
_Static_assert(offsetof(struct wire_header, kind) == 4, "header.kind");
_Static_assert(offsetof(struct wire_header, op) == 5, "header.op");
_Static_assert(offsetof(struct wire_header, is_resume) == 5, "header.is_resume");
_Static_assert(offsetof(struct wire_header, status) == 5, "header.status");
_Static_assert(offsetof(struct wire_header, query) == 5, "header.query");
_Static_assert(offsetof(struct wire_header, piece) == 5, "header.piece");
_Static_assert(offsetof(struct wire_header, refuses_direct) == 5, "header.refuses_direct");
_Static_assert(offsetof(struct wire_header, is_lost) == 5, "header.is_lost");
_Static_assert(offsetof(struct wire_header, part) == 5, "header.part");
_Static_assert(offsetof(struct wire_header, try_only) == 5, "header.try_only");
_Static_assert(offsetof(struct wire_header, is_sent_back) == 5, "header.is_sent_back");
_Static_assert(offsetof(struct wire_header, is_compared) == 5, "header.is_compared");
_Static_assert(offsetof(struct wire_header, keeps_mark) == 5, "header.keeps_mark");
_Static_assert(offsetof(struct wire_header, is_owned) == 5, "header.is_owned");
_Static_assert(offsetof(struct wire_header, object_kind) == 5, "header.object_kind");
_Static_assert(offsetof(struct wire_header, has_more) == 5, "header.has_more");
_Static_assert(offsetof(struct wire_header, rank) == 6, "header.rank");
_Static_assert(offsetof(struct wire_header, tag) == 8, "header.tag");
_Static_assert(offsetof(struct wire_header, node) == 12, "header.node");
_Static_assert(offsetof(struct wire_header, seq) == 16, "header.seq");
_Static_assert(offsetof(struct wire_header, offset) == 24, "header.offset");
_Static_assert(offsetof(struct wire_header, magic) == 24, "header.magic");
_Static_assert(offsetof(struct wire_header, value) == 24, "header.value");
_Static_assert(offsetof(struct wire_header, page) == 24, "header.page");
_Static_assert(offsetof(struct wire_header, staging_offset) == 24, "header.staging_offset");
_Static_assert(offsetof(struct wire_header, applied_through) == 24, "header.applied_through");
_Static_assert(offsetof(struct wire_header, map_offset) == 24, "header.map_offset");
_Static_assert(offsetof(struct wire_header, pid) == 24, "header.pid");
_Static_assert(offsetof(struct wire_header, memory_offset) == 24, "header.memory_offset");
_Static_assert(offsetof(struct wire_header, passed) == 24, "header.passed");
_Static_assert(offsetof(struct wire_header, increment) == 24, "header.increment");
_Static_assert(offsetof(struct wire_header, may_return) == 24, "header.may_return");
_Static_assert(offsetof(struct wire_header, bytes) == 24, "header.bytes");
_Static_assert(offsetof(struct wire_header, length) == 32, "header.length");
_Static_assert(offsetof(struct wire_header, body_length) == 32, "header.body_length");
_Static_assert(offsetof(struct wire_header, text_length) == 32, "header.text_length");
_Static_assert(offsetof(struct wire_header, instance_length) == 32, "header.instance_length");
_Static_assert(offsetof(struct wire_header, hole_length) == 32, "header.hole_length");
_Static_assert(offsetof(struct wire_header, piece_length) == 32, "header.piece_length");
_Static_assert(offsetof(struct wire_header, name_length) == 32, "header.name_length");
_Static_assert(offsetof(struct wire_header, gave_up) == 32, "header.gave_up");
_Static_assert(offsetof(struct wire_header, bytes_length) == 32, "header.bytes_length");
_Static_assert(offsetof(struct wire_header, width) == 32, "header.width");
_Static_assert(offsetof(struct wire_header, runs_length) == 32, "header.runs_length");
_Static_assert(offsetof(struct wire_header, frame_length) == 32, "header.frame_length");
_Static_assert(offsetof(struct wire_header, records_length) == 32, "header.records_length");
_Static_assert(offsetof(struct wire_header, aux) == 36, "header.aux");
_Static_assert(offsetof(struct wire_header, version) == 36, "header.version");
_Static_assert(offsetof(struct wire_header, related_rank) == 36, "header.related_rank");
_Static_assert(offsetof(struct wire_header, hole_from) == 36, "header.hole_from");
_Static_assert(offsetof(struct wire_header, is_shared) == 36, "header.is_shared");
_Static_assert(offsetof(struct wire_header, asked_at) == 36, "header.asked_at");
_Static_assert(offsetof(struct wire_header, wished_rank) == 36, "header.wished_rank");
_Static_assert(offsetof(struct wire_header, is_evicted) == 36, "header.is_evicted");
_Static_assert(offsetof(struct wire_header, slot_counter) == 36, "header.slot_counter");
_Static_assert(offsetof(struct wire_header, initial) == 36, "header.initial");
_Static_assert(offsetof(struct wire_header, alignment) == 36, "header.alignment");
_Static_assert(offsetof(struct wire_header, count) == 36, "header.count");
_Static_assert(offsetof(struct wire_header, uses_cell) == 36, "header.uses_cell");
_Static_assert(offsetof(struct wire_header, is_short) == 36, "header.is_short");
_Static_assert(offsetof(struct wire_header, was_asked) == 36, "header.was_asked");
_Static_assert(offsetof(struct wire_header, is_writer) == 36, "header.is_writer");
_Static_assert(offsetof(struct wire_header, dropped) == 36, "header.dropped");
_Static_assert(offsetof(struct wire_header, memory_descriptor) == 36, "header.memory_descriptor");
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
