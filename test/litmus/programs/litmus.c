/* The litmus machine: runs small programs of a few processes on many sets of locations at once and counts how each
 * ends.
 *
 *   litmus TESTS SIDE ROUND ITERATIONS ITERATIONS_MAX SEED
 *
 * TESTS is a file, written by litmus.ts; SIDE a file all processes map beside the session (side.h), with `plain` as
 * the session's stand-in. Every round runs ROUND instances of a test, each on locations of its own, and rank 0 counts.
 * Rounds follow until there are ITERATIONS, and on to ITERATIONS_MAX while an expected outcome has not been seen.
 *
 * A test, one item a line:
 *   test NAME THREADS COLUMN ROWS   THREADS of each process share the instances; each meets its like in the other
 *                              processes every COLUMN of them. ROWS of 16 columns are done one instance after the
 *                              other, the rest step by step: the first step of all the column's instances, then the
 *                              second. A fence, semaphore, barrier or hole then serves them all.
 *   process STEP STEP ...      one for each process
 *   show abxy                  an outcome: registers (a to h), and locations' last values (x, y, z)
 *   expect OUTCOME             goes on until this one is seen
 *   end
 * Steps: a letter for what is done, then location, value and register as far as they apply.
 *   S<w>:x1   store of w bytes (1 2 4 8 by one register, 16 32 64 by one vector), every byte 1
 *   T:x1      64 bytes by `rep stosb`
 *   H:x1      the same bytes written in a hole, which is then filled
 *   L<w>:xa   load of w bytes into a: their value, or 9 when they differ
 *   X:x1a     exchange     A:x1a  fetch and add     C:x12a  compare with 1, exchange for 2; a gets the value before
 *   F:        dsm_fence    M:     mfence
 *   P:s V:s   post and wait for a semaphore     B:  barrier
 *
 * Instances have locations of their own, and within a column nothing but waits of random length says where the other
 * processes are.
 *
 * Where a store is seen later than it is made, threads fence now and then between columns, in the middle of those of
 * the others: under `release` nothing would be seen otherwise. There they also write on lines of their own in the pages
 * of what is under test, so that these are private copies to their process, and locations of atomic operations lie on
 * other pages than the rest, as that order asks for.
 *
 * With LITMUS_MEMORY=plain:RANK:PROCESSES there is no session: the map is ordinary shared memory, to see what the
 * processors do by themselves. With broken:RANK:PROCESSES that memory is also given back stale and written late and out
 * of order, to see that the machine notices.
 *
 * Prints `NAME OUTCOME COUNT` lines, and for each test `NAME total ITERATIONS MICROSECONDS`. */
#include "side.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

enum {
  PROCESSES_MAX = 4,
  STEPS_MAX = 12,
  THREADS_MAX = 128,
  COLUMN_MAX = 128,
  MODES = 16, /* what ROWS is a share of */
  REGISTERS = 8,
  LOCATIONS = 3,
  EXPECTED_MAX = 64,
  TESTS_MAX = 256,
  LINE = 64, /* a location has a cache line of its own: vector stores fill it */
  SCRIBBLERS_MAX = LINE, /* threads that write a byte each beside the locations */
  PAGE = 4096,
  PAGE_SLOTS = PAGE / LINE - PROCESSES_MAX, /* under release: the other lines of a page are a process's own */
};

struct step {
  char kind;
  uint8_t width, location, value, other, reg; /* other: what a compare-and-exchange puts */
  bool records;
};

struct test {
  char name[64], show[12], expected[EXPECTED_MAX][12];
  int threads, column, rows, processes, expectations, writes[PROCESSES_MAX], steps[PROCESSES_MAX];
  struct step step[PROCESSES_MAX][STEPS_MAX];
  bool atomic[LOCATIONS]; /* some step is an atomic operation there */
  bool digs;              /* some step is a hole */
};

