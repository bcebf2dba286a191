/* Algorithms of the textbooks, written as ordinary C11 for ordinary shared memory, in the map of a session. Every
 * process is a node or shares one; nothing here knows.
 *
 *   algorithms NAME TIMES
 *
 * Only for the order `release` they are written a little differently. There a plain store publishes nothing, not even
 * one with release order, which x86 has no instruction of its own for; and what a process has not synchronised since may
 * be old. So stores that publish are exchanges (store_release), loads that rely on what they see to have been published
 * are read-modify-writes (load_acquire), and atomics are on other pages than plain data.
 *
 * Checks itself; rank 0 prints what was done. */
#include "side.h"

#include <pthread.h>
#include <sched.h>
#include <stdalign.h>

static dsm_session *session;
static int rank, processes;
static unsigned long times;
static void *map;

enum { PROCESSES_MAX = 8, PAGE = 4096 };

/* The session's order is release. */
static bool releases;

#define store_release(at, value) \
  (releases ? (void)atomic_exchange(at, value) : atomic_store_explicit(at, value, memory_order_release))
#define load_acquire(at) (releases ? atomic_fetch_add(at, 0) : atomic_load_explicit(at, memory_order_acquire))

static void barrier(void) {
  CHECK_OK(dsm_barrier_wait(session));
}

/* What is guarded by a lock: plain words, written one after the other. */
struct guarded {
  uint64_t first;
  char pad[4096];
  uint64_t second; /* on another page */
  uint32_t inside; /* processes in the critical section */
};

static void critical_section(struct guarded *guarded) {
  volatile struct guarded *g = guarded;
  CHECK(g->inside == 0);
  g->inside = 1;
  uint64_t value = g->first;
  CHECK(g->second == value);
  g->first = value + 1;
  g->second = value + 1;
  CHECK(g->inside == 1);
  g->inside = 0;
}

static void check_guarded(const struct guarded *guarded) {
  barrier();
  CHECK(guarded->first == times * (unsigned long)processes && guarded->second == guarded->first);
  if (rank == 0) printf("%llu\n", (unsigned long long)guarded->first);
}

/* ---- locks ---- */

static void spinlock(void) {
  struct {
    atomic_flag lock;
    alignas(PAGE) struct guarded guarded;
  } *shared = map;
  for (unsigned long i = 0; i < times; i++) {
    while (atomic_flag_test_and_set_explicit(&shared->lock, memory_order_acquire)) sched_yield();
    critical_section(&shared->guarded);
    /* There is no exchange of a flag for false. */
    if (releases) CHECK_OK(dsm_fence(session));
    atomic_flag_clear_explicit(&shared->lock, memory_order_release);
  }
  check_guarded(&shared->guarded);
}

static void pthread_lock(void) {
  struct {
    pthread_spinlock_t lock;
    alignas(64) struct guarded guarded;
  } *shared = map;
  if (rank == 0) CHECK(pthread_spin_init(&shared->lock, PTHREAD_PROCESS_SHARED) == 0);
  barrier();
  for (unsigned long i = 0; i < times; i++) {
    CHECK(pthread_spin_lock(&shared->lock) == 0);
    critical_section(&shared->guarded);
    CHECK(pthread_spin_unlock(&shared->lock) == 0);
  }
  check_guarded(&shared->guarded);
}

static void ticket(void) {
  struct {
    _Atomic uint32_t next, serving;
    alignas(PAGE) struct guarded guarded;
  } *shared = map;
  for (unsigned long i = 0; i < times; i++) {
    uint32_t mine = atomic_fetch_add_explicit(&shared->next, 1, memory_order_relaxed);
    while (atomic_load_explicit(&shared->serving, memory_order_relaxed) != mine) sched_yield();
    CHECK(load_acquire(&shared->serving) == mine);
    critical_section(&shared->guarded);
    store_release(&shared->serving, mine + 1);
  }
  check_guarded(&shared->guarded);
}

