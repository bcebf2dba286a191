/* Objects in the map, used by several threads of several processes: objects CASE THREADS TURNS; of a session to which processes
 * come while it runs: objects grow THREADS TURNS PROCESSES. The same cases for the types
 * of dsm.h and, compiled by objects_pthread.c, for those of pthreads. Each process checks what it sees. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

/* What a call says. */
enum { GOT, DIED, NOT_NOW, TOO_LATE, IS_MINE, NOT_MINE, OTHER };

#define QUEUE_MAX 4
#define SLOTS 64
#define PATIENCE_MS 60000

#ifdef PTHREADS

typedef pthread_mutex_t mutex;
typedef pthread_cond_t cond;
typedef pthread_rwlock_t rwlock;
typedef pthread_barrier_t barrier;
typedef sem_t semaphore;

static int said(int error) {
  switch (error) {
    case 0: return GOT;
    case EOWNERDEAD: return DIED;
    case EBUSY:
    case EAGAIN: return NOT_NOW;
    case ETIMEDOUT: return TOO_LATE;
    case EDEADLK: return IS_MINE;
    case EPERM: return NOT_MINE;
    default: fprintf(stderr, "said %d\n", error); return OTHER;
  }
}

static struct timespec after_ms(int ms) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  time.tv_sec += ms / 1000;
  time.tv_nsec += ms % 1000 * 1000000;
  if (time.tv_nsec >= 1000000000) time.tv_sec++, time.tv_nsec -= 1000000000;
  return time;
}

static void make_mutex(mutex *m, int type) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_settype(&attributes, type);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  CHECK(pthread_mutex_init(m, &attributes) == 0);
}
static void make_barrier(barrier *b, unsigned count) { CHECK(pthread_barrier_init(b, NULL, count) == 0); }
static void make_semaphore(semaphore *s, unsigned value) { CHECK(sem_init(s, 1, value) == 0); }
static int lock(mutex *m) { return said(pthread_mutex_lock(m)); }
static int try_lock(mutex *m) { return said(pthread_mutex_trylock(m)); }
static int timed_lock(mutex *m, int ms) {
  struct timespec time = after_ms(ms);
  return said(pthread_mutex_timedlock(m, &time));
}
static int unlock(mutex *m) { return said(pthread_mutex_unlock(m)); }
static void mend(mutex *m) { CHECK(pthread_mutex_consistent(m) == 0); }
static int wait_for(cond *c, mutex *m) { return said(pthread_cond_wait(c, m)); }
static int timed_wait_for(cond *c, mutex *m, int ms) {
  struct timespec time = after_ms(ms);
  return said(pthread_cond_timedwait(c, m, &time));
}
static int signal_one(cond *c) { return said(pthread_cond_signal(c)); }
static int signal_all(cond *c) { return said(pthread_cond_broadcast(c)); }
static int read_lock(rwlock *r) { return said(pthread_rwlock_rdlock(r)); }
static int write_lock(rwlock *r) { return said(pthread_rwlock_wrlock(r)); }
static int try_write_lock(rwlock *r) { return said(pthread_rwlock_trywrlock(r)); }
static int rw_unlock(rwlock *r) { return said(pthread_rwlock_unlock(r)); }
static int take(semaphore *s) { return said(sem_wait(s) == 0 ? 0 : errno); }
static int try_take(semaphore *s) { return said(sem_trywait(s) == 0 ? 0 : errno); }
static int timed_take(semaphore *s, int ms) {
  struct timespec time = after_ms(ms);
  return said(sem_timedwait(s, &time) == 0 ? 0 : errno);
}
static int post(semaphore *s) { return said(sem_post(s) == 0 ? 0 : errno); }
static int meet(barrier *b, int *is_last) {
  int result = pthread_barrier_wait(b);
  *is_last = result == PTHREAD_BARRIER_SERIAL_THREAD;
  return *is_last ? GOT : said(result);
}

#else

typedef dsm_mutex mutex;
typedef dsm_cond cond;
typedef dsm_rwlock rwlock;
typedef struct dsm_barrier barrier;
typedef dsm_semaphore semaphore;

static int said(int status) {
  switch (status) {
    case DSM_OK: return GOT;
    case DSM_OWNER_DIED: return DIED;
    case DSM_AGAIN: return NOT_NOW;
    case DSM_TIMEOUT: return TOO_LATE;
    case DSM_BUSY: return IS_MINE;
    case DSM_NOT_OWNER: return NOT_MINE;
    default: fprintf(stderr, "said %s\n", dsm_last_error()); return OTHER;
  }
}