/* Beside the session. */
struct side {
  struct meeting all, group[THREADS_MAX];
  _Atomic uint32_t begun[THREADS_MAX][PROCESSES_MAX]; /* instances of the round that each thread has begun */
  _Atomic uint64_t store_ns; /* what a step that writes takes, about */
  _Atomic bool again;
  uint8_t outcome[]; /* per instance: registers, then for each rank what it finds in the locations at the end */
};

static struct test tests[TESTS_MAX];
static int test_count;
static dsm_session *session; /* NULL: plain memory */
static bool broken;   /* memory that is */
static bool releases; /* a session whose order is release */
static bool late;     /* or any in which a store may be made before it is seen */
static int rank, processes;
static uint8_t *map;
static struct side *side;
static uint32_t round_size, seed, slot_mask;
static size_t part; /* bytes of the map that slots take up; under release as many again, for atomics */

/* ---- reading the tests ---- */

static struct step parse_step(const char *text) {
  struct step step = {.kind = text[0]};
  const char *at = text + 1;
  while (*at >= '0' && *at <= '9') step.width = (uint8_t)(step.width * 10 + *at++ - '0');
  CHECK(*at++ == ':');
  bool compares = step.kind == 'C', first = true;
  for (; *at != 0; at++) {
    if (*at >= 'x' && *at <= 'z') step.location = (uint8_t)(*at - 'x');
    else if (*at >= '0' && *at <= '8' && compares && !first) step.other = (uint8_t)(*at - '0');
    else if (*at >= '0' && *at <= '8') step.value = (uint8_t)(*at - '0'), first = false;
    else if (*at >= 'a' && *at < 'a' + REGISTERS) step.reg = (uint8_t)(*at - 'a'), step.records = true;
    else CHECK(*at == 's' && "a known letter");
  }
  CHECK(strchr("STHLXACFMPVB", step.kind) != NULL);
  return step;
}

static void read_tests(const char *path) {
  char line[256], kind[16];
  FILE *file = fopen(path, "r");
  CHECK(file != NULL);
  struct test *test = NULL;
  while (fgets(line, sizeof line, file) != NULL) {
    int used = 0;
    CHECK(sscanf(line, "%15s%n", kind, &used) == 1);
    if (strcmp(kind, "test") == 0) {
      CHECK(test_count < TESTS_MAX);
      test = &tests[test_count++];
      CHECK(sscanf(line + used, "%63s %d %d %d", test->name, &test->threads, &test->column, &test->rows) == 4);
      CHECK(test->threads >= 1 && test->threads <= THREADS_MAX);
      CHECK(test->column >= 1 && test->column <= COLUMN_MAX && test->rows >= 0 && test->rows <= MODES);
    } else if (strcmp(kind, "process") == 0) {
      CHECK(test != NULL && test->processes < PROCESSES_MAX);
      int process = test->processes++;
      for (char *word = strtok(line + used, " \n"); word != NULL; word = strtok(NULL, " \n")) {
        CHECK(test->steps[process] < STEPS_MAX);
        struct step step = parse_step(word);
        test->writes[process] += strchr("STHXACF", step.kind) != NULL;
        test->atomic[step.location] |= strchr("XAC", step.kind) != NULL;
        test->digs |= step.kind == 'H';
        test->step[process][test->steps[process]++] = step;
      }
    } else if (strcmp(kind, "show") == 0) {
      CHECK(test != NULL && sscanf(line + used, "%11s", test->show) == 1);
    } else if (strcmp(kind, "expect") == 0) {
      CHECK(test != NULL && test->expectations < EXPECTED_MAX);
      CHECK(sscanf(line + used, "%11s", test->expected[test->expectations++]) == 1);
    } else {
      CHECK(strcmp(kind, "end") == 0 && test != NULL && test->processes == processes);
    }
  }
  fclose(file);
}

/* ---- steps ---- */

