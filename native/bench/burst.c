/* What a store costs its process that does not wait for it: burst COUNT ROUNDS. Joins the session in the environment. Rank 0
 * prints for every round the nanoseconds per operation of a bare SIGSEGV round trip and, under `pipelined`, of a store of a
 * general register and of a store of an XMM register, with DSM_BURST=0; or, under `release`, of a section with one store, under a lock that
 * stays with the node, to a page that was written before. COUNT stores fit the ring; that they are in place is waited for
 * outside the timing. The other ranks wait in a barrier, so that their nodes follow the order. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include "session.h"

/* Lets the arbiters and the server finish what the last burst gave them, and sleep. */
static void settle(void) {
  struct timespec pause = {.tv_nsec = 2000000};
  nanosleep(&pause, NULL);
}

static volatile int bare_traps;

/* Steps over the store below, whose length is known. */
static void bare_handler(int signo, siginfo_t *info, void *context) {
  (void)signo, (void)info;
  ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 3;
  bare_traps++;
}

static inline void store_gpr(void *at) {
  __asm__ volatile("movq %%rax, (%0)" ::"D"(at) : "memory"); /* 3 bytes in this register, 4 in some */
}
static inline void store_vector(void *at) {
  __asm__ volatile("movups %%xmm0, (%0)" ::"D"(at) : "memory");
}

/* Times bare traps. */
static long long time_bare(void *page, int count) {
  struct sigaction bare = {.sa_sigaction = bare_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK}, ours;
  memset(&bare.sa_mask, 0xff, sizeof bare.sa_mask);
  bare_traps = 0;
  sigaction(SIGSEGV, &bare, &ours);
  long long start = now_ns();
  for (int i = 0; i < count; i++)
    store_gpr(page);
  long long elapsed = now_ns() - start;
  sigaction(SIGSEGV, &ours, NULL);
  if (bare_traps == count) return elapsed;
  fprintf(stderr, "burst: not every bare store trapped\n");
  exit(1);
}

static long long time_stores(dsm_session *session, void (*store)(void *), int count) {
  void *map = dsm_address(session);
  long long start = now_ns();
  for (int i = 0; i < count; i++)
    store(map);
  long long elapsed = now_ns() - start;
  check(dsm_fence(session));
  return elapsed;
}

static long long time_sections(dsm_session *session, int count) {
  volatile uint64_t *word = dsm_address(session);
  long long start = now_ns();
  for (int i = 0; i < count; i++) {
    check(dsm_lock(session, "section"));
    *word = (uint64_t)i;
    check(dsm_unlock(session, "section"));
  }
  long long elapsed = now_ns() - start;
  check(dsm_fence(session));
  return elapsed;
}

int main(int argc, char **argv) {
  if (argc != 3 || atoi(argv[1]) < 1 || atoi(argv[2]) < 1) {
    fprintf(stderr, "usage: burst COUNT ROUNDS\n");
    return 2;
  }
  int count = atoi(argv[1]), rounds = atoi(argv[2]);
  void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) {
    perror("mmap");
    return 1;
  }
  dsm_session *session;
  check(dsm_open(NULL, &session));
  int is_release = strcmp(dsm_order(session), "release") == 0;
  if (!is_release && strcmp(dsm_order(session), "pipelined") != 0) {
    fprintf(stderr, "burst: the order is %s; set DSM_ORDER=pipelined or DSM_ORDER=release\n", dsm_order(session));
    return 2;
  }
  check(dsm_barrier_wait(session));
  /* From then on the lock stays with the node. */
  if (is_release && dsm_rank(session) == 0) time_sections(session, 8);
  for (int round = 0; round < rounds && dsm_rank(session) == 0; round++) {
    settle();
    printf("%.1f", (double)time_bare(page, count) / count);
    if (is_release) {
      printf(" %.1f\n", (double)time_sections(session, count) / count);
      continue;
    }
    printf(" %.1f", (double)time_stores(session, store_gpr, count) / count);
    settle();
    printf(" %.1f\n", (double)time_stores(session, store_vector, count) / count);
  }
  check(dsm_barrier_wait(session));
  check(dsm_close(session));
  return 0;
}
