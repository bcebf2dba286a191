/* Bodies that attract each other, by a quadtree, like BARNES of SPLASH-3: tree BODIES STEPS ROUNDS. In each step the processes build
 * the tree together, each cell under its lock, compute the cells' masses from the leaves up, with a barrier for each depth, and then
 * all read the tree, without locks, to find the forces on their bodies. The tree does not depend on the order in which bodies come,
 * so the result is exactly that of one process. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"

#define BODIES_MAX 65536u
#define CELLS_MIN 512u
#define STEPS_MAX 100u
#define LEAF_BODIES 8u /* more are too many for a leaf: it is split */
#define DEPTH_MAX 60u
#define CLUSTERS 8u
#define CELL_LOCKS 1024u /* cells share them, by their number */
#define NO_CELL UINT32_MAX
#define ROOT 0u
#define OPENING 0.5 /* a cell this many times its distance wide, or wider, is opened */
#define SOFTENING 1e-4 /* added to the square of a distance */
#define TIME_STEP 1e-3

static struct argument arguments[] = {
    {"BODIES", 1, BODIES_MAX, 0}, {"STEPS", 1, STEPS_MAX, 0}, {"ROUNDS", 1, ROUNDS_MAX, 0}};
static unsigned count, steps;
static unsigned cells; /* that all processes together may make in a step: several times what they need */

enum { EXTENT_LOCK = CELL_LOCKS, LOCKS };

struct body {
  double position[2], velocity[2], force[2], mass;
};

struct cell {
  double centre[2], mass; /* of the bodies below */
  uint32_t is_split;
  uint32_t bodies; /* in the leaf */
  union {
    uint32_t body[LEAF_BODIES];
    uint32_t child[4]; /* NO_CELL: there are no bodies */
  };
};

/* What the processes find together in a step, under EXTENT_LOCK. */
struct extent {
  double low[2], high[2];
  uint64_t depth; /* of the deepest cell */
};

struct problem {
  struct body *bodies;
  struct cell *cells; /* each process has its part; the first is the root */
  struct extent *extents; /* one for each step */
};

/* Cells that this process has made in this step. */
struct own_cells {
  unsigned made;
  uint32_t *depths;
};

struct square {
  double low[2], width;
};

static void *make(void *(*allocate)(size_t bytes)) {
  struct problem *problem = private_memory(sizeof *problem);
  problem->bodies = allocate(count * sizeof *problem->bodies);
  problem->extents = allocate(steps * sizeof *problem->extents);
  problem->cells = allocate(cells * sizeof *problem->cells);
  return problem;
}

/* In clusters, so that neighbours in memory are near each other. */
static void prepare(void *problem) {
  const struct problem *p = problem;
  for (unsigned i = 0; i < count; i++) {
    struct body *body = &p->bodies[i];
    unsigned cluster = (unsigned)((uint64_t)i * CLUSTERS / count);
    for (unsigned axis = 0; axis < 2; axis++) {
      double middle = random_at(2 * cluster + axis), away = random_at(2 * CLUSTERS + 2 * i + axis) - 0.5;
      body->position[axis] = middle + 0.4 * away;
      body->velocity[axis] = 0;
      body->force[axis] = 0;
    }
    body->mass = (1 + random_at(2 * CLUSTERS + 2 * (uint64_t)count + i)) / count;
  }
  for (unsigned step = 0; step < steps; step++)
    p->extents[step] = (struct extent){{DBL_MAX, DBL_MAX}, {-DBL_MAX, -DBL_MAX}, 0};
}

/* ---- Building ---- */

static uint32_t make_cell(const struct problem *p, struct own_cells *own, uint32_t depth) {
  uint32_t cell = first_of(cells) + own->made;
  if (cell == end_of(cells)) fail("a process needs more than %u cells", own->made);
  if (depth > DEPTH_MAX) fail("bodies are too near each other");
  own->depths[own->made++] = depth;
  p->cells[cell].is_split = 0;
  p->cells[cell].bodies = 0;
  return cell;
}

static unsigned quadrant_of(const struct square *square, const double *position) {
  double half = square->width / 2;
  return (position[0] >= square->low[0] + half ? 1u : 0u) + (position[1] >= square->low[1] + half ? 2u : 0u);
}

