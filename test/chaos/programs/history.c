/* history LOG SEED OPERATIONS THREADS DIE_AT STORES LOCKS: does OPERATIONS random operations on each of THREADS threads, on
 * words and semaphores that all processes of the session share, and logs each with the times of its call and its return.
 * The log is a file mapped in, so that it is there when the process has been killed: at DIE_AT operations (0: never) it
 * kills itself, whatever its threads are in the middle of. STORES 0: no plain stores. LOCKS 1: named locks in place of
 * semaphores, one for each thread; it then dies when it next has one. */
#include <dsm/dsm.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Known to test/chaos/history.ts. */
enum { STORE, ADD, OR, AND, XOR, EXCHANGE, COMPARE, WORD_KINDS, WAIT = 16, TRY, TIMED, POST };
enum { LOCK = 32, LOCK_TRY, LOCK_TIMED, UNLOCK, UNLOCK_UNMENDED };
enum { WORDS = 4, SEMAPHORES = 2, SEMAPHORE_VALUE = 2 };
struct record {
  uint64_t invoked, returned; /* ns; 0: not yet */
  uint64_t operand, expected, result;
  uint32_t kind, object, status, thread;
  uint64_t pad;
};
_Static_assert(sizeof(struct record) == 64, "known to the reader");

static dsm_session *session;
static struct record *records; /* OPERATIONS for each thread */
static uint64_t seed, operations, threads, die_at, stores, locks;
static uint64_t done;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static struct record *begin(uint64_t thread, uint64_t *count, struct record call) {
  struct record *r = &records[thread * operations + (*count)++];
  *r = call;
  r->thread = (uint32_t)thread;
  __atomic_store_n(&r->invoked, now(), __ATOMIC_SEQ_CST);
  return r;
}

