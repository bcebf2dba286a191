/* Sparse Cholesky factorisation with a queue of tasks, like CHOLESKY of SPLASH-3: cholesky SIDE BLOCK ROUNDS. The matrix is that
 * of a grid of SIDE x SIDE points with BLOCK unknowns each, in the order of nested dissection; a column is one point's. A task
 * factors a column and subtracts what follows from it from later columns, each under its lock; a column that has got all that comes
 * to it is the next task. Tasks are in a queue under a lock, and a semaphore counts them: an idle process sleeps there. The order
 * of subtractions differs from run to run, so the result is compared with a tolerance (is_close). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"

#define SIDE_MAX 48u
#define BLOCK_MAX 32u
#define SMALL_PART 2u /* points in a row or column of a part that is not cut any more */

static struct argument arguments[] = {
    {"SIDE", 1, SIDE_MAX, 0}, {"BLOCK", 1, BLOCK_MAX, 0}, {"ROUNDS", 1, ROUNDS_MAX, 0}};
static unsigned side, block, area; /* area: elements of a block */
static unsigned columns;

/* What is known before the computation, in every process: where the factor has blocks that are not zero. */
static unsigned points; /* numbered so far: at the end all */
static unsigned *number_of; /* column of a point */
static unsigned *point_of; /* and back */
static int *block_at; /* [row * columns + column]: number of the block, or -1 */
static unsigned *first_block; /* of each column, and one more; the first block of a column is the diagonal one */
static unsigned *row_of_block; /* in each column they ascend */
static unsigned *updates_of; /* columns that are to be subtracted from a column */

enum { TASKS, SEMAPHORES };
/* Column i has lock i. */
#define QUEUE_LOCK columns

struct queue {
  unsigned first, end; /* tasks[first .. end) wait */
  unsigned done; /* columns that are finished */
};

struct problem {
  double *values; /* of block b: [b * area + row * block + column] */
  unsigned *pending; /* updates that a column still waits for, under its lock */
  struct queue *queue;
  unsigned *tasks; /* columns; each is put there once */
};

/* ---- The structure ---- */

/* Numbers the points of a part of the grid: both halves, then the line that separates them. */
static void dissect(unsigned left, unsigned right, unsigned top, unsigned bottom) {
  if (left >= right || top >= bottom) return;
  bool is_wide = right - left >= bottom - top;
  unsigned length = is_wide ? right - left : bottom - top;
  bool is_small = length <= SMALL_PART;
  unsigned middle = is_small ? 0 : (is_wide ? left + right : top + bottom) / 2;
  if (!is_small && is_wide) {
    dissect(left, middle, top, bottom);
    dissect(middle + 1, right, top, bottom);
    left = middle, right = middle + 1;
  } else if (!is_small) {
    dissect(left, right, top, middle);
    dissect(left, right, middle + 1, bottom);
    top = middle, bottom = middle + 1;
  }
  for (unsigned y = top; y < bottom; y++)
    for (unsigned x = left; x < right; x++) {
      point_of[points] = y * side + x;
      number_of[y * side + x] = points++;
    }
}

static bool are_neighbours(unsigned a, unsigned b) {
  unsigned across = a % side > b % side ? a % side - b % side : b % side - a % side;
  unsigned down = a / side > b / side ? a / side - b / side : b / side - a / side;
  return across + down == 1;
}

/* Finds the blocks of the factor: those of the matrix, and what eliminating a column brings about in later ones. */
static unsigned find_blocks(void) {
  columns = side * side;
  number_of = private_memory(columns * sizeof *number_of);
  point_of = private_memory(columns * sizeof *point_of);
  dissect(0, side, 0, side);
  bool *is_there = private_memory((size_t)columns * columns * sizeof *is_there);
  for (unsigned row = 0; row < columns; row++)
    for (unsigned column = 0; column <= row; column++)
      is_there[row * columns + column] = row == column || are_neighbours(point_of[row], point_of[column]);
  block_at = private_memory((size_t)columns * columns * sizeof *block_at);
  first_block = private_memory((columns + 1) * sizeof *first_block);
  row_of_block = private_memory((size_t)columns * (columns + 1) / 2 * sizeof *row_of_block);
  updates_of = private_memory(columns * sizeof *updates_of);
  unsigned blocks = 0;
  for (unsigned column = 0; column < columns; column++) {
    first_block[column] = blocks;
    for (unsigned row = column; row < columns; row++) {
      block_at[row * columns + column] = is_there[row * columns + column] ? (int)blocks : -1;
      if (is_there[row * columns + column]) row_of_block[blocks++] = row;
    }
    for (unsigned b = first_block[column] + 1; b < blocks; b++) {
      updates_of[row_of_block[b]]++;
      for (unsigned c = b; c < blocks; c++) is_there[row_of_block[c] * columns + row_of_block[b]] = true;
    }
  }
  first_block[columns] = blocks;
  free(is_there);
  return blocks;
}

/* An element of the matrix, of two unknowns: symmetric, and the diagonal outweighs its row. */
static double element(unsigned a, unsigned b) {
  if (a == b) return 5.0 * block + 1;
  uint64_t low = a < b ? a : b, high = a < b ? b : a;
  return 2 * random_at(low * columns * block + high) - 1;
}

/* ---- The factorisation ---- */

