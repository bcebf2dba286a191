#define _GNU_SOURCE
#include "link/channel.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <dsm/dsm.h>
#include "base/clock.h"
#include "base/descriptor.h"

/* This file uses syscall(): the fault handlers call it, and glibc's wrappers are cancellation points, where a cancelled
 * thread would end in the middle of a store. */

enum { SLOT_UNOPENED = 0, SLOT_FREE = 1, SLOT_BUSY = 2 };

int channel_connect(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(path);
  if (length >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(address.sun_path, path, length + 1);
  int fd = descriptor_above_stdio(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd < 0) return -1;
  while (syscall(SYS_connect, fd, &address, sizeof address) != 0) {
    if (errno == EINTR) continue;
    int saved = errno;
    syscall(SYS_close, fd);
    errno = saved;
    return -1;
  }
  /* The listener controls the bytes of the map, so it must run as the same user. */
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
      peer.uid != (uid_t)syscall(SYS_geteuid)) {
    syscall(SYS_close, fd);
    errno = EPERM;
    return -1;
  }
  return fd;
}

int channel_send(int fd, const void *bytes, size_t size) {
  const uint8_t *at = bytes;
  while (size > 0) {
    ssize_t sent = syscall(SYS_sendto, fd, at, size, MSG_NOSIGNAL, NULL, 0);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    at += sent;
    size -= (size_t)sent;
  }
  return 0;
}

/* Waking a sleeping process is the most expensive step of an answer (7 to 30 us where idle cores of a virtual machine
 * are halted), so a thread that expects an answer first polls for a short time, and yields in between. 200 us is twice
 * the latency of a store over two nodes of one machine; 60 us would often give up just before the answer, and cost
 * both. Where answers take longer, polling does not pay: each failure doubles the number of waits that sleep at once,
 * so that at most 200 us are lost in POLL_PAUSE_MAX waits that are all longer than that. */
#define POLL_NS 200000
#define POLL_PAUSE_MAX 64
/* If a yield takes longer than this, the thread competes for the processor: then sleeping is better, since the
 * scheduler runs a woken thread earlier. */
#define POLL_GAP_NS 50000