/* A bijection of the numbers below `count`, which is a power of two times 3 or 5. */
static uint32_t shuffle(uint32_t at, uint32_t count, uint32_t scatter) {
  uint32_t factor = scatter | 1;
  while (factor % 3 == 0 || factor % 5 == 0) factor += 2;
  return (uint32_t)(((uint64_t)at * factor + (scatter >> 8)) % count);
}

/* Each round scatters the instances' locations in another way: over the whole map, x on its page with y or far away; or
 * (three rounds of four, and where there are holes) so that those of a column lie together, mixed, and the columns are
 * scattered. Then they share pages, and a hole can have all of a column and nothing of another thread's. */
static uint8_t *location(const struct test *test, uint32_t instance, unsigned which, uint32_t scatter) {
  uint32_t slot, column = (uint32_t)test->column;
  if ((scatter >> 30) == 0 && !test->digs) {
    slot = ((instance * LOCATIONS + which) * (scatter | 1) + (scatter >> 8)) & slot_mask;
  } else {
    uint32_t inside = shuffle(instance % column * LOCATIONS + which, column * LOCATIONS, scatter);
    slot = shuffle(instance / column, round_size / column, scatter >> 3) * column * LOCATIONS + inside;
  }
  if (!releases) return map + (size_t)slot * LINE;
  return map + (test->atomic[which] ? part : 0) + (size_t)(slot / PAGE_SLOTS) * PAGE + (slot % PAGE_SLOTS) * LINE;
}

static uint8_t *outcome_of(uint32_t instance) {
  return side->outcome + (size_t)instance * (REGISTERS + (size_t)processes * LOCATIONS);
}

__attribute__((target("avx2"))) static void store_32(uint8_t *at, uint8_t value) {
  _mm256_store_si256((__m256i *)at, _mm256_set1_epi8((char)value));
  _mm256_zeroupper();
}

__attribute__((target("avx512f"))) static void store_64(uint8_t *at, uint8_t value) {
  _mm512_store_si512((__m512i *)at, _mm512_set1_epi32((int)(0x01010101u * value)));
  _mm256_zeroupper();
}

static void store(uint8_t *at, unsigned width, uint8_t value) {
  switch (width) {
    case 1: *(volatile uint8_t *)at = value; break;
    case 2: *(volatile uint16_t *)at = (uint16_t)(0x0101u * value); break;
    case 4: *(volatile uint32_t *)at = 0x01010101u * value; break;
    case 8: *(volatile uint64_t *)at = 0x0101010101010101u * value; break;
    case 16: _mm_store_si128((__m128i *)at, _mm_set1_epi8((char)value)); break;
    case 32: store_32(at, value); break;
    case 64: store_64(at, value); break;
    default: CHECK(!"a known width");
  }
  __asm__ volatile("" ::: "memory");
}

static uint64_t load(const uint8_t *at, unsigned width) {
  switch (width) {
    case 1: return *(const volatile uint8_t *)at * 0x0101010101010101u;
    case 2: return *(const volatile uint16_t *)at * 0x0001000100010001u;
    case 4: return *(const volatile uint32_t *)at * 0x0000000100000001u;
    default: return *(const volatile uint64_t *)at;
  }
}

static uint8_t value_of(const uint8_t *at, unsigned width) {
  uint64_t word = load(at, width);
  for (unsigned i = 8; i < width; i += 8) {
    if (load(at + i, 8) != word) return 9;
  }
  uint8_t value = word & 7;
  return word == 0x0101010101010101u * value ? value : 9;
}

/* All threads of the process have come this far, and so have those of the others. */
static void barrier(pthread_barrier_t *threads) {
  if (pthread_barrier_wait(threads) == PTHREAD_BARRIER_SERIAL_THREAD) {
    if (session != NULL) CHECK_OK(dsm_barrier_wait(session));
    else meet(&side->all, (uint32_t)processes);
  }
  pthread_barrier_wait(threads);
}