static void make_barrier(barrier *b, unsigned count) { CHECK_OK(dsm_barrier_init(b, count)); }
static void make_semaphore(semaphore *s, unsigned value) { CHECK_OK(dsm_semaphore_init(s, value)); }
static int lock(mutex *m) { return said(dsm_mutex_lock(m)); }
static int try_lock(mutex *m) { return said(dsm_mutex_trylock(m)); }
static int timed_lock(mutex *m, int ms) { return said(dsm_mutex_timedlock(m, (uint32_t)ms)); }
static int unlock(mutex *m) { return said(dsm_mutex_unlock(m)); }
static void mend(mutex *m) { (void)m; }
static int wait_for(cond *c, mutex *m) { return said(dsm_cond_wait(c, m)); }
static int timed_wait_for(cond *c, mutex *m, int ms) { return said(dsm_cond_timedwait(c, m, (uint32_t)ms)); }
static int signal_one(cond *c) { return said(dsm_cond_signal(c)); }
static int signal_all(cond *c) { return said(dsm_cond_broadcast(c)); }
static int read_lock(rwlock *r) { return said(dsm_rwlock_rdlock(r)); }
static int write_lock(rwlock *r) { return said(dsm_rwlock_wrlock(r)); }
static int try_write_lock(rwlock *r) { return said(dsm_rwlock_trywrlock(r)); }
static int rw_unlock(rwlock *r) { return said(dsm_rwlock_unlock(r)); }
static int take(semaphore *s) { return said(dsm_semaphore_wait(s)); }
static int try_take(semaphore *s) { return said(dsm_semaphore_trywait(s)); }
static int timed_take(semaphore *s, int ms) { return said(dsm_semaphore_timedwait(s, (uint32_t)ms)); }
static int post(semaphore *s) { return said(dsm_semaphore_post(s)); }
static int meet(barrier *b, int *is_last) { return said(dsm_barrier_arrive_and_wait(b, is_last)); }

#endif

static struct shared {
  mutex mutex;
  cond changed, room;
  rwlock rwlock;
  barrier barrier;
  semaphore semaphore, items;
  long count, twin;
  long turn;
  long queue[QUEUE_MAX];
  long first, used, sum, taken;
  long arrived[SLOTS];
  long lasts;
} *shared;

static dsm_session *session;
static int threads, turns, all; /* all: threads of all processes */

/* Counts with a lock, in two words that are equal while no thread is inside. */
static void add_one(void) {
  CHECK(shared->count == shared->twin);
  shared->count += 1;
  shared->twin += 1;
}

static void case_mutex(int self) {
  for (int i = 0; i < turns; i++) {
    int got = GOT;
    switch ((self + i) % 3) {
      case 0: got = lock(&shared->mutex); break;
      case 1:
        while ((got = try_lock(&shared->mutex)) == NOT_NOW) usleep(100);
        break;
      case 2:
        while ((got = timed_lock(&shared->mutex, 1 + i % 5)) == TOO_LATE) continue;
        break;
    }
    CHECK(got == GOT);
    add_one();
    CHECK(unlock(&shared->mutex) == GOT);
  }
}

/* Waits that are often given up, in rounds: each thread has the mutex once in a round. A mutex that a process keeps for threads
 * that do not wait any more would stop the other process. */
static void case_hasty(int self) {
  for (int i = 0; i < turns; i++) {
    int got, is_last;
    while ((got = timed_lock(&shared->mutex, 1)) == TOO_LATE) continue;
    CHECK(got == GOT);
    add_one();
    usleep(100 + (unsigned)(self + i) % 4 * 100); /* so long that others give up */
    CHECK(unlock(&shared->mutex) == GOT);
    CHECK(meet(&shared->barrier, &is_last) == GOT);
  }
}

static void case_ring(int self) {
  for (long i = 0; i < turns; i++) {
    CHECK(lock(&shared->mutex) == GOT);
    while (shared->turn % all != self) {
      int got = i % 2 == 0 ? wait_for(&shared->changed, &shared->mutex)
                           : timed_wait_for(&shared->changed, &shared->mutex, PATIENCE_MS);
      CHECK(got == GOT);
    }
    add_one();
    shared->turn += 1;
    CHECK(signal_all(&shared->changed) == GOT);
    CHECK(unlock(&shared->mutex) == GOT);
  }
}