/* Returns when data can be read, or when the time to poll is over. */
static void await_awake(struct polling *polling, int fd) {
  if (polling_rests(polling)) return;
  long long end = 0, last = 0;
  uint8_t byte;
  for (;;) {
    ssize_t got = syscall(SYS_recvfrom, fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
    if (got >= 0 || (errno != EAGAIN && errno != EINTR)) break;
    long long now = now_ns();
    if (end == 0) end = now + POLL_NS;
    if (now >= end || (last != 0 && now - last > POLL_GAP_NS)) {
      polling_failed(polling, POLL_PAUSE_MAX);
      return;
    }
    last = now;
    syscall(SYS_sched_yield);
  }
  /* An answer that was there at once (await_answer slept for it) says nothing about polling. */
  if (end != 0) polling_succeeded(polling);
}

void channel_poll(struct channel_pool *pool, int slot) {
  struct channel *channel = &pool->slots[slot];
  if (pool->polls) await_awake(&pool->polling[channel->waits], channel->fd);
}

int channel_answer(struct channel_pool *pool, int slot, struct reply *reply) {
  channel_poll(pool, slot);
  return channel_receive(pool->slots[slot].fd, reply);
}

/* Reads the data that has arrived, or sleeps until some arrives. It sleeps in poll, because a thread that sleeps in
 * recvfrom on a Unix socket is also woken when the peer has read its input and the socket becomes writable. */
static ssize_t receive_some(int fd, void *bytes, size_t size) {
  struct pollfd readable = {.fd = fd, .events = POLLIN};
  for (;;) {
    ssize_t got = syscall(SYS_recvfrom, fd, bytes, size, MSG_DONTWAIT, NULL, NULL);
    if (got >= 0 || (errno != EAGAIN && errno != EINTR)) return got;
    if (errno == EAGAIN) syscall(SYS_poll, &readable, 1, -1);
  }
}

int channel_receive(int fd, struct reply *reply) {
  uint8_t *bytes = (uint8_t *)reply;
  size_t have = 0;
  size_t need = sizeof reply->header;
  for (;;) {
    ssize_t got = receive_some(fd, bytes + have, sizeof reply->header + REPLY_BODY_MAX - have);
    if (got < 0) return -1;
    if (got == 0) {
      errno = ECONNRESET;
      return -1;
    }
    have += (size_t)got;
    if (have >= sizeof reply->header) {
      uint32_t size = reply->header.size;
      if (size < sizeof reply->header || size > sizeof reply->header + REPLY_BODY_MAX ||
          reply->header.length > size - sizeof reply->header || have > size) {
        errno = EPROTO;
        return -1;
      }
      need = size;
    }
    if (have >= need) {
      reply->body[reply->header.length] = 0;
      return 0;
    }
  }
}

static int receive_all(int fd, void *bytes, size_t size) {
  for (size_t have = 0; have < size;) {
    ssize_t got = receive_some(fd, (uint8_t *)bytes + have, size - have);
    if (got <= 0) {
      errno = got == 0 ? ECONNRESET : errno;
      return -1;
    }
    have += (size_t)got;
  }
  return 0;
}

int channel_receive_header(int fd, struct wire_header *header) {
  return receive_all(fd, header, sizeof *header);
}

static int receive_body(int fd, struct reply *reply) {
  size_t body = reply->header.size - sizeof reply->header;
  if (body > REPLY_BODY_MAX || reply->header.length > body) {
    errno = EPROTO;
    return -1;
  }
  if (receive_all(fd, reply->body, body) != 0) return -1;
  reply->body[reply->header.length] = 0;
  return 0;
}

int channel_receive_frame(int fd, struct reply *reply) {
  return receive_all(fd, &reply->header, sizeof reply->header) != 0 ? -1 : receive_body(fd, reply);
}

int channel_receive_descriptor(int fd, struct reply *reply, int *descriptor) {
  union {
    struct cmsghdr header;
    uint8_t bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec piece = {.iov_base = &reply->header, .iov_len = sizeof reply->header};
  struct msghdr message = {
      .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t got;
  *descriptor = -1;
  while ((got = syscall(SYS_recvmsg, fd, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) continue;
  const struct cmsghdr *first = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
  if (first != NULL && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SCM_RIGHTS &&
      first->cmsg_len == CMSG_LEN(sizeof(int)))
    memcpy(descriptor, CMSG_DATA(first), sizeof(int));
  *descriptor = descriptor_above_stdio(*descriptor);
  if (got > 0 && receive_all(fd, (uint8_t *)&reply->header + got, sizeof reply->header - (size_t)got) == 0 &&
      receive_body(fd, reply) == 0)
    return 0;
  if (got == 0) errno = ECONNRESET;
  int saved = errno;
  if (*descriptor >= 0) syscall(SYS_close, *descriptor);
  *descriptor = -1;
  errno = saved;
  return -1;
}

/* Opens another channel and sends ATTACH with the token of the process. */
static int attach(struct channel_pool *pool) {
  int fd = channel_connect(pool->path);
  if (fd < 0) return -1;
  struct {
    struct wire_header header;
    uint64_t token;
  } hello = {
      .header = {.size = sizeof hello,
                 .kind = WIRE_ATTACH,
                 .rank = pool->rank,
                 .magic = WIRE_MAGIC,
                 .body_length = 8,
                 .version = WIRE_VERSION},
      .token = pool->token,
  };
  struct reply reply;
  if (channel_send(fd, &hello, sizeof hello) == 0 && channel_receive(fd, &reply) == 0) {
    if (reply.header.kind == WIRE_REPLY && reply.header.status == 0) return fd;
    errno = reply.header.status == DSM_LIMIT ? EUSERS : ECONNREFUSED;
  }
  int saved = errno;
  syscall(SYS_close, fd);
  errno = saved;
  return -1;
}

int channel_pool_init(struct channel_pool *pool) {
  memset(pool, 0, sizeof *pool);
  pool->slots = calloc(CHANNELS_MAX, sizeof *pool->slots);
  if (pool->slots == NULL) return -1;
  for (unsigned i = 0; i < CHANNELS_MAX; i++) pool->slots[i].fd = -1;
  /* On a single core a polling thread would delay the process that it waits for. */
  cpu_set_t cores;
  pool->polls = sched_getaffinity(0, sizeof cores, &cores) != 0 || CPU_COUNT(&cores) > 1;
  return 0;
}

int channel_is_short(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM || error == EUSERS;
}

int channel_pool_connect(struct channel_pool *pool) {
  int slot = channel_claim(pool, CHANNEL_STORE);
  int fd = channel_descriptor(pool, slot);
  int saved = errno;
  channel_release(pool, slot);
  errno = saved;
  return fd < 0 ? -1 : 0;
}

/* Claims a free channel from slot `first` on that is connected, or one that is not. Returns -1 if there is none. */
static int claim_opened(struct channel_pool *pool, unsigned first, unsigned limit, int connected) {
  unsigned opened = atomic_load(&pool->opened);
  for (unsigned i = first; i < opened && i < limit; i++) {
    unsigned free_state = SLOT_FREE;
    if (atomic_load_explicit(&pool->slots[i].state, memory_order_relaxed) != SLOT_FREE ||
        !atomic_compare_exchange_strong(&pool->slots[i].state, &free_state, SLOT_BUSY))
      continue;
    if ((pool->slots[i].fd >= 0) == connected) return (int)i;
    /* Not the kind that a waiting thread wants. */
    atomic_store(&pool->slots[i].state, SLOT_FREE);
  }
  return -1;
}

/* Claims a channel that was never used. Returns -1 if there is none left. */
static int claim_new(struct channel_pool *pool, unsigned limit) {
  unsigned opened = atomic_load(&pool->opened);
  while (opened < limit) {
    if (!atomic_compare_exchange_strong(&pool->opened, &opened, opened + 1)) continue;
    /* This thread owns the slot until it releases it: other threads claim free slots only. */
    atomic_store(&pool->slots[opened].state, SLOT_BUSY);
    return (int)opened;
  }
  return -1;
}

static int claim(struct channel_pool *pool, enum channel_use use) {
  unsigned first = use == CHANNEL_STORE ? 0 : 1;
  unsigned limit = use == CHANNEL_WAIT ? CHANNELS_MAX - CHANNELS_RESERVE : CHANNELS_MAX;
  for (;;) {
    int slot = claim_opened(pool, first, limit, 1);
    if (slot < 0) slot = claim_opened(pool, first, limit, 0);
    if (slot < 0) slot = claim_new(pool, limit);
    if (slot >= 0 &&
        (use != CHANNEL_STORE || channel_descriptor(pool, slot) >= 0 || slot == 0 || !channel_is_short(errno)))
      return slot;
    if (slot >= 0)
      channel_release(pool, slot);
    else if (use == CHANNEL_WAIT)
      return -1;
    /* Announce first, then look: either the releasing thread sees this waiter, or this thread sees the free channel. */
    atomic_fetch_add(&pool->waiting, 1);
    unsigned released = atomic_load(&pool->released);
    slot = claim_opened(pool, first, limit, 1);
    if (slot < 0) syscall(SYS_futex, &pool->released, FUTEX_WAIT_PRIVATE, released, NULL, NULL, 0);
    atomic_fetch_sub(&pool->waiting, 1);
    if (slot >= 0) return slot;
  }
}

int channel_claim(struct channel_pool *pool, enum channel_use use) {
  int slot = claim(pool, use);
  if (slot >= 0) pool->slots[slot].waits = use == CHANNEL_WAIT;
  return slot;
}

int channel_descriptor(struct channel_pool *pool, int slot) {
  if (pool->slots[slot].fd < 0) pool->slots[slot].fd = attach(pool);
  return pool->slots[slot].fd;
}

void channel_release(struct channel_pool *pool, int slot) {
  atomic_store(&pool->slots[slot].state, SLOT_FREE);
  atomic_fetch_add(&pool->released, 1);
  if (atomic_load(&pool->waiting) > 0) syscall(SYS_futex, &pool->released, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void channel_break(struct channel_pool *pool, int slot) {
  syscall(SYS_close, pool->slots[slot].fd);
  pool->slots[slot].fd = -1;
}

void channel_close_all(struct channel_pool *pool) {
  unsigned opened = atomic_load(&pool->opened);
  for (unsigned i = 0; i < opened; i++) {
    if (pool->slots[i].fd >= 0) syscall(SYS_close, pool->slots[i].fd);
    pool->slots[i].fd = -1;
  }
}

void writer_add(struct channel_writer *writer, const void *bytes, size_t size) {
  const uint8_t *at = bytes;
  while (size > 0 && !writer->failed) {
    size_t room = sizeof writer->bytes - writer->length;
    if (writer->length == 0 && size >= sizeof writer->bytes) {
      /* Large pieces bypass the buffer. */
      writer->failed = channel_send(writer->fd, at, size) != 0;
      return;
    }
    size_t take = size < room ? size : room;
    memcpy(writer->bytes + writer->length, at, take);
    writer->length += (uint32_t)take;
    at += take;
    size -= take;
    if (writer->length == sizeof writer->bytes) writer_flush(writer);
  }
}

void writer_pad(struct channel_writer *writer, size_t size) {
  static const uint8_t zeros[8];
  writer_add(writer, zeros, -size & 7);
}

int writer_flush(struct channel_writer *writer) {
  if (!writer->failed && writer->length > 0)
    writer->failed = channel_send(writer->fd, writer->bytes, writer->length) != 0;
  writer->length = 0;
  return writer->failed ? -1 : 0;
}
