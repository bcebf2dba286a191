#define _GNU_SOURCE
#include "session/lock_cells.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>

#include "trap/region_entry.h"

/* Locks whose cells a process remembers; those beyond are requests. A power of two, more than there are cells. */
#define KNOWN_LOCKS_MAX 4096u
/* Places that are searched for a name. */
#define PROBES_MAX 16u
/* How often a lock that another process has is looked at before the arbiter is asked: some microseconds. */
#define SPINS_MAX 100u
/* Of so many locks taken one looks whether the arbiter is there. A power of two. */
#define TAKEN_TO_LOOK 256u

/* A place is empty, then being written by one thread, then fixed. */
enum { PLACE_EMPTY, PLACE_BUSY, PLACE_FIXED };

struct known_lock {
  atomic_uint state;
  uint32_t cell;
  char name[DSM_NAME_MAX + 1];
};

#define CELLS_BYTES (WIRE_LOCK_CELLS_MAX * WIRE_LOCK_CELL_SIZE)
/* The cells, and behind them the table of known locks. */
#define REGION_BYTES (CELLS_BYTES + KNOWN_LOCKS_MAX * sizeof(struct known_lock))

int lock_cells_open(struct lock_cells *locks, const struct arbiter_link *link, uint64_t offset) {
  uint8_t *region =
      mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) return -1;
  if (mmap(region, CELLS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, link->map_fd, (off_t)offset) ==
      MAP_FAILED) {
    int saved = errno;
    munmap(region, REGION_BYTES);
    errno = saved;
    return -1;
  }
  madvise(region, REGION_BYTES, MADV_DONTFORK);
  *locks = (struct lock_cells){
      .link = link,
      .cells = region,
      .known = (struct known_lock *)(region + CELLS_BYTES),
      .mark = WIRE_CELL_OWNED + link->rank,
      .owner = dsm_process_token(),
      .spins = link->channels.polls,
      .main_fd = link->main_fd,
  };
  return 0;
}

void lock_cells_retire(struct lock_cells *locks) {
  if (locks->cells == NULL) return;
  /* Zeros: no lock is known, and the arbiter decides on all. It stays mapped, because another thread may be reading. */
  if (mmap(locks->cells, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
           -1, 0) != MAP_FAILED)
    madvise(locks->cells, REGION_BYTES, MADV_DONTFORK);
}

void lock_cells_close(struct lock_cells *locks) {
  if (locks->cells != NULL) munmap(locks->cells, REGION_BYTES);
  *locks = (struct lock_cells){0};
}

/* FNV-1a (Fowler, Noll and Vo). */
static uint32_t hash(const char *name) {
  uint32_t value = 2166136261u;
  for (; *name != 0; name++) value = (value ^ (uint8_t)*name) * 16777619u;
  return value ^ value >> 15;
}

/* Returns whether the process has left the session, or cannot order anything in it any more. */
static int is_over(const struct lock_cells *locks) {
  return atomic_load(&locks->link->left) || atomic_load(&locks->link->dead);
}

/* Returns the word of the lock, or NULL if its cell is not known. */
static _Atomic uint32_t *find(const struct lock_cells *locks, const char *name) {
  if (locks->cells == NULL || name == NULL || locks->owner != dsm_process_token() || is_over(locks)) return NULL;
  uint32_t place = hash(name);
  for (unsigned probe = 0; probe < PROBES_MAX; probe++) {
    struct known_lock *known = &locks->known[(place + probe) % KNOWN_LOCKS_MAX];
    unsigned state = atomic_load_explicit(&known->state, memory_order_acquire);
    if (state == PLACE_EMPTY) return NULL;
    if (state == PLACE_FIXED && strcmp(known->name, name) == 0)
      return (_Atomic uint32_t *)(locks->cells + (size_t)known->cell * WIRE_LOCK_CELL_SIZE);
  }
  return NULL;
}

void lock_cells_learn(struct lock_cells *locks, const char *name, uint64_t answer) {
  if (locks->cells == NULL || answer == 0 || answer > WIRE_LOCK_CELLS_MAX || find(locks, name) != NULL) return;
  uint32_t place = hash(name);
  for (unsigned probe = 0; probe < PROBES_MAX; probe++) {
    struct known_lock *known = &locks->known[(place + probe) % KNOWN_LOCKS_MAX];
    unsigned state = PLACE_EMPTY;
    if (!atomic_compare_exchange_strong(&known->state, &state, PLACE_BUSY)) continue;
    strcpy(known->name, name);
    known->cell = (uint32_t)answer - 1;
    atomic_store_explicit(&known->state, PLACE_FIXED, memory_order_release);
    return;
  }
}

static int put(_Atomic uint32_t *word, uint32_t mark) {
  return atomic_compare_exchange_strong(word, &mark, WIRE_CELL_FREE);
}

/* Returns whether the arbiter has ended. Looks only once in a while: a process that takes no lock by a request would
 * not notice otherwise. */
static int arbiter_is_gone(struct lock_cells *locks) {
  if (atomic_fetch_add_explicit(&locks->taken, 1, memory_order_relaxed) % TAKEN_TO_LOOK != 0) return 0;
  struct pollfd connection = {.fd = locks->main_fd, .events = POLLRDHUP};
  return poll(&connection, 1, 0) > 0 && (connection.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

int lock_cells_take(struct lock_cells *locks, const char *name, int may_wait) {
  _Atomic uint32_t *word = find(locks, name);
  if (word == NULL || arbiter_is_gone(locks)) return 0;
  for (unsigned spins = may_wait && locks->spins ? SPINS_MAX : 0;; spins--) {
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    if (seen == WIRE_CELL_FREE && atomic_compare_exchange_strong(word, &seen, locks->mark)) {
      if (!is_over(locks)) return 1;
      /* Another thread leaves the session: the arbiter may have looked at the cell before. */
      put(word, locks->mark);
      return 0;
    }
    /* The arbiter decides, or this process has the lock already, which is an error, or another one keeps it. */
    if (seen == WIRE_CELL_ARBITER || seen == locks->mark || spins == 0) return 0;
    __builtin_ia32_pause();
  }
}

int lock_cells_give(struct lock_cells *locks, const char *name) {
  _Atomic uint32_t *word = find(locks, name);
  return word != NULL && put(word, locks->mark);
}