static void end(struct record *r) {
  __atomic_store_n(&r->returned, now(), __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
}

/* Each word in a cache line of its own, some of them in one page. */
static uint64_t *word(uint32_t object) { return (uint64_t *)dsm_address(session) + object * 328; }

static void on_word(struct record *r, uint64_t *seen) {
  uint64_t *at = word(r->object);
  switch (r->kind) {
    case STORE: *(volatile uint64_t *)at = r->operand; break;
    case ADD: r->result = __atomic_fetch_add(at, r->operand, __ATOMIC_SEQ_CST); break;
    case OR: r->result = __atomic_fetch_or(at, r->operand, __ATOMIC_SEQ_CST); break;
    case AND: r->result = __atomic_fetch_and(at, r->operand, __ATOMIC_SEQ_CST); break;
    case XOR: r->result = __atomic_fetch_xor(at, r->operand, __ATOMIC_SEQ_CST); break;
    case EXCHANGE: r->result = __atomic_exchange_n(at, r->operand, __ATOMIC_SEQ_CST); break;
    default:
      r->result = r->expected;
      __atomic_compare_exchange_n(at, &r->result, r->operand, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  }
  *seen = r->kind == STORE ? r->operand : r->result;
}

static int on_semaphore(uint32_t kind, uint32_t object) {
  char name[8] = {'s', (char)('0' + object), 0};
  switch (kind) {
    case WAIT: return dsm_sem_wait(session, name, SEMAPHORE_VALUE);
    case TRY: return dsm_sem_trywait(session, name, SEMAPHORE_VALUE);
    case TIMED: return dsm_sem_timedwait(session, name, SEMAPHORE_VALUE, 1);
    default: return dsm_sem_post(session, name, SEMAPHORE_VALUE);
  }
}

static int on_lock(uint32_t kind, uint32_t object) {
  char name[8] = {'l', (char)('0' + object), 0};
  switch (kind) {
    case LOCK: return dsm_lock(session, name);
    case LOCK_TRY: return dsm_lock_try(session, name);
    case LOCK_TIMED: return dsm_lock_timed(session, name, 1);
    case UNLOCK: return dsm_unlock(session, name);
    default: return dsm_unlock_unmended(session, name);
  }
}

/* A lock is a process's: of each process one thread uses it. Mostly unlocks what it has, and locks what it has not. */
static void use_lock(uint64_t thread, uint64_t *count, uint64_t draw, int last, int *has) {
  uint32_t kind = LOCK + (uint32_t)(draw >> 8) % 3;
  if (last || (*has ? (draw >> 16 & 7) != 0 : (draw >> 16 & 15) == 0)) kind = UNLOCK + (uint32_t)(draw >> 24) % 2;
  struct record *r = begin(thread, count, (struct record){.kind = kind, .object = (uint32_t)thread});
  r->status = (uint32_t)on_lock(kind, r->object);
  if (kind >= UNLOCK) *has = 0;
  else if (r->status == DSM_OK || r->status == DSM_OWNER_DIED) *has = 1;
  end(r);
  /* With the lock, and with the other threads in the middle of something. */
  if (*has && die_at > 0 && __atomic_load_n(&done, __ATOMIC_SEQ_CST) >= die_at) kill(getpid(), SIGKILL);
}

static void *work(void *argument) {
  uint64_t thread = (uint64_t)argument, count = 0, seen[WORDS] = {0};
  uint64_t random = seed * 1000003 + (uint64_t)dsm_rank(session) * 64 + thread;
  int has = 0, held = -1; /* the one semaphore this thread has taken: no thread waits for two, so none waits for ever */
  while (count < operations) {
    uint64_t draw = next_random(&random);
    int last = count + 1 == operations;
    if (locks && (draw % 4 == 0 || last)) {
      use_lock(thread, &count, draw, last, &has);
    } else if (held >= 0 && (last || draw % 4 == 0)) {
      struct record *r = begin(thread, &count, (struct record){.kind = POST, .object = (uint32_t)held});
      r->status = (uint32_t)on_semaphore(POST, r->object);
      end(r);
      held = -1;
    } else if (!locks && held < 0 && !last && draw % 8 == 0) {
      uint32_t kind = WAIT + (uint32_t)(draw >> 8) % 3;
      struct record call = {.kind = kind, .object = (uint32_t)(draw >> 16) % SEMAPHORES};
      struct record *r = begin(thread, &count, call);
      r->status = (uint32_t)on_semaphore(kind, r->object);
      if (r->status == DSM_OK) held = (int)r->object;
      end(r);
    } else {
      uint32_t object = (uint32_t)(draw >> 16) % WORDS;
      uint32_t first = stores ? STORE : ADD;
      struct record call = {.kind = first + (uint32_t)(draw >> 8) % (WORD_KINDS - first), .object = object};
      /* A value of one writer; small changes of bits; expected is what was seen last. */
      call.operand = (uint64_t)(dsm_rank(session) + 1) << 48 | thread << 40 | count << 16;
      if (call.kind == OR || call.kind == XOR) call.operand = 1ull << (draw >> 32) % 8;
      if (call.kind == AND) call.operand = ~(1ull << (draw >> 32) % 8);
      if (call.kind == ADD) call.operand = (draw >> 32) % 3;
      call.expected = call.kind == COMPARE ? seen[object] : 0;
      struct record *r = begin(thread, &count, call);
      on_word(r, &seen[object]);
      end(r);
    }
  }
  return NULL;
}

static void *die(void *nothing) {
  struct timespec pause = {.tv_nsec = 20000};
  while (__atomic_load_n(&done, __ATOMIC_SEQ_CST) < die_at) nanosleep(&pause, NULL);
  kill(getpid(), SIGKILL);
  return nothing;
}

static int complain(const char *what) {
  fprintf(stderr, "%s: %s\n", what, dsm_last_error());
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 8) return 2;
  seed = strtoull(argv[2], NULL, 10);
  operations = strtoull(argv[3], NULL, 10);
  threads = strtoull(argv[4], NULL, 10);
  die_at = strtoull(argv[5], NULL, 10);
  stores = strtoull(argv[6], NULL, 10);
  locks = strtoull(argv[7], NULL, 10);
  size_t size = sizeof(struct record) * operations * threads;
  int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || ftruncate(fd, (off_t)size) != 0) return 2;
  records = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (records == MAP_FAILED) return 2;
  if (dsm_open(NULL, &session) != DSM_OK) return complain("open");
  if (dsm_barrier_wait(session) != DSM_OK) return complain("barrier");
  pthread_t workers[16], killer;
  if (threads > 16) return 2;
  if (die_at > 0 && !locks && pthread_create(&killer, NULL, die, NULL) != 0) return 2;
  for (uint64_t i = 0; i < threads; i++)
    if (pthread_create(&workers[i], NULL, work, (void *)i) != 0) return 2;
  for (uint64_t i = 0; i < threads; i++) pthread_join(workers[i], NULL);
  if (die_at > 0 && !locks) pthread_join(killer, NULL); /* it does not come back */
  return dsm_close(session) == DSM_OK ? 0 : complain("close");
}
