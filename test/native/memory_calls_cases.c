/* memcpy() and its relatives into regions whose sink is the test's: the same bytes as in plain memory, published once, in
 * as few steps as the sink allows. `memory_calls_cases NAME` prints `ok` and exits 0, or fails; without a name it lists
 * the names. Calls go through pointers, so that the compiler makes no stores in their place. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"
#include "harness.h"

#define BASE 0x2a0000000000ull
#define SIZE (768u * PAGE)
#define ALL (4 * (size_t)SIZE) /* a region, another one beside it, private memory, and a third region */

void *__memcpy_chk(void *to, const void *from, size_t size, size_t room);
void *__memmove_chk(void *to, const void *from, size_t size, size_t room);
void *__mempcpy_chk(void *to, const void *from, size_t size, size_t room);
void *__memset_chk(void *to, int byte, size_t size, size_t room);
char *__strcpy_chk(char *to, const char *from, size_t room);
char *__stpcpy_chk(char *to, const char *from, size_t room);
char *__strncpy_chk(char *to, const char *from, size_t size, size_t room);
char *__stpncpy_chk(char *to, const char *from, size_t size, size_t room);
char *__strcat_chk(char *to, const char *from, size_t room);
char *__strncat_chk(char *to, const char *from, size_t size, size_t room);

static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
static void *(*volatile move)(void *, const void *, size_t) = memmove;
static void *(*volatile copy_end)(void *, const void *, size_t) = mempcpy;
static void *(*volatile fill)(void *, int, size_t) = memset;
static void (*volatile old_copy)(const void *, void *, size_t) = bcopy;
static void (*volatile zero)(void *, size_t) = bzero;
static char *(*volatile str_copy)(char *, const char *) = strcpy;
static char *(*volatile str_copy_end)(char *, const char *) = stpcpy;
static char *(*volatile str_add)(char *, const char *) = strcat;
static char *(*volatile str_n)(char *, const char *, size_t) = strncpy;
static char *(*volatile str_n_end)(char *, const char *, size_t) = stpncpy;
static char *(*volatile str_n_add)(char *, const char *, size_t) = strncat;

static struct map map, second, third;

#define check(truth, what)                                                      \
  do {                                                                          \
    if (!(truth)) fail("not so: %s", what);                                     \
    if (map.wrong != NULL) fail("the sink was called wrongly: %s", map.wrong);  \
  } while (0)

static void start(void) {
  if (dsm_capture_init() != 0) fail("dsm_capture_init");
  map_create(&map, BASE, SIZE);
}

static uint64_t state = 88172645463325252ull;

static size_t below(size_t limit) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state % limit;
}

static uint8_t source[ALL + 1];

static void make_source(void) {
  for (size_t i = 0; i < ALL; i++) source[i] = (uint8_t)(i * 2654435761u >> 13) | 1;
  for (size_t i = 999; i < ALL; i += 1 + below(30000)) source[i] = 0;
}

/* What the calls do, byte by byte. */
static void model_move(uint8_t *to, const uint8_t *from, size_t size) {
  if (to < from)
    for (size_t i = 0; i < size; i++) ((volatile uint8_t *)to)[i] = from[i];
  else
    for (size_t i = size; i-- > 0;) ((volatile uint8_t *)to)[i] = from[i];
}

static void model_fill(uint8_t *to, int byte, size_t size) {
  for (size_t i = 0; i < size; i++) ((volatile uint8_t *)to)[i] = (uint8_t)byte;
}

/* [from, to) was published once and nothing else at all. */
static int published_just(size_t from, size_t to) {
  for (size_t i = 0; i < map.size; i++)
    if (map.published[i] != (i >= from && i < to)) return 0;
  return 1;
}

