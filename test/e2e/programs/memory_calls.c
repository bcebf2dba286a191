/* memcpy() and its relatives into the map, by two processes at once, each in its half: memory_calls ROUNDS. Both follow
 * what both do in private memory, and compare after each round. Calls go through pointers, so that the compiler makes no
 * stores in their place. */
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <sys/time.h>

#include "check.h"

#define OPERATIONS 60

static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
static void *(*volatile move)(void *, const void *, size_t) = memmove;
static void *(*volatile copy_end)(void *, const void *, size_t) = mempcpy;
static void *(*volatile fill)(void *, int, size_t) = memset;
static char *(*volatile copy_string)(char *, const char *) = strcpy;
static char *(*volatile copy_string_end)(char *, const char *) = stpcpy;
static char *(*volatile copy_some)(char *, const char *, size_t) = strncpy;
static char *(*volatile append)(char *, const char *) = strcat;

static uint64_t below(uint64_t *state, uint64_t limit) {
  *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
  return *state % limit;
}

static uint8_t *map;
static size_t half;
static uint8_t source[1 << 20];

static size_t size_of(uint64_t *state) {
  switch (below(state, 4)) {
    case 0: return below(state, 40);
    case 1: return below(state, 5000);
    case 2: return below(state, 40000);
    default: return below(state, half / 2);
  }
}

/* The memory that an operation of this rank changes, of the map or of its model. */
static void operate(uint64_t *state, uint8_t *own, uint64_t *from, uint64_t *to) {
  size_t size = size_of(state), at = below(state, half - size), other = below(state, half - size);
  const char *text = (const char *)source + below(state, 1000);
  size_t length = strlen(text);
  *from = at;
  *to = at + size;
  switch (below(state, 9)) {
    case 0: CHECK(copy(own + at, source + other, size) == own + at); break;
    case 1: CHECK(move(own + at, own + other, size) == own + at); break;
    case 2: /* overlapping by all but a few bytes, either way */
      if (size + 64 < half) {
        size_t near = below(state, 64);
        int up = below(state, 2) == 1;
        if (at + size + near > half) at = half - size - near;
        move(own + at + (up ? near : 0), own + at + (up ? 0 : near), size);
        *from = at;
        *to = at + size + near;
      }
      break;
    case 3: CHECK(fill(own + at, (int)below(state, 256), size) == own + at); break;
    case 4: CHECK(copy_end(own + at, source + other, size) == own + at + size); break;
    case 5:
      if (at + length + 1 <= half) CHECK(copy_string((char *)own + at, text) == (char *)own + at);
      *to = at + length + 1;
      break;
    case 6:
      if (at + length + 1 <= half) CHECK(copy_string_end((char *)own + at, text) == (char *)own + at + length);
      *to = at + length + 1;
      break;
    case 7: CHECK(copy_some((char *)own + at, text, size) == (char *)own + at); break;
    case 8:
      if (at + 2 * length + 1 <= half) {
        copy_string((char *)own + at, text);
        CHECK(append((char *)own + at, text) == (char *)own + at);
      }
      *to = at + 2 * length + 1;
      break;
  }
  if (*to > half) *to = half;
}

/* A handler that copies into the last page of the own half, which nothing else changes. */
static uint8_t *handlers_page;
static volatile sig_atomic_t handled;
static void on_alarm(int signo) {
  uint8_t bytes[300];
  (void)signo;
  handled++;
  fill(bytes, handled, sizeof bytes);
  copy(handlers_page + 100, bytes, sizeof bytes);
}

int main(int count, char **arguments) {
  CHECK(count == 2);
  dsm_session *session;
  CHECK_OK(dsm_open(NULL, &session));
  unsigned rank = dsm_rank(session);
  map = dsm_address(session);
  half = dsm_size(session) / 2 - 4096;
  size_t stride = half + 4096;
  uint8_t *model = calloc(1, 2 * stride);
  for (size_t i = 0; i < sizeof source; i++) source[i] = (uint8_t)(i * 2654435761u >> 13) | 1;
  for (size_t i = 99; i < 2000; i += 99) source[i] = 0;
  handlers_page = map + rank * stride + half;
  signal(SIGALRM, on_alarm);
  struct itimerval often = {{0, 3000}, {0, 3000}}, never = {0};
  uint64_t states[2] = {88172645463325252ull, 1181783497276652981ull};
  for (int round = 0; round < atoi(arguments[1]); round++) {
    setitimer(ITIMER_REAL, &often, NULL);
    for (unsigned each = 0; each < 2; each++) {
      for (int i = 0; i < OPERATIONS; i++) {
        uint64_t state = states[each], from, to;
        int hole = 0;
        if (each == rank) {
          /* In and across a hole from time to time. */
          if (i % 7 == 3) CHECK_OK(dsm_hole_dig(session, map + rank * stride + 5000, half / 2, &hole));
          uint64_t copy_of_state = state;
          operate(&copy_of_state, map + each * stride, &from, &to);
        }
        operate(&state, model + each * stride, &from, &to);
        if (each == rank && memcmp(map + each * stride + from, model + each * stride + from, to - from) != 0) {
          fprintf(stderr, "round %d, operation %d: [%zu, %zu) differs\n", round, i, (size_t)from, (size_t)to);
          return 1;
        }
        if (hole > 0) CHECK_OK(dsm_hole_fill(session, hole));
        states[each] = state;
      }
    }
    setitimer(ITIMER_REAL, &never, NULL);
    uint8_t last[300];
    fill(last, handled, sizeof last);
    if (handled > 0) CHECK(memcmp(handlers_page + 100, last, sizeof last) == 0);
    CHECK_OK(dsm_barrier_wait(session));
    for (unsigned each = 0; each < 2; each++)
      if (memcmp(map + each * stride, model + each * stride, half) != 0) {
        fprintf(stderr, "round %d: the half of rank %u differs\n", round, each);
        return 1;
      }
    CHECK_OK(dsm_barrier_wait(session));
  }
  puts("ok");
  CHECK_OK(dsm_close(session));
  return 0;
}