/* Peterson's lock for any number (the filter lock; for two it is Peterson's own), of sequentially consistent stores
 * and loads alone. */
static void peterson(void) {
  struct {
    alignas(64) _Atomic int32_t level[PROCESSES_MAX];
    alignas(64) _Atomic int32_t victim[PROCESSES_MAX];
    alignas(PAGE) struct guarded guarded;
  } *shared = map;
  for (unsigned long i = 0; i < times; i++) {
    for (int level = 1; level < processes; level++) {
      atomic_store(&shared->level[rank], level);
      atomic_store(&shared->victim[level], rank);
      for (int other = 0; other < processes; other++) {
        if (other == rank) continue;
        while (atomic_load(&shared->level[other]) >= level && atomic_load(&shared->victim[level]) == rank) {
          sched_yield();
        }
      }
    }
    critical_section(&shared->guarded);
    atomic_store(&shared->level[rank], 0);
  }
  check_guarded(&shared->guarded);
}

/* The same of plain stores, which only a sequentially consistent memory makes a lock. */
static void peterson_plain(void) {
  struct {
    alignas(64) volatile int32_t level[PROCESSES_MAX];
    alignas(64) volatile int32_t victim[PROCESSES_MAX];
    alignas(64) struct guarded guarded;
  } *shared = map;
  for (unsigned long i = 0; i < times; i++) {
    for (int level = 1; level < processes; level++) {
      shared->level[rank] = level;
      shared->victim[level] = rank;
      for (int other = 0; other < processes; other++) {
        if (other == rank) continue;
        while (shared->level[other] >= level && shared->victim[level] == rank) sched_yield();
      }
    }
    critical_section(&shared->guarded);
    shared->level[rank] = 0;
  }
  check_guarded(&shared->guarded);
}

/* ---- seqlock: rank 0 writes, the others read without ever holding it up ---- */

static void seqlock(void) {
  enum { WORDS = 5 };
  struct {
    _Atomic uint32_t sequence, done;
    alignas(4096) _Atomic uint64_t words[WORDS];
  } *shared = map;
  uint64_t reads = 0, retries = 0, last = 0;
  struct random random = random_seeded(1, (uint32_t)rank);
  if (rank == 0) {
    for (uint64_t i = 1; i <= times; i++) {
      uint32_t sequence = atomic_load_explicit(&shared->sequence, memory_order_relaxed);
      if (releases) store_release(&shared->sequence, sequence + 1);
      else atomic_store_explicit(&shared->sequence, sequence + 1, memory_order_relaxed);
      atomic_thread_fence(memory_order_release);
      for (uint64_t w = 0; w < WORDS; w++) {
        atomic_store_explicit(&shared->words[w], i * (w + 1), memory_order_relaxed);
      }
      store_release(&shared->sequence, sequence + 2);
    }
    atomic_store(&shared->done, 1);
  } else {
    while (atomic_load(&shared->done) == 0 || last != times) {
      uint64_t words[WORDS];
      uint32_t before = load_acquire(&shared->sequence);
      for (int w = 0; w < WORDS; w++) {
        words[w] = atomic_load_explicit(&shared->words[w], memory_order_relaxed);
        /* Its loads cost nothing: without a rest it would hardly ever be in the middle when the writer comes. */
        if (random_next(&random) % 16 == 0) dawdle(&random, 500000);
      }
      atomic_thread_fence(memory_order_acquire);
      uint32_t after = atomic_load_explicit(&shared->sequence, memory_order_relaxed);
      if (before != after || before % 2 != 0) {
        retries++;
        sched_yield();
        continue;
      }
      for (uint64_t w = 0; w < WORDS; w++) CHECK(words[w] == words[0] * (w + 1));
      CHECK(words[0] >= last);
      last = words[0];
      if (++reads % 64 == 0) sched_yield();
    }
    CHECK(reads > 0);
  }
  barrier();
  if (rank != 0) printf("%llu reads %llu retries\n", (unsigned long long)reads, (unsigned long long)retries);
}