static void steps(void) {
  make_source();
  const char *text = (const char *)source + 1000;
  size_t length = strlen(text);
  size_t sizes[] = {1, 3, 8, 16, 31, 64, 100, 1000, 1024, 1025, 4096, 65536, 65537, 100000, 1 << 20};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    size_t size = sizes[i], at = 65536 * below(3);
    map_forget(&map);
    check(copy(map.base + at, source, size) == map.base + at, "memcpy returns its destination");
    check(published_just(at, at + size) && map.stores == 1 && map.faults == 0, "a copy is one step, without a trap");
    map_forget(&map);
    check(fill(map.base + at, 7, size) == map.base + at, "memset returns its destination");
    check(published_just(at, at + size) && map.stores == 1 && map.faults == 0, "filling is one step, without a trap");
  }
  map_forget(&map);
  copy(map.base + 5, source, (5 << 19) + 1);
  check(published_just(5, 5 + (5 << 19) + 1) && map.stores == 3, "a large copy is a step for each MiB");
  map_forget(&map);
  copy(map.base + 5, source, 0);
  fill(map.base + 5, 1, 0);
  check(map.stores == 0, "nothing is no step");
  map_forget(&map);
  check(str_copy((char *)map.base + 9, text) == (char *)map.base + 9, "strcpy returns its destination");
  check(published_just(9, 10 + length) && map.stores == 1, "a string is one step, with its end");
  map_forget(&map);
  check(str_n_end((char *)map.base + 9, text, length + 10) == (char *)map.base + 9 + length, "stpncpy returns the end");
  check(published_just(9, 19 + length), "and what is behind it is zeros");
}

