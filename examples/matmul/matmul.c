/* The product C = A * B of two square matrices. The processes share all three; each computes its own rows of C.
 *
 *   gcc -O2 matmul.c -o matmul -ldsm -lpthread -lrt -lxed
 *   dsm run -n 4 -- ./matmul --size 1024 --time
 */
#include <dsm/dsm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROWS_MAX 4096
#define BLOCK_ALIGN 64 /* of what dsm_named() gives */
/* So many rows of B are used for all rows of C before the next ones, so that they stay in the processor's cache. */
#define ROWS_AT_ONCE 32

static const char usage[] =
    "usage: dsm run -n N -- ./matmul [--size ROWS] [--check] [--time]\n"
    "       ./matmul --sequential [--size ROWS] [--time]\n"
    "\n"
    "Multiplies two matrices of ROWS x ROWS numbers (1 to 4096, default 512) and prints the trace of the product.\n"
    "--sequential does it alone, without a session. --check compares the result with that of one process, byte for\n"
    "byte. --time prints the seconds of the computing part. The order of the session is \"release\" unless DSM_ORDER\n"
    "or dsm run --order says otherwise.\n";

struct options {
  size_t size; /* rows and columns of each matrix */
  bool sequential;
  bool check;
  bool time;
};

/* ---- Messages ---- */

static void bad_arguments(const char *problem, const char *given) {
  fprintf(stderr, "matmul: %s", problem);
  if (given) fprintf(stderr, ", and \"%s\" was given", given);
  fprintf(stderr, "\n%s", usage);
  exit(2);
}

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "matmul: %s\n", dsm_last_error());
  exit(1);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Zeroed. */
static double *numbers(size_t count) {
  double *memory = calloc(count ? count : 1, sizeof(double));
  if (memory) return memory;
  fprintf(stderr, "matmul: there is no memory for the matrices\n");
  exit(1);
}

/* ---- The sums ---- */

static void fill_rows(double *a, double *b, size_t size, size_t first, size_t last) {
  for (size_t row = first; row < last; row++) {
    for (size_t column = 0; column < size; column++) {
      a[row * size + column] = (double)((row * 31 + column * 17) % 101) / 101 - 0.25;
      b[row * size + column] = (double)((row * 13 + column * 29) % 97) / 97 - 0.25;
    }
  }
}

/* Adds A * B to `rows` rows of C, of which `a` and `c` are the first. Each sum grows in the order of the rows of B,
 * whichever process computes it, so that every process gets the same bytes. */
static void multiply(const double *a, const double *b, double *restrict c, size_t size, size_t rows) {
  for (size_t from = 0; from < size; from += ROWS_AT_ONCE) {
    size_t to = from + ROWS_AT_ONCE < size ? from + ROWS_AT_ONCE : size;
    for (size_t row = 0; row < rows; row++) {
      double *restrict sums = c + row * size;
      for (size_t k = from; k < to; k++) {
        double factor = a[row * size + k];
        const double *factors = b + k * size;
        for (size_t column = 0; column < size; column++) sums[column] += factor * factors[column];
      }
    }
  }
}

/* ---- The two programs ---- */

/* The product as one process computes it; to be freed. */
static double *alone(const struct options *options) {
  size_t size = options->size;
  double *a = numbers(size * size), *b = numbers(size * size), *c = numbers(size * size);
  fill_rows(a, b, size, 0, size);
  double began = seconds();
  multiply(a, b, c, size, size);
  if (options->time) printf("matmul: %.3f seconds, one process\n", seconds() - began);
  free(a);
  free(b);
  return c;
}

static void report(const double *c, size_t size, int processes) {
  double trace = 0;
  for (size_t i = 0; i < size; i++) trace += c[i * size + i];
  printf("matmul: %zu x %zu, the trace of the product is %.10f (", size, size, trace);
  if (processes == 0) printf("one process)\n");
  else printf("%d processes)\n", processes);
}

static void compare(const struct options *options, const double *c) {
  size_t size = options->size;
  double *expected = alone(options);
  for (size_t i = 0; i < size * size; i++) {
    if (memcmp(&c[i], &expected[i], sizeof c[i]) == 0) continue;
    fprintf(stderr, "matmul: row %zu, column %zu is %.17g, and %.17g in the sequential result\n", i / size, i % size,
            c[i], expected[i]);
    exit(1);
  }
  free(expected);
  printf("matmul: the same as the sequential result, byte for byte\n");
}

static void together(const struct options *options) {
  size_t size = options->size, matrix_size = size * size * sizeof(double);

  dsm_config config;
  check(dsm_config_init(&config));
  config.size = 3 * (matrix_size + BLOCK_ALIGN);
  if (!config.order) config.order = "release"; /* the program's word would win over DSM_ORDER */
  dsm_session *session;
  check(dsm_open(&config, &session));
  size_t rank = (size_t)dsm_rank(session), processes = (size_t)dsm_processes(session);
  double *a, *b, *c;
  check(dsm_named(session, "a", matrix_size, (void **)&a));
  check(dsm_named(session, "b", matrix_size, (void **)&b));
  check(dsm_named(session, "c", matrix_size, (void **)&c));

  size_t first = size * rank / processes, last = size * (rank + 1) / processes;
  fill_rows(a, b, size, first, last);
  check(dsm_barrier_wait(session)); /* publishes what was stored: now all have all of A and B */

  double began = seconds();
  /* Every sum changes many times and only its last value is for others, so it grows in memory of this process. */
  double *mine = numbers((last - first) * size);
  multiply(a + first * size, b, mine, size, last - first);
  memcpy(c + first * size, mine, (last - first) * size * sizeof(double));
  check(dsm_barrier_wait(session));
  double took = seconds() - began;
  free(mine);

  if (rank == 0) {
    if (options->time) printf("matmul: %.3f seconds, %zu processes\n", took, processes);
    report(c, size, (int)processes);
    if (options->check) compare(options, c);
  }
  check(dsm_close(session));
}

/* ---- Arguments ---- */

static struct options read_arguments(int argc, char **argv) {
  struct options options = {.size = 512};
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
      const char *text = argv[++i]; /* argv ends with NULL */
      char *end = NULL;
      options.size = text ? strtoul(text, &end, 10) : 0;
      if (!text || text[0] < '0' || text[0] > '9' || *end != '\0' || options.size < 1 || options.size > ROWS_MAX) {
        bad_arguments("--size must be a number from 1 to 4096", text);
      }
    } else {
      bad_arguments("there is no such option", word);
    }
  }
  if (options.sequential && options.check) bad_arguments("--check compares with --sequential; give one", NULL);
  return options;
}

int main(int argc, char **argv) {
  struct options options = read_arguments(argc, argv);
  if (options.sequential) {
    double *c = alone(&options);
    report(c, options.size, 0);
    free(c);
  } else {
    together(&options);
  }
  return 0;
}
