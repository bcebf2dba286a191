/* Waiting for an answer on a channel: what comes is read whole, however it comes, and polling for it is given up where it
 * does not pay. `channel_cases NAME` prints `ok` and exits 0, or fails; without a name it lists the names. */
#include "link/channel.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "cases.h"

#define LIVENESS_MS 60000
#define PAUSE_MAX 64u

static struct channel_pool pool;
static int peer;

static void fail(const char *what) {
  fprintf(stderr, "not so: %s (errno %d, pause %u, rest %u)\n", what, errno, pool.polling[0].pause, pool.polling[0].rest);
  exit(1);
}
#define check(truth, what)   \
  do {                       \
    if (!(truth)) fail(what); \
  } while (0)

static void start(void) {
  int ends[2];
  check(channel_pool_init(&pool) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "a pool and a channel");
  pool.polls = 1;
  check(channel_claim(&pool, 0) == 0, "the first slot is free");
  pool.slots[0].fd = ends[0];
  peer = ends[1];
}

static struct wire_header answer_number(uint32_t number) {
  return (struct wire_header){.size = sizeof(struct wire_header), .kind = WIRE_REPLY, .aux = number};
}

static void expect_answer(uint32_t number) {
  struct reply reply;
  check(channel_answer(&pool, 0, &reply) == 0, "an answer comes");
  check(reply.header.kind == WIRE_REPLY && reply.header.aux == number, "the one that was sent");
}

/* What the peer is to do: 0 nothing yet, -1 end, else the number of an answer. */
static atomic_int asked;
static void (*before_sending)(void);

static void *answer(void *unused) {
  (void)unused;
  for (;;) {
    int number;
    while ((number = atomic_load(&asked)) == 0) sched_yield();
    if (number < 0) return NULL;
    before_sending();
    atomic_store(&asked, 0);
    struct wire_header header = answer_number((uint32_t)number);
    check(channel_send(peer, &header, sizeof header) == 0, "the peer sends");
  }
}

static pthread_t start_peer(void (*before)(void)) {
  pthread_t thread;
  before_sending = before;
  check(pthread_create(&thread, NULL, answer, NULL) == 0, "a thread");
  return thread;
}

static void end_peer(pthread_t thread) {
  while (atomic_load(&asked) != 0) sched_yield();
  atomic_store(&asked, -1);
  pthread_join(thread, NULL);
  atomic_store(&asked, 0);
}

static void at_once(void) {}

/* Polling has come to its end, whenever that is. */
static void when_given_up(void) {
  while (atomic_load(&pool.polling[0].rest) == 0) sched_yield();
}

static void late(void) {
  uint32_t number = 0;
  for (unsigned pause = 1, times = 0; times < 9; times++) {
    pthread_t thread = start_peer(when_given_up);
    atomic_store(&asked, (int)++number);
    expect_answer(number);
    end_peer(thread);
    check(pool.polling[0].pause == pause && pool.polling[0].rest == pause, "each failure doubles the pause, to a limit");
    thread = start_peer(at_once);
    for (unsigned i = 1; i <= pause; i++) {
      atomic_store(&asked, (int)++number);
      expect_answer(number);
      check(pool.polling[0].rest == pause - i && pool.polling[0].pause == pause, "so many waits sleep at once");
      while (atomic_load(&asked) != 0) sched_yield();
    }
    end_peer(thread);
    pause = pause < PAUSE_MAX ? pause * 2 : PAUSE_MAX;
  }
  check(pool.polling[1].pause == 0 && pool.polling[1].rest == 0, "barriers and their like have a count of their own");
}

static void shortly(void) {
  for (long long end = now_ns() + 20000; now_ns() < end;) __builtin_ia32_pause();
}

/* One success, whenever the machine lets us have it, ends all pauses. */
static void in_time(void) {
  pthread_t thread = start_peer(shortly);
  long long end = now_ms() + LIVENESS_MS;
  for (uint32_t number = 1; number == 1 || pool.polling[0].pause != 0; number++) {
    check(now_ms() < end, "an answer comes in time at last");
    if (pool.polling[0].pause == 0) pool.polling[0].pause = 8;
    pool.polling[0].rest = 0;
    atomic_store(&asked, (int)number);
    expect_answer(number);
    while (atomic_load(&asked) != 0) sched_yield();
  }
  end_peer(thread);
  check(pool.polling[0].rest == 0, "the next wait polls");
}

static void already_there(void) {
  pool.polling[0].pause = 8;
  struct wire_header header = answer_number(7);
  check(channel_send(peer, &header, sizeof header) == 0, "the peer sends");
  expect_answer(7);
  check(pool.polling[0].pause == 8 && pool.polling[0].rest == 0, "which says nothing about polling");
}

static void *send_slowly(void *bytes) {
  for (size_t i = 0; i < sizeof(struct wire_header) + 8; i++) {
    check(channel_send(peer, (uint8_t *)bytes + i, 1) == 0, "the peer sends");
    sched_yield();
  }
  return NULL;
}

static void pieces(void) {
  struct {
    struct wire_header header;
    char text[8];
  } frame = {.header = answer_number(3), .text = "reason"};
  frame.header.size = sizeof frame;
  frame.header.length = 6;
  pthread_t thread;
  check(pthread_create(&thread, NULL, send_slowly, &frame) == 0, "a thread");
  struct reply reply;
  check(channel_answer(&pool, 0, &reply) == 0, "an answer comes");
  check(reply.header.aux == 3 && strcmp((const char *)reply.body, "reason") == 0, "whole");
  pthread_join(thread, NULL);
}

static void gone(void) {
  struct reply reply;
  close(peer);
  check(channel_answer(&pool, 0, &reply) == -1 && errno == ECONNRESET, "the other side has gone");
}

static void one_core(void) {
  cpu_set_t all, one;
  check(sched_getaffinity(0, sizeof all, &all) == 0, "the cores we may use");
  int core = 0;
  while (!CPU_ISSET(core, &all)) core++;
  CPU_ZERO(&one);
  CPU_SET(core, &one);
  struct channel_pool other;
  check(sched_setaffinity(0, sizeof one, &one) == 0 && channel_pool_init(&other) == 0, "a pool on one core");
  check(!other.polls, "does not poll");
  free(other.slots);
}

static const struct test_case cases[] = {
    {"late", late},     {"in-time", in_time}, {"already-there", already_there},
    {"pieces", pieces}, {"gone", gone},       {"one-core", one_core},
};

int main(int argc, char **argv) {
  return run_cases(argc, argv, cases, sizeof cases / sizeof cases[0], start);
}
