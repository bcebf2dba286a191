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
 *   test NAME THREADS COLUMN   THREADS of each process take turns with the instances; each does COLUMN of them at a
 *                              time, step by step (1: one instance after the other)
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
 * Where a store is seen later than it is made, threads fence now and then between instances, in the middle of those of
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
  REGISTERS = 8,
  LOCATIONS = 3,
  EXPECTED_MAX = 64,
  TESTS_MAX = 256,
  LINE = 64, /* a location has a cache line of its own: vector stores fill it */
  SCRIBBLERS_MAX = LINE / 2, /* threads that write 16 bits each beside the locations */
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
  int threads, column, processes, expectations, writes[PROCESSES_MAX], steps[PROCESSES_MAX];
  struct step step[PROCESSES_MAX][STEPS_MAX];
  bool atomic[LOCATIONS]; /* some step is an atomic operation there */
};

/* Beside the session. */
struct side {
  struct meeting all, group[THREADS_MAX];
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
      CHECK(sscanf(line + used, "%63s %d %d", test->name, &test->threads, &test->column) == 3);
      CHECK(test->threads >= 1 && test->threads <= THREADS_MAX && test->column >= 1);
    } else if (strcmp(kind, "process") == 0) {
      CHECK(test != NULL && test->processes < PROCESSES_MAX);
      int process = test->processes++;
      for (char *word = strtok(line + used, " \n"); word != NULL; word = strtok(NULL, " \n")) {
        CHECK(test->steps[process] < STEPS_MAX);
        struct step step = parse_step(word);
        test->writes[process] += strchr("STHXACF", step.kind) != NULL;
        test->atomic[step.location] |= strchr("XAC", step.kind) != NULL;
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

/* The instances' locations are scattered over the map by a bijection of the slots, another one in each round: x may lie
 * before y or behind it, on its page or far away. */
static uint8_t *location(const struct test *test, uint32_t instance, unsigned which, uint32_t scatter) {
  uint32_t slot = ((instance * LOCATIONS + which) * (scatter | 1) + (scatter >> 8)) & slot_mask;
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

static void in_hole(uint8_t *at, uint8_t value) {
  int hole;
  CHECK_OK(dsm_hole_dig(session, at, LINE, &hole));
  for (unsigned i = 0; i < LINE; i += 8) store(at + i, 8, value);
  CHECK_OK(dsm_hole_fill(session, hole));
}

struct worker {
  const struct test *test;
  pthread_barrier_t *threads;
  int thread;
  uint32_t scatter;
  struct random random;
  pthread_t id;
  /* Of broken memory: the locations as they were when the instance began, and the stores to come. */
  uint64_t before[LOCATIONS], late[STEPS_MAX];
  uint8_t late_location[STEPS_MAX], late_count;
};

/* ---- broken memory ---- */

static void remember(struct worker *worker, uint32_t instance) {
  for (unsigned l = 0; l < LOCATIONS; l++) {
    worker->before[l] = load(location(worker->test, instance, l, worker->scatter), 8);
  }
}

static void store_late(struct worker *worker, const struct step *step) {
  worker->late_location[worker->late_count] = step->location;
  worker->late[worker->late_count++] = 0x0101010101010101u * step->value;
}

static uint64_t load_stale(struct worker *worker, unsigned which, uint64_t now) {
  for (int i = worker->late_count - 1; i >= 0; i--) {
    if (worker->late_location[i] == which) return worker->late[i];
  }
  return (random_next(&worker->random) & 1) == 0 ? worker->before[which] : now;
}

static void catch_up(struct worker *worker, uint32_t instance) {
  while (worker->late_count > 0) {
    unsigned i = random_next(&worker->random) % worker->late_count--;
    uint8_t *at = location(worker->test, instance, worker->late_location[i], worker->scatter);
    store(at, 8, worker->late[i] & 7);
    worker->late[i] = worker->late[worker->late_count];
    worker->late_location[i] = worker->late_location[worker->late_count];
    dawdle(&worker->random, 100000);
  }
}

/* ---- more steps ---- */

static void run_step(struct worker *worker, const struct step *step, uint32_t instance) {
  char semaphore[16];
  uint8_t *at = location(worker->test, instance, step->location, worker->scatter);
  uint64_t value = 0x0101010101010101u * step->value, old = 0;
  switch (step->kind) {
    case 'S':
      if (broken) store_late(worker, step);
      else store(at, step->width, step->value);
      return;
    case 'T': {
      size_t length = LINE;
      __asm__ volatile("rep stosb" : "+D"(at), "+c"(length) : "a"(step->value) : "memory");
      return;
    }
    case 'H': in_hole(at, step->value); return;
    case 'L':
      old = broken ? load_stale(worker, step->location, load(at, 8)) : 0;
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
static uint16_t *scribbles[SCRIBBLERS_MAX];

static volatile uint16_t *scribble_at(int thread, size_t page) {
  return (volatile uint16_t *)(map + page * PAGE + (size_t)(PAGE_SLOTS + rank) * LINE) + thread;
}

/* Writes in the page of a location, which then is this process's own for a while. Not where atomics are. */
static void scribble(struct worker *worker, uint32_t instance) {
  uint32_t which = random_next(&worker->random) % LOCATIONS;
  if (worker->test->atomic[which]) return;
  size_t page = (size_t)(location(worker->test, instance, which, worker->scatter) - map) / PAGE;
  uint16_t value = (uint16_t)random_next(&worker->random);
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

/* How long the others' stores take decides how long a wait makes this process come upon them in the middle. */
static void jitter(struct worker *worker, bool first) {
  const struct test *test = worker->test;
  if (session == NULL && !broken) {
    for (uint32_t spins = random_next(&worker->random) & 15; spins > 0; spins--) __asm__ volatile("");
    return;
  }
  int most = 1;
  for (int i = 0; i < test->processes; i++) most = test->writes[i] > most ? test->writes[i] : most;
  uint64_t span = atomic_load_explicit(&side->store_ns, memory_order_relaxed) * (uint64_t)most;
  uint32_t chance = random_next(&worker->random) & 7;
  if (first) {
    if (chance < (test->writes[rank] == 0 ? 7 : 2)) dawdle(&worker->random, span + span / 4);
  } else if (chance == 0) {
    dawdle(&worker->random, span);
  }
}

static void learn_time(uint64_t took) {
  uint64_t known = atomic_load_explicit(&side->store_ns, memory_order_relaxed);
  atomic_store_explicit(&side->store_ns, known - known / 16 + took / 16, memory_order_relaxed);
}

static void run_instances(struct worker *worker, uint32_t instance, uint32_t count, bool columns) {
  const struct test *test = worker->test;
  if (broken) remember(worker, instance);
  for (int i = 0; i < test->steps[rank]; i++) {
    const struct step *step = &test->step[rank][i];
    if (!columns) jitter(worker, i == 0);
    uint64_t before = now_ns();
    for (uint32_t each = 0; each < (step->kind == 'B' ? 1 : count); each++) run_step(worker, step, instance + each);
    /* Where a store returns before it is seen, a fence tells how long that takes. */
    if (session != NULL && strchr(late ? "HXACF" : "STHXACF", step->kind) != NULL)
      learn_time((now_ns() - before) / count);
  }
  if (broken) catch_up(worker, instance);
}

static void *work(void *argument) {
  struct worker *worker = argument;
  const struct test *test = worker->test;
  uint32_t share = round_size / (uint32_t)test->threads, first = share * (uint32_t)worker->thread;
  uint32_t column = (uint32_t)test->column;
  for (uint32_t done = 0; done < share; done += column) {
    if (session != NULL || broken || done == 0) meet(&side->group[worker->thread], (uint32_t)processes);
    if (releases && random_next(&worker->random) % 4 == 0) scribble(worker, first + done);
    run_instances(worker, first + done, column, column > 1);
    if (late && random_next(&worker->random) % 8 == 0) {
      uint64_t before = now_ns();
      CHECK_OK(dsm_fence(session));
      learn_time(now_ns() - before);
    }
  }
  return NULL;
}

static void meet_all(void) {
  if (session != NULL) CHECK_OK(dsm_barrier_wait(session));
  else meet(&side->all, (uint32_t)processes);
}

static void run_round(const struct test *test, uint32_t scatter) {
  static struct worker workers[THREADS_MAX];
  pthread_barrier_t threads;
  pthread_barrier_init(&threads, NULL, (unsigned)test->threads);
  for (int i = 0; i < test->threads; i++) {
    struct worker *worker = &workers[i];
    *worker = (struct worker){.test = test, .threads = &threads, .thread = i, .scatter = scatter};
    worker->random = random_seeded(seed ^ scatter, (uint32_t)(rank * THREADS_MAX + i));
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