struct worker {
  const struct test *test;
  pthread_barrier_t *threads;
  int thread;
  uint32_t scatter;
  uint32_t column; /* the first instance of the column it is at */
  struct random random, modes; /* the latter is the same in all processes */
  pthread_t id;
  /* Of broken memory, for each instance of the column: its locations as they were when it began, and the stores to come. */
  struct lag {
    uint64_t before[LOCATIONS], late[STEPS_MAX];
    uint8_t late_location[STEPS_MAX], late_count;
  } lags[COLUMN_MAX];
};

/* ---- broken memory ---- */

static void remember(struct worker *worker, uint32_t instance) {
  struct lag *lag = &worker->lags[instance - worker->column];
  for (unsigned l = 0; l < LOCATIONS; l++) {
    lag->before[l] = load(location(worker->test, instance, l, worker->scatter), 8);
  }
}

static void store_late(struct lag *lag, const struct step *step) {
  lag->late_location[lag->late_count] = step->location;
  lag->late[lag->late_count++] = 0x0101010101010101u * step->value;
}

static uint64_t load_stale(struct worker *worker, const struct lag *lag, unsigned which, uint64_t now) {
  for (int i = lag->late_count - 1; i >= 0; i--) {
    if (lag->late_location[i] == which) return lag->late[i];
  }
  return (random_next(&worker->random) & 1) == 0 ? lag->before[which] : now;
}

static void catch_up(struct worker *worker, uint32_t instance) {
  struct lag *lag = &worker->lags[instance - worker->column];
  while (lag->late_count > 0) {
    unsigned i = random_next(&worker->random) % lag->late_count--;
    uint8_t *at = location(worker->test, instance, lag->late_location[i], worker->scatter);
    store(at, 8, lag->late[i] & 7);
    lag->late[i] = lag->late[lag->late_count];
    lag->late_location[i] = lag->late_location[lag->late_count];
    dawdle(&worker->random, 100000);
  }
}

/* ---- more steps ---- */

/* The column's stores, or those of some of its instances, in one hole. */
static void in_hole(struct worker *worker, const struct step *step, uint32_t instance, uint32_t count) {
  uint8_t *from = location(worker->test, instance, step->location, worker->scatter), *last = from;
  for (uint32_t each = 1; each < count; each++) {
    uint8_t *at = location(worker->test, instance + each, step->location, worker->scatter);
    from = at < from ? at : from;
    last = at > last ? at : last;
  }
  int hole;
  CHECK_OK(dsm_hole_dig(session, from, (size_t)(last - from) + LINE, &hole));
  for (uint32_t each = 0; each < count; each++) {
    uint8_t *at = location(worker->test, instance + each, step->location, worker->scatter);
    for (unsigned i = 0; i < LINE; i += 8) store(at + i, 8, step->value);
  }
  CHECK_OK(dsm_hole_fill(session, hole));
}

static void run_step(struct worker *worker, const struct step *step, uint32_t instance) {
  char semaphore[16];
  struct lag *lag = &worker->lags[instance - worker->column];
  uint8_t *at = location(worker->test, instance, step->location, worker->scatter);
  uint64_t value = 0x0101010101010101u * step->value, old = 0;
  switch (step->kind) {
    case 'S':
      if (broken) store_late(lag, step);
      else store(at, step->width, step->value);
      return;
    case 'T': {
      size_t length = LINE;
      __asm__ volatile("rep stosb" : "+D"(at), "+c"(length) : "a"(step->value) : "memory");
      return;
    }
    case 'H': in_hole(worker, step, instance, 1); return;
    case 'L':
      old = broken ? load_stale(worker, lag, step->location, load(at, 8)) : 0;
      outcome_of(instance)[step->reg] = broken ? value_of((const uint8_t *)&old, 8) : value_of(at, step->width);
      return;
    case 'X': old = __atomic_exchange_n((uint64_t *)at, value, __ATOMIC_SEQ_CST); break;
    case 'A': old = __atomic_fetch_add((uint64_t *)at, value, __ATOMIC_SEQ_CST); break;
    case 'C':
      old = value;
      __atomic_compare_exchange_n((uint64_t *)at, &old, 0x0101010101010101u * step->other, false, __ATOMIC_SEQ_CST,
                                  __ATOMIC_SEQ_CST);
      break;
    case 'F': CHECK_OK(dsm_fence(session)); return;
    case 'M': _mm_mfence(); return;
    case 'P':
    case 'V':
      snprintf(semaphore, sizeof semaphore, "s%d", worker->thread);
      CHECK_OK(step->kind == 'P' ? dsm_sem_post(session, semaphore, 0) : dsm_sem_wait(session, semaphore, 0));
      return;
    case 'B': barrier(worker->threads); return;
  }
  if (step->records) outcome_of(instance)[step->reg] = value_of((const uint8_t *)&old, 8);
}