/* Even threads put numbers into a queue, odd ones take them. Each put and each removal wakes one thread. */
static void case_queue(int self) {
  for (long i = 1; i <= turns; i++) {
    CHECK(lock(&shared->mutex) == GOT);
    if (self % 2 == 0) {
      while (shared->used == QUEUE_MAX) CHECK(wait_for(&shared->room, &shared->mutex) == GOT);
      shared->queue[(shared->first + shared->used++) % QUEUE_MAX] = i;
      CHECK(signal_one(&shared->changed) == GOT);
    } else {
      while (shared->used == 0) CHECK(wait_for(&shared->changed, &shared->mutex) == GOT);
      shared->sum += shared->queue[shared->first];
      shared->first = (shared->first + 1) % QUEUE_MAX;
      shared->used -= 1;
      shared->taken += 1;
      CHECK(signal_one(&shared->room) == GOT);
    }
    CHECK(unlock(&shared->mutex) == GOT);
  }
}

static void case_rwlock(int self) {
  for (int i = 0; i < turns; i++) {
    if ((self + i) % 4 == 0) {
      int got;
      if (i % 2 == 0)
        got = write_lock(&shared->rwlock);
      else
        while ((got = try_write_lock(&shared->rwlock)) == NOT_NOW) usleep(100);
      CHECK(got == GOT);
      add_one();
      CHECK(rw_unlock(&shared->rwlock) == GOT);
    } else {
      CHECK(read_lock(&shared->rwlock) == GOT);
      CHECK(shared->count == shared->twin);
      CHECK(rw_unlock(&shared->rwlock) == GOT);
    }
  }
}

static void case_barrier(int self) {
  for (long i = 1; i <= turns; i++) {
    int is_last;
    shared->arrived[self] = i;
    CHECK(meet(&shared->barrier, &is_last) == GOT);
    for (int other = 0; other < all; other++) CHECK(shared->arrived[other] == i);
    if (is_last) __atomic_fetch_add(&shared->lasts, 1, __ATOMIC_SEQ_CST);
    CHECK(meet(&shared->barrier, &is_last) == GOT);
  }
}

/* A semaphore of 1 as a lock, and one that starts at 0 as a count of things. */
static void case_semaphore(int self) {
  for (int i = 0; i < turns; i++) {
    int got = GOT;
    switch ((self + i) % 3) {
      case 0: got = take(&shared->semaphore); break;
      case 1:
        while ((got = try_take(&shared->semaphore)) == NOT_NOW) usleep(100);
        break;
      case 2:
        while ((got = timed_take(&shared->semaphore, 1 + i % 5)) == TOO_LATE) continue;
        break;
    }
    CHECK(got == GOT);
    add_one();
    CHECK(post(&shared->semaphore) == GOT);
    CHECK((self % 2 == 0 ? post(&shared->items) : take(&shared->items)) == GOT);
  }
}

static const struct { const char *name; void (*run)(int self); } cases[] = {
    {"mutex", case_mutex},   {"hasty", case_hasty},     {"ring", case_ring},           {"queue", case_queue},
    {"rwlock", case_rwlock}, {"barrier", case_barrier}, {"semaphore", case_semaphore},
};
static void (*chosen)(int self);

static void *run_thread(void *number) {
  chosen((int)(long)number);
  return NULL;
}

static void make_all(void) {
#ifdef PTHREADS
  make_mutex(&shared->mutex, PTHREAD_MUTEX_ERRORCHECK);
  CHECK(pthread_cond_init(&shared->room, NULL) == 0); /* `changed` stays a static initialiser */
#endif
  make_barrier(&shared->barrier, (unsigned)all);
  make_semaphore(&shared->semaphore, 1);
}

/* What a mutex says to those that may not do what they ask. */
static void *other_thread(void *unused) {
  CHECK(try_lock(&shared->mutex) == NOT_NOW);
  CHECK(timed_lock(&shared->mutex, 20) == TOO_LATE);
  CHECK(unlock(&shared->mutex) == NOT_MINE);
  CHECK(try_take(&shared->items) == NOT_NOW);
  CHECK(timed_take(&shared->items, 20) == TOO_LATE);
  return unused;
}

