#define _GNU_SOURCE
#include "pages/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/status.h"
#include "pages/copy.h"
#include "pages/runs.h"

/* Polls of a lock or a full ring before the first yield, */
#define SPINS 200
/* then yields before the first sleep, */
#define YIELDS 20
/* and the length of a sleep. The arbiter does not wake sleepers: that would take a system call for each of many. */
#define PAUSE_NS 50000
/* Sleeps between two doorbells: the arbiter may sleep, too, or be gone. */
#define PAUSES_TO_RING 100
/* The interval at which a process checks that the arbiter is alive, while that is awake and no doorbell is rung. */
#define LOOK_NS 10000000

_Static_assert(WIRE_RING_SIZE % PAGE_BYTES == 0 && (WIRE_RING_SIZE & (WIRE_RING_SIZE - 1)) == 0, "ring size");

static _Atomic uint32_t *word(const struct ring *ring, unsigned offset) {
  return (_Atomic uint32_t *)(ring->header + offset);
}

/* Locks the byte with the number of this process in the file of the map, by a descriptor that is closed when the
 * process ends, at exec and in forked children. The arbiter breaks the ring lock of a process without it. Returns 0, or
 * -1 with errno. */
static int show_life(const char *map_path, uint32_t number) {
  struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = number, .l_len = 1};
  int fd = descriptor_above_stdio(open(map_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (fd < 0 || syscall(SYS_fcntl, fd, F_OFD_SETLK, &range) == 0) return fd;
  int saved = errno;
  close(fd);
  errno = saved;
  return -1;
}

int ring_open(struct ring *ring, struct arbiter_link *link, const char *map_path) {
  uint8_t *alias = mmap(NULL, link->size, PROT_READ | PROT_WRITE, MAP_SHARED, link->map_fd, 0);
  if (alias == MAP_FAILED) return dsm_fail(DSM_NO_MEMORY, "cannot map the session's memory again: %s", strerror(errno));
  uint8_t *header = mmap(NULL, WIRE_RING_HEADER_SIZE + WIRE_RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, link->map_fd,
                         (off_t)link_marks_end(link->size));
  if (header == MAP_FAILED) {
    int saved = errno;
    munmap(alias, link->size);
    return dsm_fail(DSM_NO_MEMORY, "cannot map the node's ring of stores: %s", strerror(saved));
  }
  madvise(alias, link->size, MADV_DONTFORK);
  madvise(header, WIRE_RING_HEADER_SIZE + WIRE_RING_SIZE, MADV_DONTFORK);
  uint32_t number;
  do number = atomic_fetch_add((_Atomic uint32_t *)(header + WIRE_RING_NUMBERS), 1) + 1;
  while (number == 0 || number == WIRE_RING_ARBITER);
  int alive_fd = show_life(map_path, number);
  if (alive_fd < 0) {
    int saved = errno;
    munmap(alias, link->size);
    munmap(header, WIRE_RING_HEADER_SIZE + WIRE_RING_SIZE);
    return dsm_fail(dsm_status_of(saved, DSM_SYSTEM), "cannot lock a byte of the map %s: %s", map_path,
                    strerror(saved));
  }
  *ring = (struct ring){.link = link,
                        .header = header,
                        .data = header + WIRE_RING_HEADER_SIZE,
                        .alias = alias,
                        .number = number,
                        .alive_fd = alive_fd};
  return DSM_OK;
}

void ring_close(struct ring *ring) {
  if (ring->header == NULL) return;
  munmap(ring->alias, ring->link->size);
  munmap(ring->header, WIRE_RING_HEADER_SIZE + WIRE_RING_SIZE);
  close(ring->alive_fd);
  memset(ring, 0, sizeof *ring);
}

void ring_forked(struct ring *ring) {
  if (ring->header != NULL) close(ring->alive_fd);
}

/* Wakes the arbiter. Returns 0, or -1 if it is gone. */
static int ring_doorbell(struct ring *ring) {
  struct wire_header header = {.size = sizeof header, .kind = WIRE_DOORBELL};
  struct channel_pool *pool = &ring->link->channels;
  int slot = channel_claim(pool, CHANNEL_STORE);
  int fd = channel_descriptor(pool, slot);
  int sent = fd < 0 ? -1 : channel_send(fd, &header, sizeof header);
  channel_release(pool, slot);
  if (sent != 0) link_lost(ring->link, NULL);
  return sent;
}

/* Returns whether the arbiter has closed the connection or exited; checks once per LOOK_NS only. */
static int arbiter_gone(struct ring *ring) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  long long now_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
  if (now_ns - atomic_load_explicit(&ring->looked_ns, memory_order_relaxed) < LOOK_NS) return 0;
  atomic_store_explicit(&ring->looked_ns, now_ns, memory_order_relaxed);
  struct pollfd connection = {.fd = ring->link->main_fd, .events = POLLRDHUP};
  if (syscall(SYS_poll, &connection, 1, 0) != 1 || (connection.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0)
    return 0;
  link_lost(ring->link, NULL);
  return 1;
}

/* Backs off after the n-th unsuccessful attempt. Returns 0, or -1 if the arbiter is gone. */
static int await(struct ring *ring, unsigned n) {
  if (n < SPINS) {
    __builtin_ia32_pause();
    return 0;
  }
  if (n < SPINS + YIELDS) {
    syscall(SYS_sched_yield);
    return 0;
  }
  if ((n - SPINS - YIELDS) % PAUSES_TO_RING == PAUSES_TO_RING - 1 && ring_doorbell(ring) != 0) return -1;
  struct timespec pause = {.tv_nsec = PAUSE_NS};
  syscall(SYS_nanosleep, &pause, NULL);
  return 0;
}

static int take_lock(struct ring *ring) {
  _Atomic uint32_t *lock = word(ring, WIRE_RING_LOCK);
  for (unsigned n = 0;; n++) {
    uint32_t expected = 0;
    if (atomic_load_explicit(lock, memory_order_relaxed) == 0 &&
        atomic_compare_exchange_strong(lock, &expected, ring->number))
      return 0;
    if (await(ring, n) != 0) return -1;
  }
}

/* Releases the lock with a full fence: the caller must read the sleep flag of the arbiter after it has written the
 * tail. */
static void give_lock(const struct ring *ring) {
  atomic_exchange(word(ring, WIRE_RING_LOCK), 0);
}

static uint8_t *put(uint8_t *at, const void *bytes, uint32_t length) {
  /* What pads it travels too: nothing of what the ring held before. */
  memset(at + padded(length) - 8, 0, 8);
  memcpy(at, bytes, length);
  return at + padded(length);
}

/* What becomes one record: a store, or the runs of a publication. */
struct queued {
  const struct dsm_run *runs; /* NULL: a publication */
  uint32_t count; /* of them */
  const uint8_t *publication;
  uint32_t frame_size;
  uint32_t size; /* of the record */
  int may_wait; /* for room in the ring */
  int is_quiet; /* the arbiter is not woken */
};

/* Writes the frame of the record at `at`, and returns its end. */
static uint8_t *write_frame(const struct ring *ring, uint8_t *at, const struct queued *queued) {
  struct wire_header header = {.size = queued->frame_size, .rank = (uint16_t)ring->link->rank, .tag = WIRE_NO_TAG};
  uint32_t body = queued->frame_size - (uint32_t)sizeof header;
  int is_store = queued->runs != NULL && queued->count == 1;
  header.kind = is_store ? WIRE_STORE : WIRE_PUBLISH;
  if (is_store) {
    header.map_offset = queued->runs->offset;
    header.bytes_length = queued->runs->length;
  } else {
    header.runs_length = body;
  }
  memcpy(at, &header, sizeof header);
  at += sizeof header;
  if (queued->runs == NULL) {
    memcpy(at, queued->publication, body);
    return at + body;
  }
  for (uint32_t i = 0; i < queued->count; i++) {
    const struct dsm_run *each = &queued->runs[i];
    if (!is_store) {
      uint64_t run = each->offset | (uint64_t)each->length << 40;
      memcpy(at, &run, sizeof run);
      at += sizeof run;
    }
    at = put(at, each->bytes, each->length);
  }
  return at;
}

/* Writes the record at `at`. */
static void write_record(const struct ring *ring, uint8_t *at, const struct queued *queued) {
  at = write_frame(ring, at, queued);
  if (queued->runs == NULL)
    runs_save(ring->alias, queued->publication, queued->frame_size - (uint32_t)sizeof(struct wire_header), at);
  for (uint32_t i = 0; queued->runs != NULL && i < queued->count; i++)
    at = put(at, ring->alias + queued->runs[i].offset, queued->runs[i].length);
}

/* Makes the record visible to the processes of the node. */
static void write_map(const struct ring *ring, const struct queued *queued) {
  if (queued->runs == NULL)
    dsm_apply_runs(ring->alias, queued->publication, queued->frame_size - (uint32_t)sizeof(struct wire_header));
  for (uint32_t i = 0; queued->runs != NULL && i < queued->count; i++)
    copy_words(ring->alias + queued->runs[i].offset, queued->runs[i].bytes, queued->runs[i].length);
}

/* Wakes the arbiter if it sleeps. Returns 1, or -1 if it is gone. */
static int wake(struct ring *ring) {
  _Atomic uint32_t *sleeping = word(ring, WIRE_RING_SLEEPING);
  uint32_t sleep = atomic_load_explicit(sleeping, memory_order_relaxed);
  if (sleep == 0) return arbiter_gone(ring) ? -1 : 1;
  /* Ring first: if this thread stops in between, other processes still ring. The exchange does not clear a later
   * sleep. */
  if (ring_doorbell(ring) != 0) return -1;
  atomic_compare_exchange_strong(sleeping, &sleep, 0);
  return 1;
}

/* Returns what ring_store() and ring_publish() do. */
static int append(struct ring *ring, const struct queued *queued) {
  uint32_t size = queued->size;
  if (size > WIRE_RING_RECORD_MAX) return 0;
  if (atomic_load_explicit(&ring->link->dead, memory_order_relaxed)) return -1;

  for (unsigned n = 0;; n++) {
    if (take_lock(ring) != 0) return -1;
    if (atomic_load(word(ring, WIRE_RING_SHADOWED)) != 0) {
      give_lock(ring);
      return 0;
    }
    uint32_t tail = atomic_load_explicit(word(ring, WIRE_RING_TAIL), memory_order_relaxed);
    uint32_t head = atomic_load_explicit(word(ring, WIRE_RING_HEAD), memory_order_acquire);
    /* Masked, so that a corrupt tail cannot lead out of the ring. */
    uint32_t at = tail % WIRE_RING_SIZE & ~7u;
    uint32_t skipped = at + size > WIRE_RING_SIZE ? WIRE_RING_SIZE - at : 0;
    if (tail - head + skipped + size <= WIRE_RING_SIZE) {
      if (skipped > 0) {
        uint32_t wrap = WIRE_RING_WRAP;
        memcpy(ring->data + at, &wrap, sizeof wrap);
        at = 0;
      }
      write_record(ring, ring->data + at, queued);
      atomic_store_explicit(word(ring, WIRE_RING_TAIL), tail + skipped + size, memory_order_release);
      write_map(ring, queued);
      break;
    }
    give_lock(ring);
    if (!queued->may_wait) return 0;
    if (await(ring, n) != 0) return -1;
  }
  give_lock(ring);
  return queued->is_quiet ? 1 : wake(ring);
}

int ring_store_quietly(struct ring *ring, const struct dsm_run *run) {
  uint32_t frame_size = (uint32_t)sizeof(struct wire_header) + padded(run->length);
  const struct queued queued = {
      .runs = run, .count = 1, .frame_size = frame_size, .size = frame_size + padded(run->length), .is_quiet = 1};
  return append(ring, &queued);
}

void ring_wake(struct ring *ring) {
  if (!ring_is_empty(ring)) wake(ring);
}

int ring_store(struct ring *ring, const struct dsm_run *runs, uint32_t count) {
  uint32_t frame_size = sizeof(struct wire_header), old_size = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (runs[i].length > WIRE_RING_RECORD_MAX || frame_size + old_size > WIRE_RING_RECORD_MAX) return 0;
    frame_size += padded(runs[i].length) + (count > 1 ? 8 : 0);
    old_size += padded(runs[i].length);
  }
  const struct queued queued = {
      .runs = runs, .count = count, .frame_size = frame_size, .size = frame_size + old_size, .may_wait = 1};
  return append(ring, &queued);
}

int ring_publish(struct ring *ring, const uint8_t *runs, uint32_t size) {
  uint32_t frame_size = (uint32_t)sizeof(struct wire_header) + size;
  const struct queued queued = {
      .publication = runs, .frame_size = frame_size, .size = frame_size + runs_saved_size(runs, size)};
  return append(ring, &queued);
}

int ring_is_empty(const struct ring *ring) {
  /* In this order: what is before the tail now has been applied if the head is there. */
  uint32_t tail = atomic_load(word(ring, WIRE_RING_TAIL));
  return atomic_load(word(ring, WIRE_RING_HEAD)) == tail;
}
