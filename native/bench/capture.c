/* What catching a store costs, apart from sending it. Prints one line of JSON: medians in nanoseconds of
 *   bare           SIGSEGV round trip: a handler that steps over a store of known length
 *   gpr            captured store of a general register, with a sink that does nothing
 *   vector         captured store of an XMM register
 *   rmw            captured `add` to memory
 *   step           displaced single step (rotate through carry)
 *   miss           captured store whose decoding is not in the cache */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "trap/fault.h"
#include "trap/region.h"

#define BASE 0x2a0000000000ull
#define PAGE 4096u
#define SAMPLES 400
#define PER_SAMPLE 100

static int no_fault(void *context, uintptr_t address, int atomic, uintptr_t instruction) {
  (void)context, (void)address, (void)atomic, (void)instruction;
  return 0;
}
static int no_store(void *context, const struct dsm_run *runs, uint32_t count) {
  (void)context, (void)runs, (void)count;
  return 0;
}
static const struct dsm_sink nothing = {.fault = no_fault, .store = no_store};

static uint8_t *map;
static uint8_t *code;

static void bare_handler(int signo, siginfo_t *info, void *context) {
  (void)signo, (void)info;
  ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 3;
}

static void store_gpr(int i) {
  (void)i;
  __asm__ volatile("movq %%rax, (%0)" ::"D"(map) : "memory"); /* 3 bytes in this register, 4 in some */
}
static void store_vector(int i) {
  (void)i;
  __asm__ volatile("movups %%xmm0, (%0)" ::"r"(map) : "memory");
}
static void store_rmw(int i) {
  (void)i;
  __asm__ volatile("addq $1, (%0)" ::"r"(map) : "memory", "cc");
}
static void store_step(int i) {
  (void)i;
  __asm__ volatile("rclq $3, (%0)" ::"r"(map) : "memory", "cc");
}
/* Another address each time, more of them than the cache holds. */
static void store_miss(int i) {
  void (*run)(void *);
  uint8_t *at = code + (unsigned)i % 4096 * 16;
  memcpy(&run, &at, sizeof(run));
  run(map);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double samples[SAMPLES];

static double median(void (*body)(int)) {
  for (int i = 0, n = 0; i < SAMPLES; i++) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int j = 0; j < PER_SAMPLE; j++) body(n++);
    clock_gettime(CLOCK_MONOTONIC, &to);
    samples[i] = ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / PER_SAMPLE;
  }
  qsort(samples, SAMPLES, sizeof(samples[0]), compare);
  return samples[SAMPLES / 2];
}

int main(void) {
  map = mmap((void *)BASE, 16 * PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  code = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map != (uint8_t *)BASE || code == MAP_FAILED) {
    perror("mmap");
    return 1;
  }
  for (unsigned i = 0; i < 4096; i++) memcpy(code + i * 16, "\x48\x89\x07\xc3", 4); /* mov %rax, (%rdi); ret */

  struct sigaction bare = {.sa_sigaction = bare_handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  memset(&bare.sa_mask, 0xff, sizeof(bare.sa_mask));
  sigaction(SIGSEGV, &bare, NULL);
  double bare_ns = median(store_gpr);

  if (dsm_capture_init() != 0 || dsm_region_add(BASE, 16 * PAGE, &nothing, NULL) < 0) {
    perror("dsm_capture_init");
    return 1;
  }
  double gpr_ns = median(store_gpr), vector_ns = median(store_vector), rmw_ns = median(store_rmw);
  double step_ns = median(store_step), miss_ns = median(store_miss);
  printf("{\"bare_ns\":%.0f,\"gpr_ns\":%.0f,\"vector_ns\":%.0f,\"rmw_ns\":%.0f,\"step_ns\":%.0f,\"miss_ns\":%.0f,"
         "\"gpr_to_bare\":%.2f}\n",
         bare_ns, gpr_ns, vector_ns, rmw_ns, step_ns, miss_ns, gpr_ns / bare_ns);
  return 0;
}