static struct square part_of(const struct square *square, unsigned quadrant) {
  double half = square->width / 2;
  return (struct square){{square->low[0] + (quadrant & 1 ? half : 0), square->low[1] + (quadrant & 2 ? half : 0)},
                         half};
}

/* Puts a body into the part of a split cell where there is none yet. */
static void begin_leaf(const struct problem *p, struct own_cells *own, uint32_t *child, uint32_t body, uint32_t depth) {
  uint32_t leaf = make_cell(p, own, depth);
  p->cells[leaf].body[0] = body;
  p->cells[leaf].bodies = 1;
  *child = leaf;
}

/* Makes a full leaf a split cell with its bodies in leaves below. */
static void split(const struct problem *p, struct own_cells *own, struct cell *cell, const struct square *square,
                  uint32_t depth) {
  uint32_t bodies[LEAF_BODIES];
  memcpy(bodies, cell->body, sizeof bodies);
  for (unsigned i = 0; i < 4; i++) cell->child[i] = NO_CELL;
  for (unsigned i = 0; i < LEAF_BODIES; i++) {
    uint32_t *child = &cell->child[quadrant_of(square, p->bodies[bodies[i]].position)];
    if (*child == NO_CELL) {
      begin_leaf(p, own, child, bodies[i], depth + 1);
    } else {
      struct cell *leaf = &p->cells[*child];
      leaf->body[leaf->bodies++] = bodies[i];
    }
  }
  cell->is_split = 1;
}

static void insert(const struct problem *p, struct own_cells *own, struct square square, uint32_t body) {
  uint32_t number = ROOT;
  for (uint32_t depth = 0;; depth++) {
    struct cell *cell = &p->cells[number];
    uint32_t next = NO_CELL;
    lock(number % CELL_LOCKS);
    if (!cell->is_split && cell->bodies == LEAF_BODIES) split(p, own, cell, &square, depth);
    if (!cell->is_split) {
      cell->body[cell->bodies++] = body;
    } else {
      uint32_t *child = &cell->child[quadrant_of(&square, p->bodies[body].position)];
      next = *child;
      if (next == NO_CELL) begin_leaf(p, own, child, body, depth + 1);
    }
    unlock(number % CELL_LOCKS);
    if (next == NO_CELL) return;
    square = part_of(&square, quadrant_of(&square, p->bodies[body].position));
    number = next;
  }
}

static struct square square_of(const struct extent *extent) {
  double width = fmax(extent->high[0] - extent->low[0], extent->high[1] - extent->low[1]);
  return (struct square){{extent->low[0], extent->low[1]}, width * 1.001};
}

/* ---- Masses ---- */

static void add_mass(struct cell *cell, const double *centre, double mass) {
  cell->mass += mass;
  for (unsigned axis = 0; axis < 2; axis++) cell->centre[axis] += mass * centre[axis];
}

static int by_number(const void *a, const void *b) {
  uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
  return first < second ? -1 : first > second;
}

static void weigh(const struct problem *p, struct cell *cell) {
  struct cell sum = *cell;
  sum.mass = sum.centre[0] = sum.centre[1] = 0;
  if (cell->is_split) {
    for (unsigned i = 0; i < 4; i++)
      if (cell->child[i] != NO_CELL) add_mass(&sum, p->cells[cell->child[i]].centre, p->cells[cell->child[i]].mass);
  } else {
    /* Sums do not depend on the order in which the bodies came. */
    qsort(sum.body, sum.bodies, sizeof *sum.body, by_number);
    for (unsigned i = 0; i < sum.bodies; i++)
      add_mass(&sum, p->bodies[sum.body[i]].position, p->bodies[sum.body[i]].mass);
  }
  for (unsigned axis = 0; axis < 2; axis++) sum.centre[axis] /= sum.mass;
  *cell = sum;
}

/* ---- Forces ---- */

static void attract(const struct body *body, const double *centre, double mass, double *force) {
  double distance[2] = {centre[0] - body->position[0], centre[1] - body->position[1]};
  double square = distance[0] * distance[0] + distance[1] * distance[1] + SOFTENING;
  double strength = body->mass * mass / (square * sqrt(square));
  force[0] += strength * distance[0];
  force[1] += strength * distance[1];
}

