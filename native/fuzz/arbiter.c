#define _GNU_SOURCE
#include "arbiter.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz.h"
#include "link/find_arbiter.h"

static struct arbiter *the; /* one a program */
static int listener;
static pthread_mutex_t ordering = PTHREAD_MUTEX_INITIALIZER; /* what is under it has a place in the order */
static uint64_t seq;
static enum session_order order = ORDER_SEQUENTIAL;
static int lent_fd = -1; /* what the process has its holes in */

void arbiter_lock(void) { pthread_mutex_lock(&ordering); }

void arbiter_unlock(void) { pthread_mutex_unlock(&ordering); }

/* Bytes of the map's file, with room for what a session of any order has behind the map. */
static size_t file_size(void) {
  return link_marks_end(the->size) + WIRE_RING_HEADER_SIZE + WIRE_RING_SIZE + WIRE_CELLS_SIZE;
}

void arbiter_reset(enum session_order next) {
  arbiter_lock();
  order = next;
  memset(the->map, 0, file_size());
  /* This arbiter takes nothing from a ring: publications are requests. */
  if (next != ORDER_SEQUENTIAL) the->map[link_marks_end(the->size) + WIRE_RING_SHADOWED] = 1;
  arbiter_unlock();
}

static int read_all(int fd, void *to, size_t size) {
  uint8_t *at = to;
  for (ssize_t got; size > 0; at += got, size -= (size_t)got) {
    got = recv(fd, at, size, 0);
    if (got <= 0) return -1;
  }
  return 0;
}

static int reply(int fd, struct wire_header header, const void *body) {
  header.kind = WIRE_REPLY;
  header.size = (uint32_t)(sizeof header + ((header.length + 7) & ~7u));
  uint8_t frame[sizeof header + REPLY_BODY_MAX] = {0};
  memcpy(frame, &header, sizeof header);
  if (header.length > 0) memcpy(frame + sizeof header, body, header.length);
  return channel_send(fd, frame, header.size);
}

static int joined(int fd) {
  struct wire_joined body = {.base = the->base, .size = the->size, .processes = 1, .order = (uint32_t)order};
  memcpy(body.node_name, "n", 1);
  memcpy(body.map_path, the->path, strlen(the->path));
  return reply(fd, (struct wire_header){.length = sizeof body}, &body);
}

static void publish(const uint8_t *body, uint32_t length) {
  for (uint32_t at = 0; at < length;) {
    uint64_t run;
    memcpy(&run, body + at, 8);
    uint64_t offset = run & 0xffffffffff, bytes = run >> 40;
    if ((bytes & WIRE_RUN_MASKED) != 0) {
      int dense = (bytes & WIRE_RUN_DENSE) != 0;
      uint32_t words = (uint32_t)(bytes >> WIRE_RUN_BYTES_BITS & (WIRE_RUN_WORDS_MAX - 1)) + 1;
      uint32_t changes = (uint32_t)(bytes & ((1u << WIRE_RUN_BYTES_BITS) - 1)) + 1, used = 0;
      const uint8_t *masks = body + at + 8, *whole = masks + 8, *from = masks + ((words + 7) & ~7u);
      if (dense) {
        uint64_t count;
        memcpy(&count, body + at + 8, 8);
        CHECK(count < words);
        masks = whole + (((words + 7) / 8 + 7) & ~7u);
        from = masks + ((count + 7) & ~7ull);
      }
      CHECK(offset + 8 * words <= the->size);
      for (uint32_t word = 0; word < words; word++) {
        uint8_t mask = dense && (whole[word / 8] >> word % 8 & 1) != 0 ? 0xff : *masks++;
        for (uint32_t i = 0; i < 8; i++) {
          if ((mask >> i & 1) != 0) the->map[offset + 8 * word + i] = from[used++];
        }
      }
      CHECK(used == changes);
      at = (uint32_t)(from - body) + ((changes + 7) & ~7u);
      continue;
    }
    CHECK(bytes >= 1 && offset + bytes <= the->size && at + 8 + bytes <= length);
    memcpy(the->map + offset, body + at + 8, bytes);
    at += 8 + (uint32_t)((bytes + 7) & ~7u);
  }
}

static void atomic(const struct wire_header *header, const uint8_t *body, uint8_t old[16]) {
  CHECK(header->map_offset + header->width <= the->size && header->width <= 8);
  uint64_t value = 0, operand = 0, compare = 0;
  memcpy(&value, the->map + header->map_offset, header->width);
  memcpy(&operand, body, header->width);
  memcpy(&compare, body + 16, header->width);
  memcpy(old, &value, 8);
  switch (header->op) {
    case DSM_ATOMIC_ADD: value += operand; break;
    case DSM_ATOMIC_AND: value &= operand; break;
    case DSM_ATOMIC_OR: value |= operand; break;
    case DSM_ATOMIC_XOR: value ^= operand; break;
    case DSM_ATOMIC_XCHG: value = operand; break;
    case DSM_ATOMIC_CMPXCHG: value = value == compare ? operand : value; break;
    default: value = 0 - value;
  }
  memcpy(the->map + header->map_offset, &value, header->width);
  the->map[the->size + header->map_offset / PAGE_BYTES] = 1;
}

