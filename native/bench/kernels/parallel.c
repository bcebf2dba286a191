/* What kernels share, whatever the back end: rounds, the serial solution, memory, arguments. */
#include "parallel.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/clock.h"

#define BLOCK_ALIGN 64u /* of shared memory: a cache line */
#define TOLERANCE 1e-9

static struct team team;
static size_t memory_bytes, memory_used;
static bool is_alone; /* the serial solution is being computed */

_Noreturn void fail(const char *format, ...) {
  int error = errno; /* for %m */
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "%s: ", program_invocation_short_name);
  errno = error;
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  exit(1);
}

void read_arguments(int argc, char **argv, struct argument *arguments, unsigned count) {
  if (argc != (int)count + 1) {
    fprintf(stderr, "usage: %s", program_invocation_short_name);
    for (unsigned i = 0; i < count; i++) fprintf(stderr, " %s", arguments[i].name);
    fprintf(stderr, "\n");
    exit(2);
  }
  for (unsigned i = 0; i < count; i++) {
    struct argument *one = &arguments[i];
    const char *given = argv[i + 1];
    char *end;
    errno = 0;
    unsigned long value = strtoul(given, &end, 10);
    if (given[0] < '0' || given[0] > '9' || *end != '\0' || errno != 0 || value < one->min || value > one->max) {
      fprintf(stderr, "%s: %s must be a number from %u to %u, and \"%s\" was given\n", program_invocation_short_name,
              one->name, one->min, one->max, given);
      exit(2);
    }
    one->value = (unsigned)value;
  }
}

unsigned rank(void) {
  return is_alone ? 0 : team.rank;
}

unsigned processes(void) {
  return is_alone ? 1 : team.processes;
}

unsigned first_of(unsigned count) {
  return (unsigned)((uint64_t)count * rank() / processes());
}

unsigned end_of(unsigned count) {
  return (unsigned)((uint64_t)count * (rank() + 1) / processes());
}

void lock(unsigned i) {
  if (!is_alone) team_lock(i);
}

void unlock(unsigned i) {
  if (!is_alone) team_unlock(i);
}

void semaphore_wait(unsigned i) {
  if (!is_alone) team_semaphore_wait(i);
}

void semaphore_post(unsigned i) {
  if (!is_alone) team_semaphore_post(i);
}

void barrier(void) {
  if (!is_alone) team_barrier();
}

void *private_memory(size_t bytes) {
  void *memory = calloc(1, bytes > 0 ? bytes : 1);
  if (memory == NULL) fail("there is no memory for %zu bytes", bytes);
  return memory;
}

/* All processes allocate the same blocks in the same order, so that each has the same addresses. */
static void *shared_memory(size_t bytes) {
  size_t rounded = (bytes + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
  if (rounded > memory_bytes - memory_used) fail("the kernel asked for less shared memory than it uses");
  void *block = (uint8_t *)team.memory + memory_used;
  memory_used += rounded;
  return block;
}

double random_at(uint64_t i) {
  uint64_t x = (i + 1) * 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return (double)((x ^ x >> 31) >> 11) / 9007199254740992.0;
}

bool is_close(double a, double b) {
  return fabs(a - b) <= TOLERANCE * fmax(1, fmax(fabs(a), fabs(b)));
}

void run_kernel(const struct kernel *kernel, unsigned rounds) {
  memory_bytes = kernel->bytes;
  team = team_start(kernel->bytes, kernel->locks, kernel->semaphores);
  void *problem = kernel->make(shared_memory);
  void *serial = NULL;
  if (rank() == 0) {
    is_alone = true;
    serial = kernel->make(private_memory);
    kernel->prepare(serial);
    kernel->solve(serial);
    is_alone = false;
  }
  for (unsigned round = 0; round < rounds; round++) {
    if (rank() == 0) kernel->prepare(problem);
    long long start = now_ns();
    barrier();
    kernel->solve(problem);
    barrier();
    if (rank() != 0) continue;
    printf("%lld\n", now_ns() - start);
    if (!kernel->is_solved(problem, serial)) fail("round %u: the result is not that of one process", round + 1);
  }
  barrier();
  team_finish();
}
