#define _GNU_SOURCE
#include "session/cells.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Names of each kind whose cells a process remembers, about; those of the others are asked for by requests. A power of
 * two. What lies in the map has no limit here. */
#define KNOWN_NAMES_MAX 4096u
/* Places that are searched for a name. */
#define PROBES_MAX 16u
/* Of so many calls one looks whether the arbiter is there. A power of two. */
#define CALLS_TO_LOOK 256u

_Static_assert(WIRE_NAMED_CELLS_MAX < 1u << CELL_KIND_SHIFT, "a number of a cell, and a kind, fit in 32 bits");

/* A place is empty, then being written by one thread, then fixed. */
enum { PLACE_EMPTY, PLACE_BUSY, PLACE_FIXED };

struct known_name {
  atomic_uint state;
  struct known_cell known;
  char name[DSM_NAME_MAX + 1];
};

/* The cells, and behind them the tables of known names. */
#define REGION_BYTES (WIRE_CELLS_SIZE + CELL_KINDS * KNOWN_NAMES_MAX * sizeof(struct known_name))

int cells_open(struct cells *cells, const struct arbiter_link *link, int fd, uint64_t offset) {
  uint8_t *region =
      mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) return -1;
  if (mmap(region, WIRE_CELLS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED) {
    int saved = errno;
    munmap(region, REGION_BYTES);
    errno = saved;
    return -1;
  }
  madvise(region, REGION_BYTES, MADV_DONTFORK);
  *cells = (struct cells){
      .link = link,
      .bytes = region,
      .known = (struct known_name *)(region + WIRE_CELLS_SIZE),
      .owner = dsm_process_token(),
  };
  return 0;
}

void cells_retire(struct cells *cells) {
  if (cells->bytes == NULL) return;
  /* Zeros: no name is known, and the arbiter decides on all. It stays mapped, because another thread may be reading. */
  if (mmap(cells->bytes, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
           -1, 0) != MAP_FAILED)
    madvise(cells->bytes, REGION_BYTES, MADV_DONTFORK);
}

void cells_close(struct cells *cells) {
  if (cells->bytes != NULL) munmap(cells->bytes, REGION_BYTES);
  *cells = (struct cells){0};
}