/* ---- what release needs to show anything ---- */

/* What each thread of this process has written beside the locations: it must be there at the end. */
static uint8_t *scribbles[SCRIBBLERS_MAX];

static volatile uint8_t *scribble_at(int thread, size_t page) {
  return (volatile uint8_t *)(map + page * PAGE + (size_t)(PAGE_SLOTS + rank) * LINE) + thread;
}

/* Writes in the page of a location, which then is this process's own for a while. Not where atomics are. */
static void scribble(struct worker *worker, uint32_t instance) {
  uint32_t which = random_next(&worker->random) % LOCATIONS;
  if (worker->test->atomic[which]) return;
  size_t page = (size_t)(location(worker->test, instance, which, worker->scatter) - map) / PAGE;
  uint8_t value = (uint8_t)random_next(&worker->random);
  *scribble_at(worker->thread, page) = value;
  scribbles[worker->thread][page] = value;
}

static void check_scribbles(int threads) {
  for (int thread = 0; thread < threads; thread++) {
    for (size_t page = 0; page < part / PAGE; page++) {
      CHECK(*scribble_at(thread, page) == scribbles[thread][page]);
      scribbles[thread][page] = 0;
    }
  }
}

static void make_scribbles(void) {
  for (int i = 0; i < SCRIBBLERS_MAX; i++) CHECK((scribbles[i] = calloc(part / PAGE, sizeof **scribbles)) != NULL);
}

/* ---- running ---- */

/* How many round trips a process takes for `count` instances, if it does them step by step. */
static uint32_t trips(const struct test *test, int process, uint32_t count) {
  uint32_t sum = 0;
  for (int i = 0; i < test->steps[process]; i++) {
    char kind = test->step[process][i].kind;
    sum += strchr(late ? "XAC" : "STXAC", kind) != NULL ? count : strchr("HFPVB", kind) != NULL ? 1 : 0;
  }
  return sum;
}

/* A process comes upon the others' steps in the middle: how long those take decides how long it waits before a step, for
 * `count` instances. `first`: before an instance or column begins. `ahead`: by how many instances it is before the last
 * of the others; who is ahead lets them catch up. `seldom`: so many more of those that it takes no time to wait for go by. */
static void jitter(struct worker *worker, bool first, int ahead, uint32_t count, uint32_t seldom) {
  const struct test *test = worker->test;
  if (session == NULL && !broken) {
    for (uint32_t spins = random_next(&worker->random) & 15; spins > 0; spins--) __asm__ volatile("");
    return;
  }
  uint32_t chance = random_next(&worker->random) & 7;
  bool reads = test->writes[rank] == 0;
  if (ahead <= 0 && seldom > 1 && random_next(&worker->random) % seldom != 0) return;
  if (chance >= (!first ? 1 : ahead > 0 || (ahead == 0 && reads) ? 7 : 2)) return;
  uint32_t most = 1;
  for (int i = 0; i < test->processes; i++) {
    uint32_t own = broken ? (uint32_t)test->writes[i] * count : trips(test, i, count);
    most = own > most ? own : most;
  }
  uint64_t span = atomic_load_explicit(&side->store_ns, memory_order_relaxed) * most;
  dawdle(&worker->random, first ? span + span / 4 + span * (uint64_t)(ahead > 0 ? ahead : 0) : span);
}