static void check_errors(void) {
  pthread_t other;
  CHECK(lock(&shared->mutex) == GOT);
  CHECK(lock(&shared->mutex) == IS_MINE);
  CHECK(pthread_create(&other, NULL, other_thread, NULL) == 0);
  CHECK(pthread_join(other, NULL) == 0);
  CHECK(timed_wait_for(&shared->changed, &shared->mutex, 20) == TOO_LATE);
  CHECK(unlock(&shared->mutex) == GOT);
  CHECK(unlock(&shared->mutex) == NOT_MINE);
  CHECK(wait_for(&shared->changed, &shared->mutex) == NOT_MINE);
#ifdef PTHREADS
  /* Without a call of pthread_mutex_init(): zero bytes, and PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP. */
  pthread_mutex_t *plain = dsm_address(session) + 16384, *recursive = plain + 1;
  errno = ENOTTY;
  *recursive = (pthread_mutex_t)PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
  for (int i = 0; i < 3; i++) CHECK(pthread_mutex_lock(recursive) == 0);
  for (int i = 0; i < 3; i++) CHECK(pthread_mutex_unlock(recursive) == 0);
  CHECK(pthread_mutex_unlock(recursive) == EPERM);
  CHECK(pthread_mutex_lock(plain) == 0);
  CHECK(pthread_mutex_trylock(plain) == EBUSY);
  struct timespec soon = after_ms(20);
  CHECK(pthread_mutex_timedlock(plain, &soon) == ETIMEDOUT);
  CHECK(pthread_mutex_destroy(plain) == EBUSY);
  CHECK(pthread_mutex_unlock(plain) == 0);
  CHECK(pthread_mutex_destroy(plain) == 0);
  CHECK(pthread_mutex_lock(plain) == EINVAL);
  CHECK(pthread_mutex_init(plain, NULL) == 0);
  CHECK(pthread_mutex_lock(plain) == 0);
  struct timespec wrong = {.tv_nsec = -1};
  CHECK(pthread_mutex_timedlock(plain, &wrong) == EINVAL);
  CHECK(pthread_mutex_unlock(plain) == 0);
  pthread_mutexattr_t inherits;
  pthread_mutexattr_init(&inherits);
  pthread_mutexattr_setprotocol(&inherits, PTHREAD_PRIO_INHERIT);
  /* In direct mode that stays these are glibc's own. */
  int is_glibcs = dsm_is_direct(session) && getenv("DSM_ELASTIC") == NULL;
  CHECK(pthread_mutex_init(plain, &inherits) == (is_glibcs ? 0 : ENOTSUP));
  CHECK(errno == ENOTTY);
#else
  CHECK(dsm_mutex_lock((dsm_mutex *)((char *)&shared->mutex + 8)) == DSM_INVALID);
  dsm_mutex elsewhere = {0};
  CHECK(dsm_mutex_lock(&elsewhere) == DSM_INVALID);
  char *end = (char *)dsm_address(session) + dsm_size(session);
  CHECK(dsm_mutex_lock((dsm_mutex *)end) == DSM_INVALID);
  CHECK(dsm_mutex_lock((dsm_mutex *)end - 1) == DSM_OK);
  CHECK(dsm_mutex_unlock((dsm_mutex *)end - 1) == DSM_OK);
#endif
}

#ifdef PTHREADS
/* A process is lost. A robust mutex says so; a call that no program looks at ends the process. */
static void lose_one(void) {
  CHECK_OK(dsm_barrier_wait(session));
  if (dsm_rank(session) != 0) kill(getpid(), SIGKILL);
  int error;
  while ((error = pthread_mutex_lock(&shared->mutex)) == 0) CHECK(unlock(&shared->mutex) == GOT);
  CHECK(error == ENOTRECOVERABLE);
  printf("robust\n");
  fflush(stdout);
  pthread_mutex_lock(dsm_address(session) + 16384);
}
#endif

/* Rank 0 survives the others, which die while they have the mutex. */
static void check_deaths(void) {
  int rank = dsm_rank(session), processes = dsm_processes(session), deaths = 0;
  CHECK_OK(dsm_barrier_wait(session));
  if (rank != 0) {
    for (int i = 0;; i++) {
      int got = lock(&shared->mutex);
      CHECK(got == GOT || got == DIED);
      if (got == DIED) {
        /* A death is told once: count it, and mend. */
        shared->taken += 1;
        shared->twin = shared->count;
        mend(&shared->mutex);
      }
      CHECK(shared->count == shared->twin);
      shared->count += 1;
      if (i == turns * rank) kill(getpid(), SIGKILL);
      shared->twin += 1;
      CHECK(unlock(&shared->mutex) == GOT);
    }
  }
  for (int all_died = 0; !all_died;) {
    int got = lock(&shared->mutex);
    CHECK(got == GOT || got == DIED);
    if (got == DIED) {
      deaths += 1;
      CHECK(shared->count == shared->twin + 1);
      shared->twin = shared->count;
      mend(&shared->mutex);
    }
    CHECK(shared->count == shared->twin);
    all_died = deaths + shared->taken >= processes - 1;
    CHECK(unlock(&shared->mutex) == GOT);
  }
  CHECK(lock(&shared->mutex) == GOT);
  CHECK(deaths + shared->taken == processes - 1);
  CHECK(unlock(&shared->mutex) == GOT);
}

