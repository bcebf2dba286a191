/* Red-black relaxation of a grid, like OCEAN of SPLASH-3: ocean CELLS SWEEPS ROUNDS. Each process has some of the CELLS rows, of
 * CELLS cells each. A sweep relaxes all red cells, then all black ones, with a barrier behind each, and takes the largest change
 * under a lock; it is the last sweep if that is small enough. The result is exactly that of one process. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"

#define CELLS_MAX 4096u
#define SWEEPS_MAX 100000u
#define RELAXATION 1.5
#define SMALL_CHANGE 1e-7

static struct argument arguments[] = {
    {"CELLS", 1, CELLS_MAX, 0}, {"SWEEPS", 1, SWEEPS_MAX, 0}, {"ROUNDS", 1, ROUNDS_MAX, 0}};
static unsigned cells, width, sweeps; /* width: with the edge on both sides */

enum { CHANGE_LOCK, LOCKS };

struct problem {
  double *grid; /* width rows of width cells; those of the edge do not change */
  double *changes; /* the largest of each sweep, under CHANGE_LOCK */
};

static void *make(void *(*allocate)(size_t bytes)) {
  struct problem *problem = private_memory(sizeof *problem);
  problem->grid = allocate((size_t)width * width * sizeof *problem->grid);
  problem->changes = allocate(sweeps * sizeof *problem->changes);
  return problem;
}

static void prepare(void *problem) {
  const struct problem *p = problem;
  for (unsigned row = 0; row < width; row++)
    for (unsigned column = 0; column < width; column++) {
      bool is_edge = row == 0 || row > cells || column == 0 || column > cells;
      p->grid[(size_t)row * width + column] = is_edge ? random_at((uint64_t)row * width + column) : 0;
    }
  for (unsigned sweep = 0; sweep < sweeps; sweep++) p->changes[sweep] = 0;
}

/* Relaxes the cells of one colour in this process's rows; returns the largest change. */
static double relax(double *grid, unsigned colour) {
  double largest = 0;
  for (unsigned row = first_of(cells) + 1; row < end_of(cells) + 1; row++) {
    double *here = grid + (size_t)row * width;
    for (unsigned column = 1 + (row + colour) % 2; column <= cells; column += 2) {
      double mean = 0.25 * (here[column - 1] + here[column + 1] + *(here + column - width) + *(here + column + width));
      double change = RELAXATION * (mean - here[column]);
      here[column] += change;
      if (fabs(change) > largest) largest = fabs(change);
    }
  }
  return largest;
}

static void solve(void *problem) {
  const struct problem *p = problem;
  for (unsigned sweep = 0; sweep < sweeps; sweep++) {
    double red = relax(p->grid, 0);
    barrier();
    double change = fmax(red, relax(p->grid, 1));
    lock(CHANGE_LOCK);
    if (change > p->changes[sweep]) p->changes[sweep] = change;
    unlock(CHANGE_LOCK);
    barrier();
    if (p->changes[sweep] < SMALL_CHANGE) break;
  }
}

static bool is_solved(const void *problem, const void *serial) {
  const struct problem *p = problem, *s = serial;
  return memcmp(p->grid, s->grid, (size_t)width * width * sizeof *p->grid) == 0 &&
         memcmp(p->changes, s->changes, sweeps * sizeof *p->changes) == 0;
}

int main(int argc, char **argv) {
  read_arguments(argc, argv, arguments, 3);
  cells = arguments[0].value;
  width = cells + 2;
  sweeps = arguments[1].value;
  /* A cache line for each of the two blocks may be lost to alignment. */
  size_t bytes = ((size_t)width * width + sweeps) * sizeof(double) + 128;
  run_kernel(&(struct kernel){make, prepare, solve, is_solved, bytes, LOCKS, 0}, arguments[2].value);
  return 0;
}