static void anywhere(void) {
  make_source();
  map_create(&second, BASE + SIZE, SIZE);
  map_create(&third, BASE + 3 * (uintptr_t)SIZE, SIZE);
  void *place = (void *)(BASE + 2 * (uintptr_t)SIZE);
  if (mmap(place, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != place)
    fail("mmap");
  uint8_t *all = (uint8_t *)BASE, *model = calloc(1, ALL);
  for (int round = 0; round < 1200; round++) {
    size_t size = below(5) == 0 ? below(2 * SIZE) : below(3) == 0 ? below(6000) : below(200);
    size_t at = below(ALL - size), other = below(ALL - size);
    if (below(3) == 0) { /* across an edge */
      size_t edge = (1 + below(3)) * (size_t)SIZE;
      at = edge > size / 2 ? edge - size / 2 : 0;
      if (at + size > ALL) at = ALL - size;
    }
    if (below(3) == 0) other = at + below(200) < ALL - size ? at + below(200) : at; /* overlapping */
    uint8_t *to = all + at, *expected = model + at;
    const char *text = (const char *)source + other;
    size_t length = strnlen(text, ALL - other);
    if (at + length + 1 > ALL) length = 0, text = "";
    void *result = to, *wanted = to;
    switch (below(12)) {
      case 0: result = copy(to, source + other, size), model_move(expected, source + other, size); break;
      case 1: result = move(to, all + other, size), model_move(expected, model + other, size); break;
      case 2: old_copy(all + other, to, size), model_move(expected, model + other, size); break;
      case 3: result = fill(to, round, size), model_fill(expected, round, size); break;
      case 4: zero(to, size), model_fill(expected, 0, size); break;
      case 5:
        result = copy_end(to, source + other, size), wanted = to + size;
        model_move(expected, source + other, size);
        break;
      case 6: result = str_copy((char *)to, text), model_move(expected, (const uint8_t *)text, length + 1); break;
      case 7:
        result = str_copy_end((char *)to, text), wanted = to + length;
        model_move(expected, (const uint8_t *)text, length + 1);
        break;
      case 8:
      case 9: {
        size_t used = length < size ? length : size;
        int end = below(2) == 0;
        result = (end ? str_n_end : str_n)((char *)to, text, size);
        if (end) wanted = to + used;
        model_move(expected, (const uint8_t *)text, used);
        model_fill(expected + used, 0, size - used);
        break;
      }
      default: {
        size_t there = strnlen((char *)expected, ALL - at), used = below(2) == 0 ? length : below(length + 1);
        if (at + there + length + 2 > ALL) break;
        result = used == length ? str_add((char *)to, text) : str_n_add((char *)to, text, used);
        model_move(expected + there, (const uint8_t *)text, used);
        expected[there + used] = 0;
      }
    }
    if (result != wanted) fail("round %d: another result", round);
    size_t near = at < 5000 ? 0 : at - 5000, end = at + size + length + 40000 < ALL ? at + size + length + 40000 : ALL;
    if (round % 100 == 99) near = 0, end = ALL;
    if (memcmp(all + near, model + near, end - near) != 0) fail("round %d: other bytes than in plain memory", round);
    if (second.wrong != NULL || third.wrong != NULL) fail("%s %s", second.wrong, third.wrong);
  }
  check(map.stores > 0 && second.stores > 0 && third.stores > 0, "all regions were written to");
}

/* ---- pages that the process can write to ---- */

static uint64_t open_bits[SIZE / PAGE / 64];

/* Opens the pages [begin, end) of the map, and says so. */
static void open_range(struct map *of, size_t begin, size_t end) {
  of->hole_begin = (uintptr_t)of->base + begin * PAGE, of->hole_end = (uintptr_t)of->base + end * PAGE;
  mprotect((void *)of->hole_begin, of->hole_end - of->hole_begin, PROT_READ | PROT_WRITE);
  for (size_t i = begin; i < end; i++) open_bits[i / 64] |= 1ull << i % 64;
}

static int64_t open_pages(void *context, uint64_t offset, uint64_t length, uintptr_t instruction) {
  struct map *of = context;
  uintptr_t at = (uintptr_t)of->base + offset, end = at + length;
  if (instruction == 0) fail("no instruction");
  if (at >= of->hole_end && at % PAGE == 0 && length >= PAGE) { /* opens a page behind the open ones */
    open_range(of, offset / PAGE, offset / PAGE + 1);
    return PAGE;
  }
  return end <= of->hole_begin || at >= of->hole_end ? -(int64_t)length : -(int64_t)(of->hole_begin - at);
}

static void open_ones(void) {
  struct dsm_sink opening = recording_sink;
  opening.open = open_pages;
  make_source();
  dsm_region_remove(map.region);
  map.region = dsm_region_add(BASE, SIZE, &opening, &map);
  dsm_region_show_open(BASE, open_bits);
  open_range(&map, 2, 4);
  copy(map.base + PAGE + 100, source, 3 * PAGE);
  check(memcmp(map.base + PAGE + 100, source, 3 * PAGE) == 0, "all bytes are there");
  for (size_t i = 0; i < 8 * PAGE; i++)
    check(map.published[i] == ((i >= PAGE + 100 && i < 2 * PAGE) || (i >= 4 * PAGE && i < 4 * PAGE + 100)),
          "what is in open pages is not published");
  check(map.faults == 0 && map.stores == 2, "and nothing traps");
  map_forget(&map);
  fill(map.base + 16 * PAGE, 3, PAGE + 10);
  check(map.stores == 1 && published_just(17 * PAGE, 17 * PAGE + 10), "a page that opens is filled in place");
}

/* ---- a source that faults, as it would without dsm ---- */

static sigjmp_buf jump;
static void *volatile fault_address;

static void on_fault(int signo, siginfo_t *info, void *context) {
  (void)signo, (void)context;
  fault_address = info->si_addr;
  siglongjmp(jump, 1);
}

static void source_faults(void) {
  make_source();
  uint8_t *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(pages + PAGE, PAGE);
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  if (dsm_capture_init() != 0) fail("dsm_capture_init");
  for (int i = 0; i < 100; i++) {
    if (sigsetjmp(jump, 1) == 0) {
      copy(map.base + 64, pages + PAGE - 100, 5000);
      fail("copied from where nothing is");
    }
    check((uintptr_t)fault_address >= (uintptr_t)pages + PAGE && (uintptr_t)fault_address < (uintptr_t)pages + 2 * PAGE,
          "the fault is that of the source");
    check(map.stores == 0, "nothing is published");
  }
  check(copy(map.base + 64, source, 5000) != NULL && memcmp(map.base + 64, source, 5000) == 0, "and it works again");
}

/* ---- a handler that copies, too ---- */

static volatile sig_atomic_t handled;

static void on_alarm(int signo) {
  uint8_t bytes[2000];
  (void)signo;
  model_fill(bytes, ++handled, sizeof bytes);
  copy(map.base + SIZE - 3000, bytes, sizeof bytes);
}

static void in_handlers(void) {
  make_source();
  struct sigaction action = {.sa_handler = on_alarm};
  struct itimerval often = {{0, 200}, {0, 200}}, never = {0};
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &often, NULL);
  for (int i = 0; i < 200000 && handled < 200; i++) {
    size_t size = below(200000), from = below(1000);
    copy(map.base, source + from, size);
    check(memcmp(map.base, source + from, size) == 0, "a copy that a handler interrupts is whole");
  }
  setitimer(ITIMER_REAL, &never, NULL);
  check(handled > 0, "there was a handler");
  for (size_t i = 0; i < 2000; i++) check(map.base[SIZE - 3000 + i] == (uint8_t)handled, "what it copied is whole");
}