static void learn_time(uint64_t took) {
  uint64_t known = atomic_load_explicit(&side->store_ns, memory_order_relaxed);
  atomic_store_explicit(&side->store_ns, known - known / 16 + took / 16, memory_order_relaxed);
}

/* Where a store returns before it is seen, a fence tells how long that takes. */
static bool tells_time(const struct step *step) {
  return session != NULL && strchr(late ? "HXACF" : "STHXACF", step->kind) != NULL;
}

/* Says that this thread begins an instance of the round, and by how many it is before the last of its group. */
static int begin(const struct worker *worker, uint32_t number) {
  _Atomic uint32_t *begun = side->begun[worker->thread];
  atomic_store_explicit(&begun[rank], number, memory_order_relaxed);
  int ahead = 0;
  bool behind = false;
  for (int r = 0; r < processes; r++) {
    int before = (int)(number - atomic_load_explicit(&begun[r], memory_order_relaxed));
    ahead = before > ahead ? before : ahead;
    behind |= before < 0;
  }
  return ahead == 0 && behind ? -1 : ahead;
}

/* One instance after the other. */
static void run_rows(struct worker *worker, uint32_t done, uint32_t count) {
  const struct test *test = worker->test;
  for (uint32_t each = 0; each < count; each++) {
    uint32_t instance = worker->column + each;
    int ahead = begin(worker, done + each);
    if (broken) remember(worker, instance);
    for (int i = 0; i < test->steps[rank]; i++) {
      const struct step *step = &test->step[rank][i];
      jitter(worker, i == 0, ahead, 1, late && (i > 0 || each > 0) ? 4 : 1);
      uint64_t before = tells_time(step) ? now_ns() : 0;
      run_step(worker, step, instance);
      if (before != 0) learn_time(now_ns() - before);
    }
    if (broken) catch_up(worker, instance);
  }
}

/* Step by step, each process beginning somewhere in the column. What comes behind an atomic and only loads is done with
 * it, so that it is not late. */
static void run_steps(struct worker *worker, uint32_t done, uint32_t count) {
  const struct test *test = worker->test;
  uint32_t rotation = random_next(&worker->random) % count;
  begin(worker, done);
  for (uint32_t each = 0; broken && each < count; each++) remember(worker, worker->column + each);
  for (int i = 0, together; i < test->steps[rank]; i += together) {
    const struct step *step = &test->step[rank][i];
    together = 1;
    while (strchr("XAC", step->kind) != NULL && i + together < test->steps[rank] && step[together].kind == 'L') together++;
    jitter(worker, i == 0, 0, count, 1);
    uint64_t before = tells_time(step) ? now_ns() : 0;
    if (step->kind == 'H') {
      in_hole(worker, step, worker->column, count);
    } else if (strchr("FMPVB", step->kind) != NULL) {
      run_step(worker, step, worker->column);
    } else {
      for (uint32_t each = 0; each < count; each++) {
        for (int with = 0; with < together; with++) {
          run_step(worker, step + with, worker->column + (each + rotation) % count);
        }
      }
    }
    bool once = strchr("HF", step->kind) != NULL;
    if (before != 0) learn_time((now_ns() - before) / (once ? 1 : count));
  }
  for (uint32_t each = 0; broken && each < count; each++) catch_up(worker, worker->column + each);
}

