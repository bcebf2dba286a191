/* Bodies that attract each other, all pairs of them. Each process moves its own bodies; the places of all are shared.
 *
 *   gcc -O2 nbody.c -o nbody -ldsm -lpthread -lrt -lxed -lm
 *   dsm run -n 4 -- ./nbody --size 4096 --steps 10 --time
 */
#include <dsm/dsm.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BODIES_MAX 100000
#define STEPS_MAX 1000000
#define BLOCK_ALIGN 64 /* of what dsm_named() gives */

#define STEP_TIME 0.001
#define SOFTENING 0.0025 /* square of the distance below which the attraction grows no more */

static const char usage[] =
    "usage: dsm run -n N -- ./nbody [--size BODIES] [--steps STEPS] [--check] [--time]\n"
    "       ./nbody --sequential [--size BODIES] [--steps STEPS] [--time]\n"
    "\n"
    "Moves BODIES bodies (1 to 100000, default 1024) for STEPS steps (1 to 1000000, default 50) and prints the energy\n"
    "before and after, which should hardly differ. --sequential does it alone, without a session. --check compares\n"
    "the result with that of one process, byte for byte. --time prints the seconds of the computing part. The order\n"
    "of the session is \"release\" unless DSM_ORDER or dsm run --order says otherwise.\n";

struct options {
  uint32_t size; /* bodies */
  uint32_t steps;
  bool sequential;
  bool check;
  bool time;
};

/* All bodies have the same mass, and together 1. */
struct vector {
  double x, y, z;
};

/* ---- Messages ---- */

static void bad_arguments(const char *problem, const char *given) {
  fprintf(stderr, "nbody: %s", problem);
  if (given) fprintf(stderr, ", and \"%s\" was given", given);
  fprintf(stderr, "\n%s", usage);
  exit(2);
}

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "nbody: %s\n", dsm_last_error());
  exit(1);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Zeroed. */
static struct vector *vectors(size_t count) {
  struct vector *memory = calloc(count ? count : 1, sizeof(struct vector));
  if (memory) return memory;
  fprintf(stderr, "nbody: there is no memory for the bodies\n");
  exit(1);
}

/* ---- The bodies ---- */

/* The next of a series of numbers from -1 up to 1 that look random (a linear congruential generator). */
static double noise(uint32_t *state) {
  *state = *state * 1664525 + 1013904223;
  return *state / 2147483648.0 - 1;
}

/* Bodies at rest all over a cube. */
static void place_bodies(struct vector *places, uint32_t size) {
  uint32_t state = 1;
  for (uint32_t i = 0; i < size; i++) {
    places[i].x = noise(&state);
    places[i].y = noise(&state);
    places[i].z = noise(&state);
  }
}

/* One step of the bodies from `first` up to but not `last`: `speeds` and `to` are those of the first of them, `places`
 * are of all bodies. The attractions are added in the order of the bodies, whichever process does it, so that every process gets
 * the same bytes. */
static void move(const struct vector *places, uint32_t size, uint32_t first, uint32_t last, struct vector *speeds,
                 struct vector *to) {
  double pull = STEP_TIME / size;
  for (uint32_t i = first; i < last; i++) {
    struct vector here = places[i], sum = {0, 0, 0};
    for (uint32_t j = 0; j < size; j++) {
      double x = places[j].x - here.x, y = places[j].y - here.y, z = places[j].z - here.z;
      double square = x * x + y * y + z * z + SOFTENING;
      double factor = 1 / (square * sqrt(square));
      sum.x += x * factor;
      sum.y += y * factor;
      sum.z += z * factor;
    }
    struct vector *speed = &speeds[i - first];
    speed->x += sum.x * pull;
    speed->y += sum.y * pull;
    speed->z += sum.z * pull;
    to[i - first] = (struct vector){here.x + speed->x * STEP_TIME, here.y + speed->y * STEP_TIME,
                                    here.z + speed->z * STEP_TIME};
  }
}

static double energy(const struct vector *places, const struct vector *speeds, uint32_t size) {
  double moving = 0, bound = 0;
  for (uint32_t i = 0; i < size; i++) {
    moving += speeds[i].x * speeds[i].x + speeds[i].y * speeds[i].y + speeds[i].z * speeds[i].z;
    for (uint32_t j = 0; j < i; j++) {
      double x = places[j].x - places[i].x, y = places[j].y - places[i].y, z = places[j].z - places[i].z;
      bound += 1 / sqrt(x * x + y * y + z * z + SOFTENING);
    }
  }
  return moving / 2 / size - bound / size / size;
}

/* ---- The two programs ---- */

/* Moves all bodies, which lie at `places`. */
static void alone(const struct options *options, struct vector *places, struct vector *speeds) {
  struct vector *next = vectors(options->size);
  double began = seconds();
  for (uint32_t i = 0; i < options->steps; i++) {
    move(places, options->size, 0, options->size, speeds, next);
    memcpy(places, next, options->size * sizeof(struct vector));
  }
  if (options->time) printf("nbody: %.3f seconds, one process\n", seconds() - began);
  free(next);
}