static void add_forces(const struct problem *p, uint32_t number, double width, uint32_t self, double *force) {
  const struct cell *cell = &p->cells[number];
  const struct body *body = &p->bodies[self];
  double across = cell->centre[0] - body->position[0], down = cell->centre[1] - body->position[1];
  if (!cell->is_split) {
    for (unsigned i = 0; i < cell->bodies; i++)
      if (cell->body[i] != self) attract(body, p->bodies[cell->body[i]].position, p->bodies[cell->body[i]].mass, force);
  } else if (width * width < OPENING * OPENING * (across * across + down * down)) {
    attract(body, cell->centre, cell->mass, force);
  } else {
    for (unsigned i = 0; i < 4; i++)
      if (cell->child[i] != NO_CELL) add_forces(p, cell->child[i], width / 2, self, force);
  }
}

/* ---- A step ---- */

/* Moves this process's bodies, and finds the extent of all. */
static void move(const struct problem *p, struct extent *extent) {
  struct extent own = {{DBL_MAX, DBL_MAX}, {-DBL_MAX, -DBL_MAX}, 0};
  for (unsigned i = first_of(count); i < end_of(count); i++) {
    struct body *body = &p->bodies[i];
    for (unsigned axis = 0; axis < 2; axis++) {
      body->velocity[axis] += body->force[axis] / body->mass * TIME_STEP;
      body->position[axis] += body->velocity[axis] * TIME_STEP;
      own.low[axis] = fmin(own.low[axis], body->position[axis]);
      own.high[axis] = fmax(own.high[axis], body->position[axis]);
    }
  }
  lock(EXTENT_LOCK);
  for (unsigned axis = 0; axis < 2; axis++) {
    extent->low[axis] = fmin(extent->low[axis], own.low[axis]);
    extent->high[axis] = fmax(extent->high[axis], own.high[axis]);
  }
  unlock(EXTENT_LOCK);
}

static void build(const struct problem *p, struct extent *extent, struct own_cells *own) {
  struct square square = square_of(extent);
  for (unsigned i = first_of(count); i < end_of(count); i++) insert(p, own, square, i);
  uint32_t deepest = 0;
  for (unsigned i = 0; i < own->made; i++) deepest = own->depths[i] > deepest ? own->depths[i] : deepest;
  lock(EXTENT_LOCK);
  if (deepest > extent->depth) extent->depth = deepest;
  unlock(EXTENT_LOCK);
}

static void solve(void *problem) {
  const struct problem *p = problem;
  struct own_cells own = {0, private_memory(cells * sizeof *own.depths)};
  for (unsigned step = 0; step < steps; step++) {
    struct extent *extent = &p->extents[step];
    own.made = 0;
    if (rank() == 0) make_cell(p, &own, 0);
    move(p, extent);
    barrier();
    build(p, extent, &own);
    barrier();
    for (uint64_t depth = extent->depth + 1; depth-- > 0;) {
      for (unsigned i = 0; i < own.made; i++)
        if (own.depths[i] == depth) weigh(p, &p->cells[first_of(cells) + i]);
      barrier();
    }
    for (unsigned i = first_of(count); i < end_of(count); i++) {
      double force[2] = {0, 0};
      add_forces(p, ROOT, square_of(extent).width, i, force);
      memcpy(p->bodies[i].force, force, sizeof force);
    }
    barrier();
  }
  free(own.depths);
}

static bool is_solved(const void *problem, const void *serial) {
  const struct problem *p = problem, *s = serial;
  return memcmp(p->bodies, s->bodies, count * sizeof *p->bodies) == 0 &&
         memcmp(p->extents, s->extents, steps * sizeof *p->extents) == 0;
}

int main(int argc, char **argv) {
  read_arguments(argc, argv, arguments, 3);
  count = arguments[0].value;
  steps = arguments[1].value;
  cells = 2 * count + CELLS_MIN;
  size_t bytes = count * sizeof(struct body) + steps * sizeof(struct extent) + cells * sizeof(struct cell);
  bytes += 3 * 64; /* a cache line for each of the three blocks of memory may be lost to alignment */
  run_kernel(&(struct kernel){make, prepare, solve, is_solved, bytes, LOCKS, 0}, arguments[2].value);
  return 0;
}