static void *work(void *argument) {
  struct worker *worker = argument;
  const struct test *test = worker->test;
  uint32_t share = round_size / (uint32_t)test->threads, first = share * (uint32_t)worker->thread;
  uint32_t column = (uint32_t)test->column;
  atomic_store(&side->begun[worker->thread][rank], 0);
  for (uint32_t done = 0; done < share; done += column) {
    worker->column = first + done;
    if (session != NULL || broken || done == 0) meet(&side->group[worker->thread], (uint32_t)processes);
    for (uint32_t each = 0; releases && each < column; each++) {
      if (random_next(&worker->random) % 16 == 0) scribble(worker, worker->column + each);
    }
    bool rows = (int)(random_next(&worker->modes) % MODES) < test->rows;
    (rows ? run_rows : run_steps)(worker, done, column);
    if (late && random_next(&worker->random) % 2 == 0) {
      uint64_t before = now_ns();
      CHECK_OK(dsm_fence(session));
      learn_time(now_ns() - before);
    }
  }
  return NULL;
}

/* This process and what it starts from here on, which is its node's arbiter at first, have one processor, the same for
 * all of a node, or all of them. On one, all threads that can go on do so before the arbiter sees what they have stored,
 * and the library sleeps while it waits: to be woken, or to ask again and again, one by one takes many times as long. */
static void place(bool together) {
  static cpu_set_t all;
  if (CPU_COUNT(&all) == 0) CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
  const char *node = getenv("DSM_NODE");
  int skip = node == NULL ? 0 : node[0] % CPU_COUNT(&all), cpu = 0;
  while (!CPU_ISSET(cpu, &all) || skip-- > 0) cpu++;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  CHECK(sched_setaffinity(0, sizeof one, together ? &one : &all) == 0);
}

static void meet_all(void) {
  if (session != NULL) CHECK_OK(dsm_barrier_wait(session));
  else meet(&side->all, (uint32_t)processes);
}

static void run_round(const struct test *test, uint32_t scatter) {
  static struct worker workers[THREADS_MAX];
  if (session != NULL) place((scatter >> 27 & 7) > 0);
  pthread_barrier_t threads;
  pthread_barrier_init(&threads, NULL, (unsigned)test->threads);
  for (int i = 0; i < test->threads; i++) {
    struct worker *worker = &workers[i];
    *worker = (struct worker){.test = test, .threads = &threads, .thread = i, .scatter = scatter};
    worker->random = random_seeded(seed ^ scatter, (uint32_t)(rank * THREADS_MAX + i));
    worker->modes = random_seeded(seed ^ scatter, (uint32_t)(PROCESSES_MAX * THREADS_MAX + i));
    CHECK(pthread_create(&worker->id, NULL, work, worker) == 0);
  }
  for (int i = 0; i < test->threads; i++) pthread_join(workers[i].id, NULL);
  pthread_barrier_destroy(&threads);
  meet_all();
  if (releases) check_scribbles(test->threads);
  for (uint32_t i = 0; i < round_size; i++) {
    uint8_t *last = outcome_of(i) + REGISTERS + rank * LOCATIONS;
    for (unsigned l = 0; l < LOCATIONS; l++) last[l] = value_of(location(test, i, l, scatter), 8);
  }
  meet(&side->all, (uint32_t)processes);
}

/* ---- counting ---- */

struct count {
  char outcome[12];
  uint64_t times;
};

static struct count counts[1024];
static int kinds;

static void count(const char *outcome) {
  int i = 0;
  while (i < kinds && strcmp(counts[i].outcome, outcome) != 0) i++;
  CHECK(i < (int)(sizeof counts / sizeof counts[0]));
  if (i == kinds) {
    memset(&counts[i], 0, sizeof counts[i]);
    strcpy(counts[kinds++].outcome, outcome);
  }
  counts[i].times++;
}

static void count_round(const struct test *test) {
  for (uint32_t i = 0; i < round_size; i++) {
    const uint8_t *found = outcome_of(i);
    /* The replicas are one memory: at the end all processes find the same. */
    for (int r = 1; r < processes; r++) {
      CHECK(memcmp(found + REGISTERS, found + REGISTERS + r * LOCATIONS, LOCATIONS) == 0);
    }
    char outcome[12] = "";
    for (unsigned at = 0; test->show[at] != 0; at++) {
      char name = test->show[at];
      outcome[at] = (char)('0' + found[name >= 'x' ? REGISTERS + name - 'x' : name - 'a']);
    }
    count(outcome);
  }
}