/* ---- items: every one is taken exactly once ---- */

/* Marks an item as taken; a bit that is there already is an item given out twice. */
static void take_item(_Atomic uint64_t *taken, uint64_t item) {
  uint64_t bit = 1ull << (item % 64);
  CHECK((atomic_fetch_or(&taken[item / 64], bit) & bit) == 0);
}

static void check_items(const _Atomic uint64_t *taken, uint64_t items) {
  barrier();
  if (rank != 0) return;
  for (uint64_t item = 0; item < items; item++) CHECK((taken[item / 64] >> (item % 64) & 1) == 1);
  printf("%llu\n", (unsigned long long)items);
}

/* ---- Treiber stack: the head carries a counter, so a node that comes back is not mistaken (ABA) ---- */

struct stack_node {
  struct stack_node *next;
  uint64_t value;
};

union stack_head {
  struct {
    struct stack_node *top;
    uint64_t changes;
  };
  unsigned __int128 both;
};

/* With -mcx16 this is `lock cmpxchg16b`; the __atomic form would be a call that may take a lock of this process. */
static bool exchange_head(union stack_head *head, union stack_head *expected, union stack_head desired) {
  unsigned __int128 found = __sync_val_compare_and_swap(&head->both, expected->both, desired.both);
  if (found == expected->both) return true;
  expected->both = found;
  return false;
}

/* The two words are not read at once: what does not belong together, the exchange refuses. */
static union stack_head read_head(union stack_head *head) {
  union stack_head seen = {{NULL, 0}};
  if (releases) {
    exchange_head(head, &seen, seen); /* the acquire, which also reads */
    return seen;
  }
  seen.changes = __atomic_load_n(&head->changes, __ATOMIC_ACQUIRE);
  seen.top = __atomic_load_n(&head->top, __ATOMIC_ACQUIRE);
  return seen;
}

static void push(union stack_head *head, struct stack_node *node) {
  union stack_head seen = read_head(head);
  do {
    __atomic_store_n(&node->next, seen.top, __ATOMIC_RELAXED);
  } while (!exchange_head(head, &seen, (union stack_head){{node, seen.changes + 1}}));
}

/* The node may be gone from the stack by now; then the exchange fails. */
static struct stack_node *next_of(struct stack_node *node) {
  return __atomic_load_n(&node->next, __ATOMIC_RELAXED);
}

/* Now and then it hesitates before the exchange, long enough for the others to take the node and bring it back. */
static struct stack_node *pop(union stack_head *head, struct random *random) {
  union stack_head seen = read_head(head);
  for (;;) {
    if (seen.top == NULL) return NULL;
    union stack_head rest = {{next_of(seen.top), seen.changes + 1}};
    if (random_next(random) % 8 == 0) dawdle(random, 2000000);
    if (exchange_head(head, &seen, rest)) return seen.top;
  }
}

/* Few nodes that go round between two stacks, some at a time, so that a node comes back to the top while others look at
 * it, and what is below it is not what it was. */
static void treiber(void) {
  enum { NODES = 6 };
  struct {
    union stack_head free, full;
    alignas(64) _Atomic uint64_t consumed;
    alignas(PAGE) struct stack_node nodes[NODES];
    alignas(PAGE) _Atomic uint64_t taken[];
  } *shared = map;
  uint64_t items = times * (uint64_t)processes;
  if (rank == 0) {
    for (int i = 0; i < NODES; i++) push(&shared->free, &shared->nodes[i]);
  }
  barrier();
  struct random random = random_seeded(1, (uint32_t)rank);
  uint64_t mine = 0;
  while (atomic_load(&shared->consumed) < items) {
    struct stack_node *hand[3];
    uint32_t most = 1 + random_next(&random) % 3, held = 0;
    for (; held < most && mine < times && (hand[held] = pop(&shared->free, &random)) != NULL; held++) {
      *(volatile uint64_t *)&hand[held]->value = (uint64_t)rank * times + mine++;
    }
    for (uint32_t i = 0; i < held; i++) push(&shared->full, hand[i]);
    for (held = 0; held < most && (hand[held] = pop(&shared->full, &random)) != NULL; held++) {
      take_item(shared->taken, *(volatile uint64_t *)&hand[held]->value);
    }
    if (held == 0) sched_yield();
    else atomic_fetch_add(&shared->consumed, held);
    while (held > 0) push(&shared->free, hand[--held]);
  }
  check_items(shared->taken, items);
  int nodes = 0;
  for (const struct stack_node *at = shared->free.top; at != NULL; at = at->next) nodes++;
  CHECK(nodes == NODES && shared->full.top == NULL);
}