static void *make(void *(*allocate)(size_t bytes)) {
  struct problem *problem = private_memory(sizeof *problem);
  problem->values = allocate((size_t)first_block[columns] * area * sizeof *problem->values);
  problem->pending = allocate(columns * sizeof *problem->pending);
  problem->queue = allocate(sizeof *problem->queue);
  problem->tasks = allocate(columns * sizeof *problem->tasks);
  return problem;
}

static void put_task(const struct problem *p, unsigned column) {
  lock(QUEUE_LOCK);
  p->tasks[p->queue->end++] = column;
  unlock(QUEUE_LOCK);
  semaphore_post(TASKS);
}

/* Waits for a task; -1: all are done. */
static int take_task(const struct problem *p) {
  semaphore_wait(TASKS);
  int column = -1;
  lock(QUEUE_LOCK);
  if (p->queue->first < p->queue->end) column = (int)p->tasks[p->queue->first++];
  unlock(QUEUE_LOCK);
  return column;
}

static void prepare(void *problem) {
  const struct problem *p = problem;
  *p->queue = (struct queue){0, 0, 0};
  for (unsigned column = 0; column < columns; column++) {
    for (unsigned b = first_block[column]; b < first_block[column + 1]; b++) {
      unsigned row = row_of_block[b];
      bool is_zero = row != column && !are_neighbours(point_of[row], point_of[column]);
      for (unsigned i = 0; i < area; i++)
        p->values[(size_t)b * area + i] = is_zero ? 0 : element(row * block + i / block, column * block + i % block);
    }
    p->pending[column] = updates_of[column];
    if (updates_of[column] == 0) put_task(p, column);
  }
}

/* The diagonal block becomes its factor, whose upper triangle is not used, */
static void factor_diagonal(double *diagonal) {
  for (unsigned column = 0; column < block; column++)
    for (unsigned row = column; row < block; row++) {
      double value = diagonal[row * block + column];
      for (unsigned k = 0; k < column; k++) value -= diagonal[row * block + k] * diagonal[column * block + k];
      diagonal[row * block + column] = row == column ? sqrt(value) : value / diagonal[column * block + column];
    }
}

/* and the blocks below are divided by it. */
static void divide(double *below, const double *diagonal) {
  for (unsigned row = 0; row < block; row++)
    for (unsigned column = 0; column < block; column++) {
      double value = below[row * block + column];
      for (unsigned k = 0; k < column; k++) value -= below[row * block + k] * diagonal[column * block + k];
      below[row * block + column] = value / diagonal[column * block + column];
    }
}

static void subtract_product(double *from, const double *left, const double *right) {
  for (unsigned row = 0; row < block; row++)
    for (unsigned column = 0; column < block; column++) {
      double sum = 0;
      for (unsigned k = 0; k < block; k++) sum += left[row * block + k] * right[column * block + k];
      from[row * block + column] -= sum;
    }
}

static void do_task(const struct problem *p, unsigned column) {
  unsigned first = first_block[column], end = first_block[column + 1];
  double *values = p->values;
  factor_diagonal(values + (size_t)first * area);
  for (unsigned b = first + 1; b < end; b++) divide(values + (size_t)b * area, values + (size_t)first * area);
  for (unsigned b = first + 1; b < end; b++) {
    unsigned later = row_of_block[b];
    lock(later);
    for (unsigned c = b; c < end; c++) {
      size_t target = (size_t)block_at[row_of_block[c] * columns + later];
      subtract_product(values + target * area, values + (size_t)c * area, values + (size_t)b * area);
    }
    bool is_ready = --p->pending[later] == 0;
    unlock(later);
    if (is_ready) put_task(p, later);
  }
}

static void solve(void *problem) {
  const struct problem *p = problem;
  for (int column; (column = take_task(p)) >= 0;) {
    do_task(p, (unsigned)column);
    lock(QUEUE_LOCK);
    bool is_last = ++p->queue->done == columns;
    unlock(QUEUE_LOCK);
    /* All wake, and find the queue empty. */
    for (unsigned i = 0; is_last && i < processes(); i++) semaphore_post(TASKS);
  }
}

static bool is_solved(const void *problem, const void *serial) {
  const struct problem *p = problem, *s = serial;
  if (p->queue->done != columns || s->queue->done != columns) return false;
  for (unsigned column = 0; column < columns; column++)
    for (unsigned b = first_block[column]; b < first_block[column + 1]; b++)
      for (unsigned i = 0; i < area; i++)
        if ((b > first_block[column] || i / block >= i % block) &&
            !is_close(p->values[(size_t)b * area + i], s->values[(size_t)b * area + i]))
          return false;
  return true;
}

int main(int argc, char **argv) {
  read_arguments(argc, argv, arguments, 3);
  side = arguments[0].value;
  block = arguments[1].value;
  area = block * block;
  unsigned blocks = find_blocks();
  size_t bytes = (size_t)blocks * area * sizeof(double) + 2 * columns * sizeof(unsigned) + sizeof(struct queue);
  bytes += 4 * 64; /* a cache line for each of the four blocks of memory may be lost to alignment */
  run_kernel(&(struct kernel){make, prepare, solve, is_solved, bytes, columns + 1, SEMAPHORES}, arguments[2].value);
  return 0;
}