static bool all_seen(const struct test *test) {
  for (int e = 0; e < test->expectations; e++) {
    int i = 0;
    while (i < kinds && strcmp(counts[i].outcome, test->expected[e]) != 0) i++;
    if (i == kinds) return false;
  }
  return true;
}

static void run_test(const struct test *test, uint64_t least, uint64_t most) {
  CHECK(!releases || test->threads <= SCRIBBLERS_MAX);
  CHECK(round_size % (uint32_t)(test->threads * test->column) == 0);
  uint64_t start = now_ns(), done = 0;
  kinds = 0;
  if (rank == 0) atomic_store(&side->store_ns, 100000);
  struct random random = random_seeded(seed, (uint32_t)(test - tests));
  do {
    if (rank == 0) memset(map, 0, releases ? 2 * part : part);
    meet_all();
    run_round(test, random_next(&random));
    done += round_size;
    if (rank == 0) {
      count_round(test);
      atomic_store(&side->again, done < least || (done < most && !all_seen(test)));
      memset(side->outcome, 0, round_size * (REGISTERS + (size_t)processes * LOCATIONS));
    }
    meet(&side->all, (uint32_t)processes);
  } while (atomic_load(&side->again));
  if (rank != 0) return;
  for (int i = 0; i < kinds; i++) {
    printf("%s %s %llu\n", test->name, counts[i].outcome, (unsigned long long)counts[i].times);
  }
  printf("%s total %llu %llu\n", test->name, (unsigned long long)done, (unsigned long long)(now_ns() - start) / 1000);
  fflush(stdout);
}

int main(int argc, char **argv) {
  CHECK(argc == 7);
  round_size = (uint32_t)strtoul(argv[3], NULL, 10);
  uint64_t least = strtoull(argv[4], NULL, 10), most = strtoull(argv[5], NULL, 10);
  seed = (uint32_t)strtoul(argv[6], NULL, 10);
  uint32_t slots = 1;
  while (slots < round_size * LOCATIONS) slots *= 2;
  slot_mask = slots - 1;
  part = (size_t)slots * LINE;
  prctl(PR_SET_TIMERSLACK, 1ul); /* short waits are to be short */
  /* Many stores are under way at once: on a few processors, who wakes another one had better finish first. What this
   * process starts takes it over. */
  CHECK(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}) == 0);
  size_t outcomes = round_size * (size_t)(REGISTERS + PROCESSES_MAX * LOCATIONS);
  size_t side_size = (sizeof *side + outcomes + 4095) & ~(size_t)4095;
  const char *memory = getenv("LITMUS_MEMORY");
  if (memory != NULL) {
    char kind[8];
    CHECK(sscanf(memory, "%7[a-z]:%d:%d", kind, &rank, &processes) == 3);
    broken = strcmp(kind, "broken") == 0;
    side = side_map(argv[2], side_size + part);
    map = (uint8_t *)side + side_size;
  } else {
    place(true);
    CHECK_OK(dsm_open(NULL, &session));
    rank = dsm_rank(session);
    processes = dsm_processes(session);
    map = dsm_address(session);
    releases = strcmp(dsm_order(session), "release") == 0;
    late = strcmp(dsm_order(session), "sequential") != 0;
    if (releases) part = (size_t)(slots + PAGE_SLOTS - 1) / PAGE_SLOTS * PAGE;
    CHECK(dsm_size(session) >= 2 * part);
    make_scribbles();
    side = side_map(argv[2], side_size);
  }
  CHECK(processes <= PROCESSES_MAX);
  read_tests(argv[1]);
  for (int i = 0; i < test_count; i++) run_test(&tests[i], least, most);
  if (session != NULL) CHECK_OK(dsm_close(session));
  return 0;
}
