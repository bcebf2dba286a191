/* What a kernel needs to run in parallel: processes that share memory, locks, semaphores, a barrier. A kernel is written as for
 * pthreads and knows nothing of dsm; it is linked with parallel.c and one of two back ends: with_dsm.c, whose processes are those
 * of the session in the environment, or with_pthreads.c, whose processes are forked (KERNEL_PROCESSES, 2 unless set) and share
 * memory and pthread objects on one machine.
 *
 * A call that fails ends the process with exit code 1 and one line on stderr; a wrong argument gives exit code 2. */
#ifndef PARALLEL_H
#define PARALLEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- For kernels ---- */

#define ROUNDS_MAX 1000u /* times that a kernel may be told to compute the same */

/* An argument of a kernel: a number from `min` to `max`. */
struct argument {
  const char *name;
  unsigned min, max;
  unsigned value; /* set by read_arguments() */
};

/* All `count` arguments must be given, in this order. */
void read_arguments(int argc, char **argv, struct argument *arguments, unsigned count);

struct kernel {
  void *(*make)(
      void *(*allocate)(size_t bytes)); /* the problem, in memory that `allocate` gives; not its initial values */
  void (*prepare)(void *problem); /* sets the initial values, in one process */
  void (*solve)(void *problem); /* in all processes at once; this is what is timed */
  bool (*is_solved)(const void *problem, const void *serial); /* compares with the solution of one process alone */
  size_t bytes; /* of shared memory that `make` allocates, at most */
  unsigned locks; /* number of locks */
  unsigned semaphores; /* number of semaphores; their value is 0 at first */
};

/* Runs the kernel in all processes, `rounds` times from the same initial values. Rank 0 prints the nanoseconds of each
 * round, one number a line: from its call of the barrier before `solve`, where the others wait for it, to the end of the
 * barrier behind it. It compares the solution with that of `solve` on private memory in one process, in which
 * synchronising does nothing. A difference is a failure. */
void run_kernel(const struct kernel *kernel, unsigned rounds);

unsigned rank(void); /* 0 to processes() - 1 */
unsigned processes(void); /* 1 while the serial solution is computed */
/* The items, of `count`, of this process are [first_of(count), end_of(count)). */
unsigned first_of(unsigned count);
unsigned end_of(unsigned count);

void lock(unsigned i); /* not recursive */
void unlock(unsigned i);
void semaphore_wait(unsigned i);
void semaphore_post(unsigned i);
void barrier(void);

void *private_memory(size_t bytes); /* zeroed; for free() */
double random_at(uint64_t i); /* a number from 0 up to but not 1, always the same for the same i */
bool is_close(double a, double b); /* they differ by at most 1e-9, of the larger where that is above 1 */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- For parallel.c: a back end ---- */

struct team {
  unsigned rank, processes;
  void *memory; /* zeroed, of the size asked for, at the same address in all processes */
};

/* Returns in each process of the team; with pthreads the process that forked them waits for them and does not return. */
struct team team_start(size_t bytes, unsigned locks, unsigned semaphores);
void team_lock(unsigned i);
void team_unlock(unsigned i);
void team_semaphore_wait(unsigned i);
void team_semaphore_post(unsigned i);
void team_barrier(void);
void team_finish(void);

#endif