static void report(const struct options *options, const struct vector *places, const struct vector *speeds,
                   int processes) {
  uint32_t size = options->size;
  struct vector *old_places = vectors(size), *old_speeds = vectors(size);
  place_bodies(old_places, size);
  printf("nbody: %u bodies, %u steps, energy %.10f before and %.10f after (", size, options->steps,
         energy(old_places, old_speeds, size), energy(places, speeds, size));
  if (processes == 0) printf("one process)\n");
  else printf("%d processes)\n", processes);
  free(old_places);
  free(old_speeds);
}

static void compare(const struct options *options, const struct vector *places, const struct vector *speeds) {
  uint32_t size = options->size;
  struct vector *expected_places = vectors(size), *expected_speeds = vectors(size);
  place_bodies(expected_places, size);
  alone(options, expected_places, expected_speeds);
  for (uint32_t i = 0; i < size; i++) {
    if (memcmp(&places[i], &expected_places[i], sizeof places[i]) == 0 &&
        memcmp(&speeds[i], &expected_speeds[i], sizeof speeds[i]) == 0) {
      continue;
    }
    fprintf(stderr, "nbody: body %u is not where it is in the sequential result, or not as fast\n", i);
    exit(1);
  }
  free(expected_places);
  free(expected_speeds);
  printf("nbody: the same as the sequential result, byte for byte\n");
}

static void together(const struct options *options) {
  uint32_t size = options->size;
  size_t block_size = size * sizeof(struct vector);

  dsm_config config;
  check(dsm_config_init(&config));
  config.size = 3 * (block_size + BLOCK_ALIGN);
  if (!config.order) config.order = "release"; /* the program's word would win over DSM_ORDER */
  dsm_session *session;
  check(dsm_open(&config, &session));
  uint32_t rank = (uint32_t)dsm_rank(session), processes = (uint32_t)dsm_processes(session);

  /* The places after the even steps and those after the odd ones: while others still read where the bodies were, their
   * new places go to the other block, and one barrier a step is enough. */
  struct vector *places[2], *speeds;
  check(dsm_named(session, "even", block_size, (void **)&places[0]));
  check(dsm_named(session, "odd", block_size, (void **)&places[1]));
  check(dsm_named(session, "speeds", block_size, (void **)&speeds));
  if (rank == 0) place_bodies(places[0], size);
  uint32_t first = (uint32_t)((uint64_t)size * rank / processes);
  uint32_t last = (uint32_t)((uint64_t)size * (rank + 1) / processes);
  struct vector *mine = vectors(last - first); /* speeds; no other process needs them before the end */
  check(dsm_barrier_wait(session));

  double began = seconds();
  for (uint32_t i = 0; i < options->steps; i++) {
    move(places[i % 2], size, first, last, mine, places[(i + 1) % 2] + first);
    check(dsm_barrier_wait(session)); /* publishes what was stored since the last one */
  }
  double took = seconds() - began;
  memcpy(speeds + first, mine, (last - first) * sizeof(struct vector));
  free(mine);
  check(dsm_barrier_wait(session));

  if (rank == 0) {
    if (options->time) printf("nbody: %.3f seconds, %u processes\n", took, processes);
    report(options, places[options->steps % 2], speeds, (int)processes);
    if (options->check) compare(options, places[options->steps % 2], speeds);
  }
  check(dsm_close(session));
}

/* ---- Arguments ---- */

static uint32_t number(const char *option, const char *text, uint32_t max) {
  char *end = NULL;
  unsigned long value = text ? strtoul(text, &end, 10) : 0;
  if (text && text[0] >= '0' && text[0] <= '9' && *end == '\0' && value >= 1 && value <= max) return (uint32_t)value;
  char problem[80];
  snprintf(problem, sizeof problem, "%s must be a number from 1 to %u", option, max);
  bad_arguments(problem, text);
  return 0;
}

static struct options read_arguments(int argc, char **argv) {
  struct options options = {.size = 1024, .steps = 50};
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
      fputs(usage, stdout);
      exit(0);
    } else if (strcmp(word, "--sequential") == 0) {
      options.sequential = true;
    } else if (strcmp(word, "--check") == 0) {
      options.check = true;
    } else if (strcmp(word, "--time") == 0) {
      options.time = true;
    } else if (strcmp(word, "--size") == 0) {
      options.size = number(word, argv[++i], BODIES_MAX); /* argv ends with NULL */
    } else if (strcmp(word, "--steps") == 0) {
      options.steps = number(word, argv[++i], STEPS_MAX);
    } else {
      bad_arguments("there is no such option", word);
    }
  }
  if (options.sequential && options.check) bad_arguments("--check compares with --sequential; give one", NULL);
  return options;
}

int main(int argc, char **argv) {
  struct options options = read_arguments(argc, argv);
  if (!options.sequential) {
    together(&options);
    return 0;
  }
  struct vector *places = vectors(options.size), *speeds = vectors(options.size);
  place_bodies(places, options.size);
  alone(&options, places, speeds);
  report(&options, places, speeds, 0);
  free(places);
  free(speeds);
  return 0;
}
