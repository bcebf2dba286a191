/* Channels: connections of one process to its arbiter, one request under way on each.
 *
 * A thread that wants something claims a free channel, sends one frame and reads one answer. So several threads have
 * requests under way at once, and a signal handler that stores to the map while its thread is inside a call simply uses
 * another channel. Functions marked handler-safe use system calls and atomics only. */
#ifndef DSM_CHANNEL_H
#define DSM_CHANNEL_H

#include <stdatomic.h>
#include <stdint.h>

#include "wire.h"

/* Requests of one process that may be under way at once. Waits (barrier, semaphore) may use all but the reserve. */
#define CHANNELS_MAX 1024
#define CHANNELS_RESERVE 128

/* Longest answer that carries text. */
#define REPLY_BODY_MAX 512

struct reply {
  struct wire_header header;
  uint8_t body[REPLY_BODY_MAX + 1]; /* text is zero-terminated */
};

/* What a channel is claimed for. Stores are made with all signals blocked, so whoever has the first channel, which is
 * theirs alone and always connected, gives it back soon: without a descriptor for a further one they wait for it. */
enum channel_use {
  CHANNEL_STORE = 0, /* a store or a publication */
  CHANNEL_WAIT = 1,  /* a request that may wait for others */
  CHANNEL_SHORT = 2, /* any other */
};

/* Whether polling for an answer pays. A hint that threads share without a lock. */
struct channel_polling {
  atomic_uint pause; /* how many waits the last failure made sleep at once; 0: the last polling paid */
  atomic_uint rest;  /* of these, how many are still to come */
};

struct channel_pool {
  char path[108];
  uint64_t token;
  uint16_t rank;
  atomic_uint opened;    /* slots ever opened: those below may be free */
  atomic_uint released;  /* counts releases; futex of those who wait for a slot */
  atomic_uint waiting;   /* how many do */
  struct channel {
    atomic_uint state;
    int fd;
    int waits; /* it was claimed for CHANNEL_WAIT */
  } *slots; /* CHANNELS_MAX of them */
  int polls; /* 0: this process has one core only */
  struct channel_polling polling[2]; /* of stores and their like, which others answer at once; and of waits */
};

/* What a run or a body of so many bytes takes in a frame. */
static inline uint32_t padded(uint32_t size) {
  return (size + 7) & ~7u;
}

#pragma GCC visibility push(hidden)

/* Connects to a Unix socket of this user's. A descriptor, or -1 with errno (EPERM: another user listens there).
 * handler-safe. */
int channel_connect(const char *path);

/* Sends everything. 0, or -1 with errno. handler-safe. */
int channel_send(int fd, const void *bytes, size_t size);

/* Reads one frame. 0; -1 with errno (ECONNRESET when the other side has gone, EPROTO when it is no frame). */
int channel_receive(int fd, struct reply *reply);

/* Reads the header of a frame that has no body, and nothing of the next. 0, or -1. handler-safe. */
int channel_receive_header(int fd, struct wire_header *header);
/* Reads one frame, and nothing of the next. As channel_receive(). */
int channel_receive_frame(int fd, struct reply *reply);
/* The same, with the descriptor that came with the frame's beginning, which is closed by exec; -1: none did. */
int channel_receive_descriptor(int fd, struct reply *reply, int *descriptor);
/* Reads the answer to what was sent on a claimed channel, as channel_receive(). Polls for up to 200 us before it sleeps,
 * unless that has not paid lately. handler-safe. */
int channel_answer(struct channel_pool *pool, int slot, struct reply *reply);

/* 0, or -1: no memory. */
int channel_pool_init(struct channel_pool *pool);

/* Connects the channel that only stores use. 0, or -1 with errno. */
int channel_pool_connect(struct channel_pool *pool);

/* Claims a channel: waits until one is free. A wait gets -1 when only the reserve is. handler-safe. */
int channel_claim(struct channel_pool *pool, enum channel_use use);
/* The descriptor of a claimed channel, connected if need be, or -1 with errno; channel_is_short() tells whether that is
 * for want of descriptors or memory, here or (EUSERS) at the arbiter, and no reason to give it up. handler-safe. */
int channel_descriptor(struct channel_pool *pool, int slot);
int channel_is_short(int error);
/* Gives it back. handler-safe. */
void channel_release(struct channel_pool *pool, int slot);

/* The connection of a claimed channel is of no more use: the next who claims it connects anew. handler-safe. */
void channel_break(struct channel_pool *pool, int slot);

/* Closes all connections. For the owner that leaves, and for a forked child. */
void channel_close_all(struct channel_pool *pool);

/* Small buffered writer for frames made of many pieces. handler-safe. */
struct channel_writer {
  int fd;
  uint32_t length;
  int failed;
  uint8_t bytes[512];
};
void writer_add(struct channel_writer *writer, const void *bytes, size_t size);
/* Zero bytes up to a multiple of 8, after `size` bytes. */
void writer_pad(struct channel_writer *writer, size_t size);
int writer_flush(struct channel_writer *writer);

#pragma GCC visibility pop

#endif
