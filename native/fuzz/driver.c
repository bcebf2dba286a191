/* Runs a fuzz target where there is no libFuzzer: over its seeds, over the files given, and over inputs made from them
 * by a seeded generator.
 *
 *   TARGET [--runs N] [--seed N] [--only N] [FILE ...]    --only N: the N-th made input alone
 *   TARGET --write DIR                                    writes the seeds, a corpus for libFuzzer
 *
 * When an input ends the program, the number it was made with and its bytes are on stderr. */
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

#define INPUT_MAX 4096
#define SEEDS_MAX 4096

static uint8_t *seeds[SEEDS_MAX];
static size_t seed_sizes[SEEDS_MAX];
static unsigned seed_count;
static uint64_t state, seed_number = 1, input_number;
static const uint8_t *input;
static size_t input_size;

static uint64_t next_random(void) { /* splitmix64 */
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static void keep(const uint8_t *data, size_t size) {
  if (seed_count == SEEDS_MAX || size > INPUT_MAX) return;
  seeds[seed_count] = malloc(size + 1);
  if (seeds[seed_count] == NULL) abort();
  memcpy(seeds[seed_count], data, size);
  seed_sizes[seed_count++] = size;
}

static void say_input(void) {
  fprintf(stderr, "\ninput %llu of seed %llu, %zu bytes:", (unsigned long long)input_number,
          (unsigned long long)seed_number, input_size);
  for (size_t i = 0; i < input_size; i++) fprintf(stderr, " %02x", input[i]);
  fputc('\n', stderr);
}

/* Known to the sanitizers' run-time. */
void __sanitizer_set_death_callback(void (*callback)(void));

static void run(const uint8_t *data, size_t size) {
  /* A block of its own, so that a byte too many is seen. */
  uint8_t *copy = malloc(size == 0 ? 1 : size);
  if (copy == NULL) abort();
  memcpy(copy, data, size);
  input = copy;
  input_size = size;
  LLVMFuzzerTestOneInput(copy, size);
  input_size = 0;
  free(copy);
}

static size_t mutate(uint8_t *data, size_t size) {
  static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff, 0x28, 0x40, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0xc4, 0x62};
  for (uint64_t changes = 1 + next_random() % 6; changes > 0; changes--) {
    uint64_t draw = next_random();
    size_t at = size == 0 ? 0 : (size_t)(draw >> 32) % size;
    switch (draw % 8) {
      case 0:
        if (size > 0) data[at] ^= (uint8_t)(1u << (draw >> 8) % 8);
        break;
      case 1:
      case 2:
        if (size > 0) data[at] = (uint8_t)(draw >> 8);
        break;
      case 3:
        if (size > 0) data[at] = edges[(draw >> 8) % sizeof(edges)];
        break;
      case 4: /* one byte more */
        if (size < INPUT_MAX) {
          memmove(data + at + 1, data + at, size - at);
          data[at] = (uint8_t)(draw >> 8);
          size++;
        }
        break;
      case 5: /* one less */
        if (size > 0) {
          memmove(data + at, data + at + 1, size - at - 1);
          size--;
        }
        break;
      case 6: /* the rest from elsewhere */
        if (seed_count > 0) {
          unsigned other = (unsigned)((draw >> 8) % seed_count);
          size_t from = seed_sizes[other] == 0 ? 0 : next_random() % seed_sizes[other];
          size_t length = seed_sizes[other] - from;
          if (at + length <= INPUT_MAX) {
            memcpy(data + at, seeds[other] + from, length);
            if (at + length > size) size = at + length;
          }
        }
        break;
      default: /* eight bytes of noise */
        if (size - at >= 8) {
          uint64_t noise = next_random();
          memcpy(data + at, &noise, 8);
        }
    }
  }
  return size;
}

/* Input number `n`: each depends on its number and the seed alone. */
static void run_made(uint64_t n) {
  static uint8_t data[INPUT_MAX + 16];
  size_t size = 0;
  state = seed_number * 0x2545f4914f6cdd1du + n;
  input_number = n;
  if (seed_count > 0 && next_random() % 8 != 0) {
    unsigned chosen = (unsigned)(next_random() % seed_count);
    size = seed_sizes[chosen];
    memcpy(data, seeds[chosen], size);
    size = mutate(data, size);
  } else {
    size = next_random() % 200;
    for (size_t i = 0; i < size; i++) data[i] = (uint8_t)next_random();
  }
  run(data, size);
}

static const char *write_to;
static void write_seed(const uint8_t *data, size_t size) {
  static unsigned count;
  char path[4096];
  snprintf(path, sizeof(path), "%s/seed-%u", write_to, count++);
  FILE *file = fopen(path, "wb");
  if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
    fprintf(stderr, "cannot write %s\n", path);
    exit(2);
  }
}

static void on_abort(int signal_number) {
  say_input();
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

int main(int argc, char **argv) {
  uint64_t runs = 0, only = 0;
  int single = 0, files = 0;
  signal(SIGABRT, on_abort);
  __sanitizer_set_death_callback(say_input);
  LLVMFuzzerInitialize(&argc, &argv);
  for (int i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : "";
    if (strcmp(argv[i], "--runs") == 0) runs = strtoull(value, NULL, 10), i++;
    else if (strcmp(argv[i], "--seed") == 0) seed_number = strtoull(value, NULL, 10), i++;
    else if (strcmp(argv[i], "--only") == 0) only = strtoull(value, NULL, 10), single = 1, i++;
    else if (strcmp(argv[i], "--write") == 0) {
      write_to = value;
      fuzz_seeds(write_seed);
      return 0;
    } else {
      static uint8_t data[INPUT_MAX];
      FILE *file = fopen(argv[i], "rb");
      if (file == NULL) {
        fprintf(stderr, "cannot read %s\n", argv[i]);
        return 2;
      }
      run(data, fread(data, 1, sizeof(data), file));
      fclose(file);
      files++;
    }
  }
  if (files > 0) {
    printf("%d files\n", files);
    return 0;
  }
  fuzz_seeds(keep);
  if (single) {
    run_made(only);
    return 0;
  }
  for (unsigned i = 0; i < seed_count; i++) run(seeds[i], seed_sizes[i]);
  for (uint64_t n = 0; n < runs; n++) run_made(n);
  printf("%u seeds, %llu inputs made with seed %llu\n", seed_count, (unsigned long long)runs,
         (unsigned long long)seed_number);
  for (unsigned i = 0; i < seed_count; i++) free(seeds[i]);
  return 0;
}