/* All kinds of locks, which start as zero bytes, while other processes come. */
static void *grow(void *number) {
  int self = (int)(long)number;
  for (int i = 0; i < turns; i++) {
    CHECK(lock(&shared->mutex) == GOT);
    add_one();
    if (i % 5 == self % 5) {
      int got = timed_wait_for(&shared->room, &shared->mutex, 1);
      CHECK(got == GOT || got == TOO_LATE);
      CHECK(shared->count == shared->twin);
    } else {
      CHECK(signal_one(&shared->room) == GOT);
    }
    CHECK(unlock(&shared->mutex) == GOT);
    CHECK(post(&shared->items) == GOT);
    CHECK((i % 4 == 0 ? write_lock(&shared->rwlock) : read_lock(&shared->rwlock)) == GOT);
    if (i % 4 == 0) shared->turn += 1;
    CHECK(rw_unlock(&shared->rwlock) == GOT);
    CHECK(take(&shared->items) == GOT);
  }
  return NULL;
}

static void grow_with(int processes) {
  pthread_t ids[SLOTS];
  for (long i = 0; i < threads; i++) CHECK(pthread_create(&ids[i], NULL, grow, (void *)i) == 0);
  for (int i = 0; i < threads; i++) CHECK(pthread_join(ids[i], NULL) == 0);
  CHECK(lock(&shared->mutex) == GOT);
  shared->taken += 1;
  CHECK(signal_all(&shared->changed) == GOT);
  while (shared->taken < processes) CHECK(wait_for(&shared->changed, &shared->mutex) == GOT);
  CHECK(unlock(&shared->mutex) == GOT);
  CHECK(shared->count == (long)processes * threads * turns && shared->count == shared->twin);
  CHECK(shared->turn == (long)processes * threads * ((turns + 3) / 4));
  CHECK_OK(dsm_close(session));
  printf("ok\n");
  exit(0);
}

int main(int argc, char **argv) {
  CHECK(argc >= 4);
  threads = atoi(argv[2]), turns = atoi(argv[3]);
  CHECK_OK(dsm_open(NULL, &session));
  shared = dsm_address(session);
  if (argc == 5) grow_with(atoi(argv[4]));
  all = threads * dsm_processes(session);
  CHECK(all <= SLOTS);
  if (dsm_rank(session) == 0) make_all();
  CHECK_OK(dsm_barrier_wait(session));
  if (strcmp(argv[1], "errors") == 0) {
    if (dsm_rank(session) == 0) check_errors();
#ifdef PTHREADS
  } else if (strcmp(argv[1], "loss") == 0) {
    lose_one();
#endif
  } else if (strcmp(argv[1], "deaths") == 0) {
    check_deaths();
    CHECK_OK(dsm_close(session));
    printf("ok\n");
    return 0;
  } else {
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
      if (strcmp(argv[1], cases[i].name) == 0) chosen = cases[i].run;
    CHECK(chosen != NULL);
    pthread_t ids[SLOTS];
    for (long i = 0; i < threads; i++)
      CHECK(pthread_create(&ids[i], NULL, run_thread, (void *)(i + (long)threads * dsm_rank(session))) == 0);
    for (int i = 0; i < threads; i++) CHECK(pthread_join(ids[i], NULL) == 0);
  }
  CHECK_OK(dsm_barrier_wait(session));
  CHECK(shared->count == shared->twin);
  if (chosen == case_mutex || chosen == case_hasty || chosen == case_ring || chosen == case_semaphore)
    CHECK(shared->count == (long)all * turns);
  if (chosen == case_queue) CHECK(shared->sum == (long)all / 2 * turns * (turns + 1) / 2 && shared->used == 0);
  if (chosen == case_barrier) CHECK(shared->lasts == turns);
  CHECK_OK(dsm_close(session));
  printf("ok\n");
  return 0;
}