/* Memory that the process shares with us; what it had before is its own from now on. */
static int lend(int fd, struct wire_header answer) {
  if (lent_fd >= 0) close(lent_fd);
  lent_fd = memfd_create("dsm-holes", MFD_CLOEXEC);
  CHECK(lent_fd >= 0 && ftruncate(lent_fd, (off_t)(the->size + WIRE_STAGING_SIZE)) == 0);
  answer.kind = WIRE_REPLY;
  answer.size = sizeof answer;
  answer.is_shared = 1;
  union {
    struct cmsghdr header;
    uint8_t bytes[CMSG_SPACE(sizeof(int))];
  } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
  memcpy(CMSG_DATA(&control.header), &lent_fd, sizeof lent_fd);
  struct iovec piece = {.iov_base = &answer, .iov_len = sizeof answer};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)sizeof answer ? 0 : -1;
}

/* The first hole of a page gives the process a copy of it; of each that ends before the last, its bytes are the map's
 * again. What others store meanwhile outside the holes is not copied: the tests do no such thing. */
static void shadow(const struct wire_header *header) {
  static uint8_t holes[1024]; /* of each page */
  uint64_t page = header->page / PAGE_BYTES, from = header->page, length = PAGE_BYTES;
  CHECK(header->page % PAGE_BYTES == 0 && header->page < the->size && page < sizeof holes);
  if (header->kind == WIRE_SHADOW) {
    if (holes[page]++ > 0) return;
  } else {
    CHECK(holes[page] > 0);
    if (--holes[page] == 0) return;
    from += header->hole_from;
    length = header->hole_length;
  }
  CHECK(lent_fd >= 0 && pwrite(lent_fd, the->map + from, length, (off_t)from) == (ssize_t)length);
}

static int perform(int fd, const struct wire_header *header, const uint8_t *body) {
  uint8_t old[16] = {0};
  struct wire_header answer = {.tag = header->tag};
  if (header->kind == WIRE_HELLO) {
    arbiter_lock();
    int sent = joined(fd);
    arbiter_unlock();
    return sent;
  }
  arbiter_lock();
  if (header->kind == WIRE_MEMORY) {
    int sent = lend(fd, answer);
    arbiter_unlock();
    return sent;
  }
  answer.seq = ++seq;
  switch (header->kind) {
    case WIRE_STORE:
      CHECK(header->map_offset + header->bytes_length <= the->size);
      memcpy(the->map + header->map_offset, body, header->bytes_length);
      break;
    case WIRE_ATOMIC:
      atomic(header, body, old);
      answer.body_length = sizeof old;
      break;
    case WIRE_PUBLISH: publish(body, header->runs_length); break;
    case WIRE_SHADOW:
    case WIRE_UNSHADOW: shadow(header); break;
    case WIRE_FUTEX_WAIT: answer.status = DSM_AGAIN; break;
    default: break; /* all else is granted */
  }
  arbiter_unlock();
  return header->kind == WIRE_PUBLISH && header->part == WIRE_PUBLISH_PART ? 0 : reply(fd, answer, old);
}

static void *serve(void *descriptor) {
  int fd = (int)(intptr_t)descriptor;
  struct wire_header header;
  uint8_t *body = malloc(WIRE_FRAME_MAX);
  CHECK(body != NULL);
  while (read_all(fd, &header, sizeof header) == 0) {
    CHECK(header.size >= sizeof header && header.size <= WIRE_FRAME_MAX && header.size % 8 == 0);
    if (read_all(fd, body, header.size - sizeof header) != 0) break;
    if ((the->answer != NULL ? the->answer : perform)(fd, &header, body) != 0) break;
  }
  free(body);
  close(fd);
  return NULL;
}

static void *accept_all(void *nothing) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return nothing;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0 && pthread_detach(thread) == 0);
  }
}

static void remove_map(void) { unlink(the->path); }

void arbiter_start(struct arbiter *arbiter, const dsm_config *config) {
  struct arbiter_place place;
  CHECK(arbiter_locate(config, &place) == DSM_OK);
  the = arbiter;
  size_t bytes = file_size();
  /* The library refuses an arbiter with maps elsewhere. */
  snprintf(arbiter->path, sizeof arbiter->path, "/dev/shm/dsm-fuzz-%d", (int)getpid());
  atexit(remove_map);
  arbiter->map_fd = open(arbiter->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  CHECK(arbiter->map_fd >= 0 && ftruncate(arbiter->map_fd, (off_t)bytes) == 0);
  arbiter->map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, arbiter->map_fd, 0);
  CHECK(arbiter->map != MAP_FAILED);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  memcpy(address.sun_path, place.socket, sizeof address.sun_path);
  unlink(place.socket);
  listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 64) == 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, accept_all, NULL) == 0 && pthread_detach(thread) == 0);
}
