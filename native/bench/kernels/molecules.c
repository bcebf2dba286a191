/* Molecules that attract and repel each other, like WATER-NSQUARED of SPLASH-3: molecules MOLECULES STEPS ROUNDS. Each process
 * computes the forces between its molecules and those that follow them, and adds the sums to each molecule under the lock of that
 * molecule. Two barriers a step. The order of additions differs from run to run, so the result is compared with a tolerance
 * (is_close). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel.h"

#define MOLECULES_MAX 4095u /* with the lock of the energies, 4096 locks */
#define STEPS_MAX 1000u
#define SPACING 1.15 /* of the lattice on which they begin, in diameters */
#define JITTER 0.1
#define TIME_STEP 0.002

static struct argument arguments[] = {
    {"MOLECULES", 2, MOLECULES_MAX, 0}, {"STEPS", 1, STEPS_MAX, 0}, {"ROUNDS", 1, ROUNDS_MAX, 0}};
static unsigned count, steps;

struct molecule {
  double position[3], velocity[3], force[3];
};

struct problem {
  struct molecule *molecules; /* each has the lock of its number */
  double *energies; /* potential energy in each step, under lock `count` */
};

static void *make(void *(*allocate)(size_t bytes)) {
  struct problem *problem = private_memory(sizeof *problem);
  problem->molecules = allocate(count * sizeof *problem->molecules);
  problem->energies = allocate(steps * sizeof *problem->energies);
  return problem;
}

static void prepare(void *problem) {
  const struct problem *p = problem;
  unsigned side = 1;
  while (side * side * side < count) side++;
  for (unsigned i = 0; i < count; i++) {
    unsigned place[3] = {i % side, i / side % side, i / side / side};
    for (unsigned axis = 0; axis < 3; axis++) {
      p->molecules[i].position[axis] = SPACING * place[axis] + JITTER * (random_at(3 * i + axis) - 0.5);
      p->molecules[i].velocity[axis] = 0;
      p->molecules[i].force[axis] = 0;
    }
  }
  for (unsigned step = 0; step < steps; step++) p->energies[step] = 0;
}

/* Adds the forces between two molecules to the sums of both; returns their energy (Lennard-Jones). */
static double interact(const struct molecule *molecules, unsigned i, unsigned j, double (*sums)[3]) {
  double distance[3], square = 0;
  for (unsigned axis = 0; axis < 3; axis++) {
    distance[axis] = molecules[i].position[axis] - molecules[j].position[axis];
    square += distance[axis] * distance[axis];
  }
  double inverse = 1 / square, sixth = inverse * inverse * inverse;
  double strength = 24 * inverse * sixth * (2 * sixth - 1);
  for (unsigned axis = 0; axis < 3; axis++) {
    sums[i][axis] += strength * distance[axis];
    sums[j][axis] -= strength * distance[axis];
  }
  return 4 * sixth * (sixth - 1);
}

/* Each pair once: a molecule with the half of all that follow it, in a circle. */
static double add_up(const struct molecule *molecules, double (*sums)[3]) {
  double energy = 0;
  for (unsigned i = first_of(count); i < end_of(count); i++) {
    /* Where their number is even, a molecule and the one opposite belong to the first of the two. */
    unsigned partners = count % 2 == 0 && i >= count / 2 ? count / 2 - 1 : count / 2;
    for (unsigned k = 1; k <= partners; k++) energy += interact(molecules, i, (i + k) % count, sums);
  }
  return energy;
}

static void hand_in(struct molecule *molecules, double (*sums)[3]) {
  /* Each process begins with its own, so that they do not meet at every lock. */
  for (unsigned k = 0; k < count; k++) {
    unsigned i = (first_of(count) + k) % count;
    if (sums[i][0] == 0 && sums[i][1] == 0 && sums[i][2] == 0) continue;
    lock(i);
    for (unsigned axis = 0; axis < 3; axis++) molecules[i].force[axis] += sums[i][axis];
    unlock(i);
  }
}

static void solve(void *problem) {
  const struct problem *p = problem;
  double (*sums)[3] = private_memory(count * sizeof *sums);
  for (unsigned step = 0; step < steps; step++) {
    for (unsigned i = first_of(count); i < end_of(count); i++) {
      struct molecule *one = &p->molecules[i];
      for (unsigned axis = 0; axis < 3; axis++) {
        one->velocity[axis] += one->force[axis] * TIME_STEP;
        one->position[axis] += one->velocity[axis] * TIME_STEP;
        one->force[axis] = 0;
      }
    }
    barrier();
    memset(sums, 0, count * sizeof *sums);
    double energy = add_up(p->molecules, sums);
    hand_in(p->molecules, sums);
    lock(count);
    p->energies[step] += energy;
    unlock(count);
    barrier();
  }
  free(sums);
}

static bool is_solved(const void *problem, const void *serial) {
  const struct problem *p = problem, *s = serial;
  for (unsigned i = 0; i < count; i++)
    for (unsigned axis = 0; axis < 3; axis++) {
      const struct molecule *one = &p->molecules[i], *other = &s->molecules[i];
      if (!is_close(one->position[axis], other->position[axis]) ||
          !is_close(one->velocity[axis], other->velocity[axis]) || !is_close(one->force[axis], other->force[axis]))
        return false;
    }
  for (unsigned step = 0; step < steps; step++)
    if (!is_close(p->energies[step], s->energies[step])) return false;
  return true;
}

int main(int argc, char **argv) {
  read_arguments(argc, argv, arguments, 3);
  count = arguments[0].value;
  steps = arguments[1].value;
  /* A cache line for each of the two blocks may be lost to alignment. */
  size_t bytes = count * sizeof(struct molecule) + steps * sizeof(double) + 128;
  run_kernel(&(struct kernel){make, prepare, solve, is_solved, bytes, count + 1, 0}, arguments[2].value);
  return 0;
}
