/* What a single store of the order `pipelined` costs its process: burst COUNT ROUNDS. Joins the session in the environment,
 * which has DSM_BURST=0.
 * Rank 0 prints for every round the nanoseconds per operation of a bare SIGSEGV round trip, of a store of a general
 * register and of a store of an XMM register. COUNT stores fit the ring; that they are in place is waited for outside
 * the timing. The other ranks wait in a barrier, so that their nodes follow the order. */
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
  if (strcmp(dsm_order(session), "pipelined") != 0) {
    fprintf(stderr, "burst: the order is %s; set DSM_ORDER=pipelined\n", dsm_order(session));
    return 2;
  }
  uint8_t *map = dsm_address(session);
  struct sigaction bare = {.sa_sigaction = bare_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK}, ours;
  memset(&bare.sa_mask, 0xff, sizeof bare.sa_mask);
  check(dsm_barrier_wait(session));
  for (int round = 0; round < rounds && dsm_rank(session) == 0; round++) {
    settle();
    sigaction(SIGSEGV, &bare, &ours);
    long long start = now_ns();
    for (int i = 0; i < count; i++)
      store_gpr(page);
    long long bare_ns = now_ns() - start;
    sigaction(SIGSEGV, &ours, NULL);
    if (bare_traps != count * (round + 1)) {
      fprintf(stderr, "burst: not every bare store trapped\n");
      return 1;
    }

    start = now_ns();
    for (int i = 0; i < count; i++)
      store_gpr(map);
    long long gpr_ns = now_ns() - start;
    check(dsm_fence(session));
    settle();

    start = now_ns();
    for (int i = 0; i < count; i++)
      store_vector(map);
    long long vector_ns = now_ns() - start;
    check(dsm_fence(session));
    printf("%.1f %.1f %.1f\n", (double)bare_ns / count, (double)gpr_ns / count, (double)vector_ns / count);
  }
  check(dsm_barrier_wait(session));
  check(dsm_close(session));
  return 0;
}