/* ---- rings: one producer and one consumer each; the processes form a circle, each passing on what it gets ---- */

static void ring(void) {
  enum { SLOTS = 16 };
  struct ring {
    alignas(PAGE) _Atomic uint32_t written;
    alignas(64) _Atomic uint32_t read;
    alignas(PAGE) struct {
      uint64_t number, check;
    } slots[SLOTS];
  } *rings = map;
  struct ring *out = &rings[rank], *in = &rings[(rank + processes - 1) % processes];
  unsigned long sent = 0, received = 0;
  while (sent < times || received < times) {
    bool moved = false;
    uint32_t at = atomic_load_explicit(&out->written, memory_order_relaxed);
    if (sent < times && at - atomic_load_explicit(&out->read, memory_order_relaxed) < SLOTS) {
      CHECK(at - load_acquire(&out->read) < SLOTS);
      volatile uint64_t *slot = &out->slots[at % SLOTS].number;
      slot[0] = sent;
      slot[1] = ~sent * 0x9e3779b97f4a7c15u;
      store_release(&out->written, at + 1);
      sent++;
      moved = true;
    }
    at = atomic_load_explicit(&in->read, memory_order_relaxed);
    if (atomic_load_explicit(&in->written, memory_order_relaxed) != at) {
      CHECK(load_acquire(&in->written) != at);
      volatile uint64_t *slot = &in->slots[at % SLOTS].number;
      CHECK(slot[0] == received);
      CHECK(slot[1] == ~received * 0x9e3779b97f4a7c15u);
      store_release(&in->read, at + 1);
      received++;
      moved = true;
    }
    if (!moved) sched_yield();
  }
  barrier();
  if (rank == 0) printf("%lu\n", received);
}

/* ---- work-stealing deque (Chase and Lev; the C11 form of Lê, Pop, Cohen and Zappa Nardelli, 2013) ---- */

struct deque {
  alignas(64) _Atomic int64_t top;
  alignas(64) _Atomic int64_t bottom;
  alignas(PAGE) _Atomic uint64_t items[64];
};

enum { DEQUE_SLOTS = 64, NOTHING = -1, LOST_RACE = -2 };

/* In release all stores to an atomic are atomic: a plain one would give the process a copy of the page. */
static void put_bottom(struct deque *deque, int64_t bottom, bool publishes) {
  if (publishes) atomic_thread_fence(memory_order_release);
  if (releases) atomic_exchange(&deque->bottom, bottom);
  else atomic_store_explicit(&deque->bottom, bottom, memory_order_relaxed);
}

static bool deque_push(struct deque *deque, uint64_t item) {
  int64_t bottom = atomic_load_explicit(&deque->bottom, memory_order_relaxed);
  int64_t top = load_acquire(&deque->top);
  if (bottom - top >= DEQUE_SLOTS) return false;
  atomic_store_explicit(&deque->items[bottom % DEQUE_SLOTS], item, memory_order_relaxed);
  put_bottom(deque, bottom + 1, true);
  return true;
}

