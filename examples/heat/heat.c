/* The heat in a square plate, by Jacobi's method: at every step each cell gets the mean of its four neighbours. Each
 * process has its rows of the plate in memory of its own, and shares the outermost ones with its neighbours. It has a
 * few of their rows too, and computes them as well, so that it must meet them only once in so many steps.
 *
 *   gcc -O2 heat.c -o heat -ldsm -lpthread -lrt -lxed
 *   dsm run -n 4 -- ./heat --time heat.png
 */
#include <dsm/dsm.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIZE_MIN 3
#define SIZE_MAX_CELLS 8192
#define STEPS_MAX 1000000
#define BLOCK_ALIGN 64 /* of what dsm_named() gives */
#define STEPS_AT_ONCE 16 /* steps between two meetings, and rows of its neighbours that a process has on each side */

static const char usage[] =
    "usage: dsm run -n N -- ./heat [--size CELLS] [--steps STEPS] [--check] [--time] [OUT.png]\n"
    "       ./heat --sequential [--size CELLS] [--steps STEPS] [--time] [OUT.png]\n"
    "\n"
    "Spreads the heat of a ring in a plate of CELLS x CELLS cells (3 to 8192, default 512) for STEPS steps (1 to\n"
    "1000000, default 1000), and writes a picture of it to OUT.png. The edge of the plate stays hot at the top and\n"
    "cold at the other sides. --sequential does it alone, without a session. --check compares the result with that of\n"
    "one process, byte for byte. --time prints the seconds of the computing part. The order of the session is\n"
    "\"release\" unless DSM_ORDER or dsm run --order says otherwise.\n";

struct options {
  const char *output; /* NULL: no picture */
  uint32_t size;      /* cells in a row, and rows */
  uint32_t steps;
  bool sequential;
  bool check;
  bool time;
};

/* ---- Messages ---- */

static void fail(const char *what, const char *problem) {
  fprintf(stderr, "heat: %s: %s\n", what, problem);
  exit(1);
}

static void bad_arguments(const char *problem, const char *given) {
  fprintf(stderr, "heat: %s", problem);
  if (given) fprintf(stderr, ", and \"%s\" was given", given);
  fprintf(stderr, "\n%s", usage);
  exit(2);
}

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "heat: %s\n", dsm_last_error());
  exit(1);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double *cells(size_t count) {
  double *memory = malloc(count * sizeof(double));
  if (!memory) fail("the plate", "there is no memory for it");
  return memory;
}

/* ---- The plate ---- */

/* The temperature of a cell at the start, from 0 to 1. */
static double start(int32_t size, int32_t row, int32_t column) {
  if (row == 0) return 1;
  if (row == size - 1 || column == 0 || column == size - 1) return 0;
  int64_t down = 2 * row + 1 - size, right = 2 * column + 1 - size;
  int64_t square = down * down + right * right, whole = (int64_t)size * size;
  return square * 25 > whole * 4 && square * 4 < whole ? 1 : 0; /* a ring, 0.4 to 0.5 of the plate's half */
}

/* Neighbouring rows of the plate. */
struct strip {
  size_t size;  /* cells in a row */
  size_t low;   /* the first row */
  size_t high;  /* the row after the last one */
  double *now;
  double *next; /* the same after the step that is under way */
};

static struct strip make_strip(size_t size, size_t low, size_t high) {
  size_t count = (high - low) * size;
  struct strip strip = {size, low, high, cells(count), cells(count)};
  for (size_t row = low; row < high; row++) {
    double *to = strip.now + (row - low) * size;
    for (size_t column = 0; column < size; column++) to[column] = start((int32_t)size, (int32_t)row, (int32_t)column);
  }
  memcpy(strip.next, strip.now, count * sizeof(double)); /* the edge of the plate never changes */
  return strip;
}

static void free_strip(struct strip *strip) {
  free(strip->now);
  free(strip->next);
}

/* Row `row` of the plate, which the strip has. */
static double *row_of(const struct strip *strip, size_t row) { return strip->now + (row - strip->low) * strip->size; }

/* One step of the rows from `from` up to but not `to`. Of the others, only the edge of the plate is of use after it. */
static void step(struct strip *strip, size_t from, size_t to) {
  size_t size = strip->size;
  for (size_t row = from; row < to; row++) {
    const double *here = row_of(strip, row), *above = here - size, *below = here + size;
    double *restrict next = strip->next + (row - strip->low) * size;
    for (size_t i = 1; i + 1 < size; i++) next[i] = (above[i] + below[i] + here[i - 1] + here[i + 1]) * 0.25;
  }
  double *now = strip->now;
  strip->now = strip->next;
  strip->next = now;
}

