/* Runs generated programs (burst-programs.ts) on plain memory and in bursts, from the same random states, while signals
 * arrive, and compares the map, private memory, all registers, flags and vectors.
 *
 * burst_programs STRICT ROUNDS: STRICT is 1 for the rule of `sequential`. Prints `ok` and what bursts did. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "burst/burst.h"
#include "burst/cache.h"
#include "burst/slot.h"
#include "harness.h"

#define BASE 0x2a0000000000ull
#define MAP_BYTES (4 * PAGE)
#define SIGNAL_US 300

extern const void *const burst_programs[];
extern uint8_t burst_data[256];

struct memory {
  uint8_t map[MAP_BYTES], own[2 * PAGE], data[256];
};

static struct map map;
static uint8_t own[2 * PAGE] __attribute__((aligned(64)));
static struct state initial, plain, burst;
static struct memory before, wanted;
static volatile uint32_t signals, signals_inside;

static uint64_t random_state = 88172645463325252ull;
static uint64_t pattern(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static void fill(void *to, size_t size) {
  for (size_t i = 0; i < size; i++) ((uint8_t *)to)[i] = (uint8_t)(pattern() >> 24);
}

/* No signal may see the program inside a copy, or on a slot's stack. */
static void on_alarm(int signo, siginfo_t *info, void *context_pointer) {
  const greg_t *regs = ((ucontext_t *)context_pointer)->uc_mcontext.gregs;
  (void)signo, (void)info;
  signals++;
  if (burst_cache_holds((uint64_t)regs[REG_RIP]) || burst_slot_at((uint64_t)regs[REG_RSP]) != NULL) signals_inside++;
}

static unsigned part_offset[8], part_size[8];

static void find_parts(void) {
  for (unsigned n = 2; n < 8; n++) {
    unsigned a, b, c, d;
    if ((xcr0 & 0xe7) >> n == 0 || ((xcr0 & 0xe7) >> n & 1) == 0) continue;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0xd), "c"(n));
    part_size[n] = a;
    part_offset[n] = b;
    if (b + a > sizeof initial.xsave) fail("the processor's state is larger than the tests know");
  }
}

static void prepare(void) {
  static const uint16_t control = 0x37f;
  static const uint32_t mxcsr = 0x1f80;
  uint64_t in_use = xcr0 & 0xe7;
  memset(&initial, 0, sizeof initial);
  for (unsigned i = 0; i < 16; i++) initial.gpr[i] = pattern();
  initial.gpr[3] = BASE + PAGE;
  initial.gpr[14] = BASE + 2 * PAGE + (pattern() & 63);
  initial.gpr[5] = (uintptr_t)own;
  initial.flags = 0x202 | (pattern() & 0x8d5);
  memcpy(initial.xsave, &control, 2);
  memcpy(initial.xsave + 24, &mxcsr, 4);
  memcpy(initial.xsave + 512, &in_use, 8);
  fill(initial.xsave + 160, 256);
  for (unsigned n = 2; n < 8; n++) fill(initial.xsave + part_offset[n], part_size[n]);
}

/* What is below the stack pointer: programs use it. */
static __attribute__((noinline)) void clear_stack(void) {
  volatile uint8_t below[1024];
  for (size_t i = 0; i < sizeof below; i++) below[i] = 0x5a;
}

static void run(struct state *state, const void *program) {
  memcpy(map.alias, before.map, sizeof before.map);
  memcpy(own, before.own, sizeof own);
  memcpy(burst_data, before.data, sizeof before.data);
  *state = initial;
  clear_stack();
  state_run(state, program);
}

static void compare(unsigned program, unsigned round) {
  static const char *names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  if (map.wrong != NULL) fail("program %u, round %u: the sink was called wrongly: %s", program, round, map.wrong);
  for (unsigned i = 0; i < 16; i++)
    if (plain.gpr[i] != burst.gpr[i])
      fail("program %u, round %u: %s is %lx, not %lx", program, round, names[i], burst.gpr[i], plain.gpr[i]);
  if (((plain.flags ^ burst.flags) & 0xcd5) != 0)
    fail("program %u, round %u: flags are %lx, not %lx", program, round, burst.flags, plain.flags);
  for (size_t i = 0; i < MAP_BYTES; i++)
    if (map.alias[i] != wanted.map[i])
      fail("program %u, round %u: byte %zx of the map is %02x, not %02x", program, round, i, map.alias[i], wanted.map[i]);
  if (memcmp(own, wanted.own, sizeof own) != 0) fail("program %u, round %u: private memory differs", program, round);
  if (memcmp(burst_data, wanted.data, sizeof wanted.data) != 0) fail("program %u, round %u: data differs", program, round);
  if (memcmp(plain.xsave + 24, burst.xsave + 24, 4) != 0) fail("program %u, round %u: mxcsr differs", program, round);
  if (memcmp(plain.xsave + 160, burst.xsave + 160, 256) != 0) fail("program %u, round %u: an xmm differs", program, round);
  for (unsigned n = 2; n < 8; n++)
    if (memcmp(plain.xsave + part_offset[n], burst.xsave + part_offset[n], part_size[n]) != 0)
      fail("program %u, round %u: vector part %u differs", program, round, n);
}

int main(int argc, char **argv) {
  if (argc != 3) fail("burst_programs STRICT ROUNDS");
  unsigned rounds = (unsigned)atoi(argv[2]);
  harness_init();
  find_parts();
  if (dsm_capture_init() != 0) fail("dsm_capture_init");
  dsm_burst_init();
  map_create(&map, BASE, MAP_BYTES);
  map.rules = (struct dsm_burst_rules){.bytes = BURST_LOG_BYTES, .is_strict = atoi(argv[1]) != 0};
  struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  struct itimerval timer = {{0, SIGNAL_US}, {0, SIGNAL_US}};
  setitimer(ITIMER_REAL, &timer, NULL);
  uint64_t bursts = 0, runs = 0, bytes = 0, stores = 0;
  for (unsigned i = 0; burst_programs[i] != NULL; i++) {
    for (unsigned round = 0; round < rounds; round++) {
      prepare();
      fill(&before, sizeof before);
      map_writable(&map, 1);
      run(&plain, burst_programs[i]);
      memcpy(wanted.map, map.alias, sizeof wanted.map);
      memcpy(wanted.own, own, sizeof own);
      memcpy(wanted.data, burst_data, sizeof wanted.data);
      map_writable(&map, 0);
      map_forget(&map);
      run(&burst, burst_programs[i]);
      compare(i, round);
      bursts += map.bursts;
      runs += map.burst_runs;
      bytes += map.burst_bytes;
      stores += map.stores;
    }
  }
  memset(&timer, 0, sizeof timer);
  setitimer(ITIMER_REAL, &timer, NULL);
  if (signals_inside != 0) fail("%u of %u signals saw the program in a burst", signals_inside, signals);
  printf("ok\t%lu bursts\t%lu runs\t%lu bytes\t%lu single stores\t%u signals\n", bursts, runs, bytes, stores, signals);
  return 0;
}