/* Milliseconds of a coarse clock, which is late by some of them; the time of a lease allows for that. */
static uint64_t coarse_ms(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int cells_are_open(const struct cells *cells) {
  /* Direct mode ends after the arbiter has taken all cells, so this cell was free while it lasted. */
  if (atomic_load(&cells->link->direct)) return 1;
  const _Atomic uint64_t *until_ms = (const _Atomic uint64_t *)(cells->bytes + WIRE_OPEN_UNTIL_AT);
  return coarse_ms(CLOCK_MONOTONIC_COARSE) < atomic_load(&until_ms[0]) &&
         coarse_ms(CLOCK_REALTIME_COARSE) < atomic_load(&until_ms[1]);
}

int cells_arbiter_is_gone(struct cells *cells) {
  /* Not one locked operation, which costs as much as taking the lock: calls that threads make at once may count as one. */
  unsigned looked = atomic_load_explicit(&cells->looked, memory_order_relaxed);
  atomic_store_explicit(&cells->looked, looked + 1, memory_order_relaxed);
  if (looked % CALLS_TO_LOOK != 0) return 0;
  struct pollfd connection = {.fd = cells->link->main_fd, .events = POLLRDHUP};
  /* Not poll(), in which a thread may be cancelled. */
  return syscall(SYS_poll, &connection, 1, 0) > 0 &&
         (connection.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

/* A multiplicative hash (Knuth, "The Art of Computer Programming", 6.4) of words of 8 bytes: each lock and unlock waits
 * for it. */
static uint32_t hash(const char *name) {
  const uint64_t factor = 0x9e3779b97f4a7c15u;
  size_t length = strlen(name);
  uint64_t value = length, word;
  for (; length >= sizeof word; name += sizeof word, length -= sizeof word) {
    memcpy(&word, name, sizeof word);
    value = (value ^ word) * factor;
    value ^= value >> 32;
  }
  word = 0;
  if (length >= 4) {
    /* Two halves that overlap: a copy of a length that is not known would be a call. */
    uint32_t first, last;
    memcpy(&first, name, 4);
    memcpy(&last, name + length - 4, 4);
    word = first | (uint64_t)last << 32;
  } else if (length > 0) {
    word = (uint8_t)name[0] | (uint32_t)(uint8_t)name[length / 2] << 8 | (uint32_t)(uint8_t)name[length - 1] << 16;
  }
  return (uint32_t)(((value ^ word) * factor) >> 32);
}

static struct known_name *place_of(const struct cells *cells, enum cell_kind kind, uint32_t place) {
  return &cells->known[kind * KNOWN_NAMES_MAX + place % KNOWN_NAMES_MAX];
}

uint32_t cell_name_text(const struct cell_name *name, char text[DSM_NAME_MAX + 1]) {
  if (name->name != NULL) return (uint32_t)strlen(strcpy(text, name->name));
  /* src/core/base/names.ts: objectName(). */
  const char kind = name->kind == CELL_OF_LOCK ? 'm' : 's';
  return (uint32_t)snprintf(text, DSM_NAME_MAX + 1, "\001%c%llx", kind, (unsigned long long)name->offset);
}

/* Returns what is known of a name, or NULL. */
static struct known_cell *look_up(const struct cells *cells, enum cell_kind kind, const char *name) {
  uint32_t place = hash(name);
  for (unsigned probe = 0; probe < PROBES_MAX; probe++) {
    struct known_name *known = place_of(cells, kind, place + probe);
    unsigned state = atomic_load_explicit(&known->state, memory_order_acquire);
    if (state == PLACE_EMPTY) return NULL;
    if (state == PLACE_FIXED && strcmp(known->name, name) == 0) return &known->known;
  }
  return NULL;
}

/* Returns what is known of the cell, of which the number is *number; or NULL. */
static inline struct known_cell *find(const struct cells *cells, const struct cell_name *name, uint32_t *number) {
  if (!cells_are_usable(cells)) return NULL;
  struct known_cell *known = name->name == NULL ? name->known : look_up(cells, name->kind, name->name);
  if (known == NULL) return NULL;
  uint32_t cell = atomic_load_explicit(&known->cell, memory_order_relaxed);
  *number = (cell & ((1u << CELL_KIND_SHIFT) - 1)) - 1;
  return cell != 0 && cell >> CELL_KIND_SHIFT == (uint32_t)name->kind ? known : NULL;
}

_Atomic uint32_t *cells_find(const struct cells *cells, const struct cell_name *name) {
  uint32_t number;
  if (find(cells, name, &number) == NULL) return NULL;
  uint32_t from = name->kind == CELL_OF_LOCK ? WIRE_LOCK_CELLS_AT : WIRE_SEMAPHORE_CELLS_AT;
  return (_Atomic uint32_t *)(cells->bytes + from + (size_t)number * WIRE_NAMED_CELL_SIZE);
}

_Atomic long long *cells_note(const struct cells *cells, const struct cell_name *name) {
  uint32_t number;
  struct known_cell *known = find(cells, name, &number);
  return known == NULL ? NULL : &known->note;
}

void cells_learn(struct cells *cells, const struct cell_name *name, uint64_t answer) {
  if (cells->bytes == NULL || answer == 0 || answer > WIRE_NAMED_CELLS_MAX || cells_find(cells, name) != NULL) return;
  uint32_t cell = (uint32_t)answer | (uint32_t)name->kind << CELL_KIND_SHIFT;
  if (name->name == NULL) {
    atomic_store_explicit(&name->known->cell, cell, memory_order_relaxed);
    return;
  }
  uint32_t place = hash(name->name);
  for (unsigned probe = 0; probe < PROBES_MAX; probe++) {
    struct known_name *known = place_of(cells, name->kind, place + probe);
    unsigned state = PLACE_EMPTY;
    if (!atomic_compare_exchange_strong(&known->state, &state, PLACE_BUSY)) continue;
    strcpy(known->name, name->name);
    atomic_store_explicit(&known->known.cell, cell, memory_order_relaxed);
    atomic_store_explicit(&known->state, PLACE_FIXED, memory_order_release);
    return;
  }
}
