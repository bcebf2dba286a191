/* Channels: connections of one process to its arbiter, one request under way on each.
 *
 * For a request a thread claims a free channel, sends one frame and reads one answer. So several threads can have
 * requests in progress at once, and a signal handler that stores to the map while its thread is inside a call uses
 * another channel. Functions marked handler-safe use system calls and atomics only. */
#ifndef DSM_CHANNEL_H
#define DSM_CHANNEL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/polling.h"
#include "link/wire.h"

/* Requests of one process that may be in progress at once. Waits (barrier, semaphore) may use all but the reserve. */
#define CHANNELS_MAX 1024
#define CHANNELS_RESERVE 128

/* Longest answer that carries text. */
#define REPLY_BODY_MAX 512

struct reply {
  struct wire_header header;
  uint8_t body[REPLY_BODY_MAX + 1]; /* text is zero-terminated */
};

/* The use that a channel is claimed for. The first channel is for stores only and always connected. Without a
 * descriptor for another one, stores wait for it; its holder has all signals blocked, so it releases the channel
 * soon. */
enum channel_use {
  CHANNEL_STORE = 0, /* a store or a publication */
  CHANNEL_WAIT = 1,  /* a request that may wait for others */
  CHANNEL_SHORT = 2, /* any other */
};

struct channel_pool {
  char path[108];
  uint64_t token;
  uint16_t rank;
  atomic_uint opened;    /* slots ever opened: those below may be free */
  atomic_uint released;  /* counts releases; futex of the threads that wait for a slot */
  atomic_uint waiting;   /* number of these threads */
  struct channel {
    atomic_uint state;
    int fd;
    int waits; /* it was claimed for CHANNEL_WAIT */
  } *slots; /* CHANNELS_MAX of them */
  int polls; /* 0: this process has one core only */
  struct polling polling[2]; /* [0] of stores and similar requests, which are answered at once; [1] of waits */
};

/* Returns the bytes that a run or a body of this size takes in a frame. */
static inline uint32_t padded(uint32_t size) {
  return (size + 7) & ~7u;
}

#pragma GCC visibility push(hidden)

/* Connects to a Unix socket of this user. Returns a descriptor, or -1 with errno (EPERM: another user listens there).
 * handler-safe. */
int channel_connect(const char *path);

/* Sends all bytes. Returns 0, or -1 with errno. handler-safe. */
int channel_send(int fd, const void *bytes, size_t size);

/* Reads one frame. Returns 0, or -1 with errno (ECONNRESET: the peer has closed; EPROTO: invalid frame). */
int channel_receive(int fd, struct reply *reply);

/* Reads the header of a frame without a body, and nothing of the next frame. Returns 0, or -1. handler-safe. */
int channel_receive_header(int fd, struct wire_header *header);
/* Reads one frame like channel_receive(), and nothing of the next frame. */
int channel_receive_frame(int fd, struct reply *reply);
/* Reads one frame like channel_receive_frame(), and the descriptor sent with its first bytes (close-on-exec); -1:
 * none. */
int channel_receive_descriptor(int fd, struct reply *reply, int *descriptor);
/* Reads the answer on a claimed channel like channel_receive(). Polls for up to 200 us before it sleeps, unless polling
 * has failed recently. handler-safe. */
int channel_answer(struct channel_pool *pool, int slot, struct reply *reply);
/* Polls like channel_answer() for the answer on a claimed channel, and reads nothing. handler-safe. */
void channel_poll(struct channel_pool *pool, int slot);

/* Prepares the pool. Returns 0, or -1 if out of memory. */
int channel_pool_init(struct channel_pool *pool);

/* Connects the channel that only stores use. Returns 0, or -1 with errno. */
int channel_pool_connect(struct channel_pool *pool);

/* Claims a channel: waits until one is free. For CHANNEL_WAIT returns -1 if only the reserve is free. handler-safe. */
int channel_claim(struct channel_pool *pool, enum channel_use use);
/* Returns the descriptor of a claimed channel, which it connects if needed, or -1 with errno. channel_is_short() tells
 * whether the cause is a lack of descriptors or memory, here or (EUSERS) at the arbiter: then the channel stays usable.
 * handler-safe. */
int channel_descriptor(struct channel_pool *pool, int slot);
int channel_is_short(int error);
/* Releases a claimed channel. handler-safe. */
void channel_release(struct channel_pool *pool, int slot);

/* Marks the connection of a claimed channel as unusable: the next thread that claims it reconnects. handler-safe. */
void channel_break(struct channel_pool *pool, int slot);

/* Closes all connections, when the process leaves and in a forked child. */
void channel_close_all(struct channel_pool *pool);

/* A small buffered writer for frames made of many pieces. handler-safe. */
struct channel_writer {
  int fd;
  uint32_t length;
  int failed;
  uint8_t bytes[512];
};
void writer_add(struct channel_writer *writer, const void *bytes, size_t size);
/* Adds zero bytes after `size` bytes, up to a multiple of 8. */
void writer_pad(struct channel_writer *writer, size_t size);
int writer_flush(struct channel_writer *writer);

#pragma GCC visibility pop

#endif
