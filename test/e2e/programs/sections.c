/* Sections under one lock whose publications are small and large, through holes, and beside bytes of others:
 *   sections turns COUNT   each process enters that many and checks what the others have left
 *   sections alone COUNT   rank 0 enters that many with one store each for each line of its input; the others wait
 *   sections killed COUNT  rank 0 enters that many; the others enter until they are killed, each at a random moment */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define PROCESSES_MAX 8
#define FEW 64    /* words that each section writes: a small publication */
#define MANY 5000 /* those that some write, too: a publication in parts */
#define PAGE 4096

/* What the lock guards. Each part begins on a page. */
struct guarded {
  volatile uint64_t owner; /* 1 plus the rank of who is in the section; 0: none */
  volatile uint64_t version, large; /* of `few`, and of `many` */
  uint64_t few[FEW];
  _Alignas(PAGE) uint64_t many[MANY];
  _Alignas(PAGE) uint64_t hole[PAGE / 8 * 2];
  /* Of each word a byte belongs to each process, without a lock. */
  _Alignas(PAGE) uint8_t bytes[PAGE / 8][PROCESSES_MAX];
  _Alignas(PAGE) _Atomic uint64_t added; /* on a page with plain words */
  uint64_t beside;
};

static dsm_session *session;
static struct guarded *guarded;
static unsigned rank;
static uint64_t state = 88172645463325252ull;
static uint8_t own[PAGE / 8]; /* what this process has put into its bytes */

static uint64_t below(uint64_t limit) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state % limit;
}

/* All of each section is seen. */
static void check_all(void) {
  uint64_t version = guarded->version, large = guarded->large;
  CHECK(guarded->owner == 0);
  for (unsigned i = 0; i < FEW; i++) CHECK(guarded->few[i] == version);
  for (unsigned i = 0; i < MANY; i++) CHECK(guarded->many[i] == large);
  for (unsigned i = 0; i < PAGE / 8 * 2; i++) CHECK(guarded->hole[i] == guarded->hole[0]);
  CHECK(guarded->beside == version);
}

static void write_own_bytes(void) {
  for (unsigned n = (unsigned)below(40); n > 0; n--) {
    unsigned word = (unsigned)below(PAGE / 8);
    guarded->bytes[word][rank] = ++own[word];
  }
  for (unsigned i = 0; i < PAGE / 8; i++) CHECK(guarded->bytes[i][rank] == own[i]);
}

static void fill_hole(uint64_t version) {
  int hole;
  /* From the middle of one page to the middle of the next. */
  CHECK_OK(dsm_hole_dig(session, &guarded->hole[PAGE / 16], PAGE, &hole));
  for (unsigned i = 0; i < PAGE / 8 * 2; i++) guarded->hole[i] = version;
  CHECK_OK(dsm_hole_fill(session, hole));
}

static void enter(void) {
  int status = dsm_lock(session, "sections");
  CHECK(status == DSM_OK || status == DSM_OWNER_DIED);
  if (status == DSM_OK) check_all();
  uint64_t version = guarded->version + 1;
  guarded->owner = rank + 1;
  for (unsigned i = 0; i < FEW; i++) guarded->few[i] = version;
  guarded->version = version;
  guarded->beside = version;
  /* What a process that has died may have left half done is done again. */
  if (status == DSM_OWNER_DIED || below(4) == 0) {
    for (unsigned i = 0; i < MANY; i++) guarded->many[i] = version;
    guarded->large = version;
  }
  guarded->owner = 0;
  CHECK_OK(dsm_unlock(session, "sections"));
}

static void *kill_later(void *ignored) {
  struct timespec time = {.tv_nsec = (long)below(300000000)};
  nanosleep(&time, NULL);
  kill(getpid(), SIGKILL);
  return ignored;
}

static void killed(unsigned count) {
  pthread_t thread;
  if (rank == 0) {
    for (unsigned i = 0; i < count; i++) enter();
    return;
  }
  CHECK(pthread_create(&thread, NULL, kill_later, NULL) == 0);
  for (;;) enter();
}

static void turns(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    enter();
    write_own_bytes();
    if (below(8) == 0) atomic_fetch_add(&guarded->added, 1);
    if (below(16) == 0) {
      CHECK_OK(dsm_lock(session, "sections"));
      fill_hole(guarded->version);
      CHECK_OK(dsm_unlock(session, "sections"));
    }
  }
}

static void store_once(unsigned times) {
  for (unsigned i = 0; i < times; i++) {
    CHECK_OK(dsm_lock(session, "stores"));
    guarded->hole[0]++;
    CHECK_OK(dsm_unlock(session, "stores"));
  }
}

static void alone(unsigned count) {
  char line[16];
  store_once(8);
  while (fgets(line, sizeof line, stdin) != NULL) {
    store_once(count);
    puts("ok");
  }
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  setvbuf(stdout, NULL, _IOLBF, 0);
  unsigned count = (unsigned)atoi(argv[2]);
  CHECK_OK(dsm_open(NULL, &session));
  guarded = dsm_address(session);
  rank = (unsigned)dsm_rank(session);
  state ^= (uint64_t)getpid() << 20 ^ (uint64_t)time(NULL);
  CHECK_OK(dsm_barrier_wait(session));
  if (strcmp(argv[1], "killed") == 0) {
    killed(count);
  } else {
    if (strcmp(argv[1], "turns") == 0)
      turns(count);
    else if (rank == 0)
      alone(count);
    CHECK_OK(dsm_barrier_wait(session));
  }
  if (strcmp(argv[1], "turns") == 0) {
    check_all();
    CHECK(guarded->version == (uint64_t)count * (uint64_t)dsm_processes(session));
  }
  CHECK_OK(dsm_close(session));
  return 0;
}