/* The whole plate after all steps, computed by one process; to be freed. */
static double *alone(const struct options *options) {
  struct strip strip = make_strip(options->size, 0, options->size);
  double began = seconds();
  for (uint32_t i = 0; i < options->steps; i++) step(&strip, 1, options->size - 1);
  if (options->time) printf("heat: %.3f seconds, one process\n", seconds() - began);
  free(strip.next);
  return strip.now;
}

static double mean(const double *plate, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += plate[i];
  return sum / (double)count;
}

/* ---- The picture: PNG with a palette. Deflate may store bytes as they are, in blocks, and this does. ---- */

#define BLOCK_MAX 65535

struct png {
  FILE *file;
  uint32_t crc;   /* of the chunk so far */
  uint32_t adler; /* of the pixels so far */
};

static void put(struct png *png, const uint8_t *bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    png->crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) png->crc = png->crc >> 1 ^ (png->crc & 1 ? 0xedb88320 : 0);
  }
  fwrite(bytes, 1, count, png->file);
}

static void put_number(struct png *png, uint32_t value) {
  put(png, (uint8_t[]){(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value}, 4);
}

static void begin_chunk(struct png *png, const char *type, size_t size) {
  put_number(png, (uint32_t)size);
  png->crc = 0xffffffff;
  put(png, (const uint8_t *)type, 4);
}

static void end_chunk(struct png *png) { put_number(png, ~png->crc); }

/* Black, red, yellow, white: the colour of each temperature. */
static void put_palette(struct png *png) {
  begin_chunk(png, "PLTE", 256 * 3);
  for (int value = 0; value < 256; value++) {
    for (int colour = 0; colour < 3; colour++) {
      int part = value * 3 - colour * 255;
      put(png, (uint8_t[]){(uint8_t)(part < 0 ? 0 : part > 255 ? 255 : part)}, 1);
    }
  }
  end_chunk(png);
}

/* The rows, each after a 0 for "no filter". */
static void put_pixels(struct png *png, const double *plate, uint32_t size) {
  size_t count = (size_t)size * (size + 1), blocks = (count + BLOCK_MAX - 1) / BLOCK_MAX;
  uint32_t low = 1, high = 0;
  begin_chunk(png, "IDAT", 2 + blocks * 5 + count + 4);
  put(png, (const uint8_t *)"\x78\x01", 2);
  for (size_t i = 0; i < count; i++) {
    if (i % BLOCK_MAX == 0) {
      uint32_t block = (uint32_t)(count - i < BLOCK_MAX ? count - i : BLOCK_MAX), inverse = ~block;
      bool final = block == count - i;
      put(png, (uint8_t[]){final, (uint8_t)block, (uint8_t)(block >> 8), (uint8_t)inverse, (uint8_t)(inverse >> 8)}, 5);
    }
    size_t row = i / (size + 1), column = i % (size + 1);
    uint8_t byte = column == 0 ? 0 : (uint8_t)(plate[row * size + column - 1] * 255 + 0.5);
    put(png, &byte, 1);
    low = (low + byte) % 65521;
    high = (high + low) % 65521;
  }
  put_number(png, high << 16 | low);
  end_chunk(png);
}

static void write_picture(const char *name, const double *plate, uint32_t size) {
  struct png png = {.file = fopen(name, "wb")};
  if (!png.file) fail(name, strerror(errno));
  put(&png, (const uint8_t *)"\x89PNG\r\n\x1a\n", 8);
  begin_chunk(&png, "IHDR", 13);
  put_number(&png, size);
  put_number(&png, size);
  put(&png, (const uint8_t[]){8, 3, 0, 0, 0}, 5); /* eight bits a pixel, numbers of the palette */
  end_chunk(&png);
  put_palette(&png);
  put_pixels(&png, plate, size);
  begin_chunk(&png, "IEND", 0);
  end_chunk(&png);
  bool written = !ferror(png.file);
  if (fclose(png.file) != 0 || !written) fail(name, errno ? strerror(errno) : "it cannot be written");
  printf("heat: wrote %s\n", name);
}

/* ---- The two programs ---- */

static void report(const struct options *options, const double *plate, int processes) {
  printf("heat: %u x %u cells, %u steps, mean temperature %.10f (", options->size, options->size, options->steps,
         mean(plate, (size_t)options->size * options->size));
  if (processes == 0) printf("one process)\n");
  else printf("%d processes)\n", processes);
  if (options->output) write_picture(options->output, plate, options->size);
}

static void compare(const struct options *options, const double *plate) {
  double *expected = alone(options);
  size_t count = (size_t)options->size * options->size;
  for (size_t i = 0; i < count; i++) {
    if (memcmp(&plate[i], &expected[i], sizeof plate[i]) == 0) continue;
    fprintf(stderr, "heat: row %zu, column %zu is %.17g, and %.17g in the sequential result\n", i / options->size,
            i % options->size, plate[i], expected[i]);
    exit(1);
  }
  free(expected);
  printf("heat: the same as the sequential result, byte for byte\n");
}

static size_t smaller(size_t one, size_t other) { return one < other ? one : other; }

static size_t larger(size_t one, size_t other) { return one > other ? one : other; }

static void together(const struct options *options) {
  size_t size = options->size, row_size = size * sizeof(double), plate_size = size * row_size;

  dsm_config config;
  check(dsm_config_init(&config));
  config.size = 2 * plate_size + BLOCK_ALIGN; /* the second may not begin right after the first */
  if (!config.order) config.order = "release"; /* the program's word would win over DSM_ORDER */
  dsm_session *session;
  check(dsm_open(&config, &session));
  size_t rank = (size_t)dsm_rank(session), processes = (size_t)dsm_processes(session);

  /* One plate for the even meetings and one for the odd ones: while a neighbour still reads the rows of one, those of
   * the next go to the other plate, and one barrier a meeting is enough. Only outermost rows are in them, until the
   * last. */
  double *plates[2], *plate = NULL;
  check(dsm_named(session, "even", plate_size, (void **)&plates[0]));
  check(dsm_named(session, "odd", plate_size, (void **)&plates[1]));

  size_t first = 1 + (size - 2) * rank / processes, last = 1 + (size - 2) * (rank + 1) / processes;
  size_t low = first > STEPS_AT_ONCE ? first - STEPS_AT_ONCE : 0, high = smaller(last + STEPS_AT_ONCE, size);
  struct strip strip = make_strip(size, low, high);
  check(dsm_barrier_wait(session));

  double began = seconds();
  uint32_t left = options->steps;
  for (uint32_t meeting = 0; left > 0; meeting++) {
    size_t now = smaller(left, STEPS_AT_ONCE);
    left -= (uint32_t)now;
    /* Of the neighbours' rows one fewer is right after each step; after the last one, just its own are. */
    while (now-- > 0) step(&strip, first > now ? larger(first - now, 1) : 1, smaller(last + now, size - 1));

    plate = plates[meeting % 2];
    size_t rows = left > 0 ? smaller(last - first, STEPS_AT_ONCE) : last - first;
    if (first > 1 || left == 0) memcpy(plate + first * size, row_of(&strip, first), rows * row_size);
    if (last < size - 1 && left > 0) {
      memcpy(plate + (last - rows) * size, row_of(&strip, last - rows), rows * row_size);
    }
    check(dsm_barrier_wait(session)); /* publishes what was stored since the last one */
    if (left == 0) break;

    size_t above = larger(low, 1), below = smaller(high, size - 1); /* without the edge of the plate */
    memcpy(row_of(&strip, above), plate + above * size, (first - above) * row_size);
    memcpy(row_of(&strip, last), plate + last * size, (below - last) * row_size);
  }
  double took = seconds() - began;
  free_strip(&strip);

  if (rank == 0) {
    for (size_t column = 0; column < size; column++) plate[column] = 1; /* the edge: the sides came with the rows */
    if (options->time) printf("heat: %.3f seconds, %zu processes\n", took, processes);
    report(options, plate, (int)processes);
    if (options->check) compare(options, plate);
  }
  check(dsm_close(session));
}

/* ---- Arguments ---- */

static uint32_t number(const char *option, const char *text, uint32_t min, uint32_t max) {
  char *end = NULL;
  unsigned long value = text ? strtoul(text, &end, 10) : 0;
  if (text && text[0] >= '0' && text[0] <= '9' && *end == '\0' && value >= min && value <= max) return (uint32_t)value;
  char problem[80];
  snprintf(problem, sizeof problem, "%s must be a number from %u to %u", option, min, max);
  bad_arguments(problem, text);
  return 0;
}

static struct options read_arguments(int argc, char **argv) {
  struct options options = {.size = 512, .steps = 1000};
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
      options.size = number(word, argv[++i], SIZE_MIN, SIZE_MAX_CELLS); /* argv ends with NULL */
    } else if (strcmp(word, "--steps") == 0) {
      options.steps = number(word, argv[++i], 1, STEPS_MAX);
    } else if (word[0] == '-') {
      bad_arguments("there is no such option", word);
    } else if (options.output) {
      bad_arguments("one file name at most", word);
    } else {
      options.output = word;
    }
  }
  if (options.sequential && options.check) bad_arguments("--check compares with --sequential; give one", NULL);
  return options;
}

int main(int argc, char **argv) {
  struct options options = read_arguments(argc, argv);
  if (options.sequential) {
    double *plate = alone(&options);
    report(&options, plate, 0);
    free(plate);
  } else {
    together(&options);
  }
  return 0;
}