static int64_t deque_take(struct deque *deque) {
  int64_t bottom = atomic_load_explicit(&deque->bottom, memory_order_relaxed) - 1;
  atomic_store_explicit(&deque->bottom, bottom, memory_order_seq_cst); /* an exchange: the fence of the paper */
  int64_t top = atomic_load_explicit(&deque->top, memory_order_seq_cst);
  if (top > bottom) {
    put_bottom(deque, bottom + 1, false);
    return NOTHING;
  }
  int64_t item = (int64_t)atomic_load_explicit(&deque->items[bottom % DEQUE_SLOTS], memory_order_relaxed);
  if (top == bottom) {
    if (!atomic_compare_exchange_strong(&deque->top, &top, top + 1)) item = NOTHING;
    put_bottom(deque, bottom + 1, false);
  }
  return item;
}

static int64_t deque_steal(struct deque *deque) {
  int64_t top = load_acquire(&deque->top);
  atomic_thread_fence(memory_order_seq_cst);
  int64_t bottom = load_acquire(&deque->bottom);
  if (top >= bottom) return NOTHING;
  int64_t item = (int64_t)atomic_load_explicit(&deque->items[top % DEQUE_SLOTS], memory_order_relaxed);
  if (!atomic_compare_exchange_strong(&deque->top, &top, top + 1)) return LOST_RACE;
  return item;
}

/* Rank 0 owns the deque: it pushes, now and then takes; the others steal. */
static void deque(void) {
  struct {
    struct deque deque;
    alignas(PAGE) _Atomic uint64_t done;
    alignas(64) _Atomic uint64_t stolen;
    alignas(64) _Atomic uint64_t taken[];
  } *shared = map;
  struct random random = random_seeded(1, 0);
  uint64_t next = 0, stolen = 0;
  if (rank == 0) {
    while (next < times && deque_push(&shared->deque, next)) next++;
    while (atomic_load(&shared->deque.top) == 0) sched_yield(); /* the thieves are there */
    while (next < times) {
      /* Runs of pushes and takes: the deque is full at times, and often all but empty, where owner and thieves meet. */
      for (uint32_t run = random_next(&random) % 8; run > 0 && next < times; run--) {
        if (!deque_push(&shared->deque, next)) break;
        next++;
      }
      for (uint32_t run = random_next(&random) % 6; run > 0; run--) {
        int64_t item = deque_take(&shared->deque);
        if (item == NOTHING) break;
        take_item(shared->taken, (uint64_t)item);
      }
    }
    for (int64_t item; (item = deque_take(&shared->deque)) != NOTHING;) take_item(shared->taken, (uint64_t)item);
    atomic_store(&shared->done, 1);
  } else {
    while (atomic_load(&shared->done) == 0) {
      int64_t item = deque_steal(&shared->deque);
      if (item >= 0) {
        take_item(shared->taken, (uint64_t)item);
        stolen++;
      } else {
        sched_yield();
      }
    }
  }
  atomic_fetch_add(&shared->stolen, stolen);
  check_items(shared->taken, times);
  CHECK(atomic_load(&shared->stolen) > 0);
  if (rank == 0) printf("stolen %llu\n", (unsigned long long)atomic_load(&shared->stolen));
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(void);
  } algorithms[] = {
      {"spinlock", spinlock}, {"pthread", pthread_lock}, {"ticket", ticket}, {"peterson", peterson},
      {"peterson-plain", peterson_plain}, {"seqlock", seqlock}, {"treiber", treiber}, {"ring", ring}, {"deque", deque},
  };
  CHECK(argc == 3);
  times = strtoul(argv[2], NULL, 10);
  CHECK_OK(dsm_open(NULL, &session));
  rank = dsm_rank(session);
  processes = dsm_processes(session);
  map = dsm_address(session);
  CHECK(processes <= PROCESSES_MAX);
  releases = strcmp(dsm_order(session), "release") == 0;
  int found = 0;
  for (size_t i = 0; i < sizeof algorithms / sizeof algorithms[0]; i++) {
    if (strcmp(argv[1], algorithms[i].name) != 0) continue;
    algorithms[i].run();
    found++;
  }
  CHECK(found == 1);
  CHECK_OK(dsm_close(session));
  return 0;
}