/* ---- the checked forms ---- */

static const char *volatile text = "0123456789abcdef";

#ifndef __SANITIZE_ADDRESS__
static int ends_by_abort(void (*run)(void)) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    freopen("/dev/null", "w", stderr);
    run();
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static char room[16];
static volatile size_t seventeen = 17;
static void over_copy(void) { __memcpy_chk(room, text, seventeen, 16); }
static void over_move(void) { __memmove_chk(room, text, seventeen, 16); }
static void over_copy_end(void) { __mempcpy_chk(room, text, seventeen, 16); }
static void over_fill(void) { __memset_chk(room, 0, seventeen, 16); }
static void over_string(void) { __strcpy_chk(room, text, 16); }
static void over_string_end(void) { __stpcpy_chk(room, text, 16); }
static void over_some(void) { __strncpy_chk(room, text, seventeen, 16); }
static void over_some_end(void) { __stpncpy_chk(room, text, seventeen, 16); }
static void over_add(void) {
  room[0] = 'x', room[1] = 0;
  __strcat_chk(room, text + 1, 16);
}
static void over_some_added(void) {
  room[0] = 'x', room[1] = 0;
  __strncat_chk(room, text, 15, 16);
}
#endif

static void checked(void) {
  char *to = (char *)map.base + 5;
  check(__memcpy_chk(to, text, 16, 16) == to && memcmp(to, text, 16) == 0, "memcpy");
  check(__memset_chk(to, 1, 16, 16) == to && to[15] == 1, "memset");
  check(__memmove_chk(to + 1, to, 15, 15) == to + 1, "memmove");
  check(__mempcpy_chk(to, text, 4, 4) == to + 4, "mempcpy");
  check(__strcpy_chk(to, text, 17) == to && strcmp(to, text) == 0, "strcpy");
  check(__stpcpy_chk(to, text + 10, 17) == to + 6, "stpcpy");
  check(__strcat_chk(to, text + 10, 13) == to && strcmp(to, "abcdefabcdef") == 0, "strcat");
  check(__strncat_chk(to, text, 2, 15) == to && strcmp(to, "abcdefabcdef01") == 0, "strncat");
  check(__strncpy_chk(to, text, 3, 3) == to && __stpncpy_chk(to, "ab", 8, 8) == to + 2 && to[7] == 0, "strncpy");
#ifndef __SANITIZE_ADDRESS__ /* which notices them before */
  void (*overflows[])(void) = {over_copy,       over_move, over_copy_end, over_fill, over_string,
                               over_string_end, over_some, over_some_end, over_add,  over_some_added};
  for (size_t i = 0; i < sizeof overflows / sizeof *overflows; i++)
    if (!ends_by_abort(overflows[i])) fail("overflow %zu goes unnoticed", i);
#endif
}

static const struct test_case cases[] = {
    {"steps", steps},
    {"anywhere", anywhere},
    {"open-pages", open_ones},
    {"source-faults", source_faults},
    {"in-handlers", in_handlers},
    {"checked-forms", checked},
};

int main(int argc, char **argv) {
  harness_init();
  return run_cases(argc, argv, cases, sizeof cases / sizeof cases[0], start);
}
