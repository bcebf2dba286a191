/* Stretches the contrast of a grey-scale image. The processes share the image; each works on its own rows, in memory
 * holes, so that a row is published once and not pixel by pixel.
 *
 *   gcc -O2 contrast.c -o contrast -ldsm -lpthread -lrt -lxed
 *   dsm run -n 4 -- ./contrast photo.pgm better.pgm
 */
#include <dsm/dsm.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIXELS_MAX (1u << 28)
#define VALUES 256

static const char usage[] =
    "usage: dsm run -n N -- ./contrast [--cut PERCENT] IN.pgm OUT.pgm\n"
    "       ./contrast --sequential [--cut PERCENT] IN.pgm OUT.pgm\n"
    "\n"
    "Stretches the contrast of a grey-scale PGM image (P5 or P2, white at most 255): the darkest and the brightest\n"
    "PERCENT of the pixels (0 to 49, default 1) become black and white, and the values between are spread evenly.\n"
    "Every process reads the header of IN.pgm; rank 0 reads the pixels and writes OUT.pgm. --sequential does it\n"
    "alone, without a session.\n";

struct options {
  const char *input;
  const char *output;
  uint32_t cut; /* percent */
  bool sequential;
};

struct image {
  bool text;       /* P2: numbers as text; P5: a byte a pixel */
  uint32_t width;  /* pixels, at least 1 */
  uint32_t height; /* pixels, at least 1 */
  uint32_t white;  /* 1 to 255 */
};

/* ---- Messages ---- */

static void fail(const char *file, const char *problem) {
  fprintf(stderr, "contrast: %s: %s\n", file, problem);
  exit(1);
}

static void bad_arguments(const char *problem, const char *given) {
  fprintf(stderr, "contrast: %s", problem);
  if (given) fprintf(stderr, ", and \"%s\" was given", given);
  fprintf(stderr, "\n%s", usage);
  exit(2);
}

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "contrast: %s\n", dsm_last_error());
  exit(1);
}

/* ---- PGM files ---- */

/* The next number after white space and comments. */
static uint32_t read_number(FILE *file, const char *name, const char *what) {
  int c = getc(file);
  while (c == ' ' || (c >= '\t' && c <= '\r') || c == '#') {
    if (c == '#') {
      while (c != '\n' && c != EOF) c = getc(file); /* "# comment" */
    }
    c = getc(file);
  }
  char problem[64];
  if (c < '0' || c > '9') {
    snprintf(problem, sizeof problem, "%s is missing", what);
    fail(name, problem);
  }
  uint32_t value = 0;
  for (; c >= '0' && c <= '9'; c = getc(file)) {
    value = value * 10 + (uint32_t)(c - '0');
    if (value > PIXELS_MAX) {
      snprintf(problem, sizeof problem, "%s is too large", what);
      fail(name, problem);
    }
  }
  ungetc(c, file);
  return value;
}

static struct image read_header(FILE *file, const char *name) {
  struct image image;
  int first = getc(file);
  int second = getc(file);
  if (first != 'P' || (second != '2' && second != '5')) fail(name, "it does not start with P5 or P2");
  image.text = second == '2';
  image.width = read_number(file, name, "the width");
  image.height = read_number(file, name, "the height");
  image.white = read_number(file, name, "the white value");
  if (image.width < 1 || image.height < 1) fail(name, "the image has no pixels");
  if ((uint64_t)image.width * image.height > PIXELS_MAX) fail(name, "the image has too many pixels");
  if (image.white < 1 || image.white > 255) fail(name, "the white value is not in 1 to 255");
  int space = getc(file);
  if (space != ' ' && (space < '\t' || space > '\r')) fail(name, "there is no white space after the white value");
  return image;
}

/* Reads the pixels into memory of its own. */
static uint8_t *read_pixels(FILE *file, const char *name, const struct image *image) {
  size_t count = (size_t)image->width * image->height;
  uint8_t *pixels = malloc(count);
  if (!pixels) fail(name, "there is no memory for the image");
  if (!image->text && fread(pixels, 1, count, file) != count) fail(name, "it ends before the last pixel");
  for (size_t i = 0; i < count; i++) {
    uint32_t value = image->text ? read_number(file, name, "a pixel") : pixels[i];
    if (value > image->white) fail(name, "a pixel is brighter than white");
    pixels[i] = (uint8_t)value;
  }
  return pixels;
}

static void write_image(const char *name, const struct image *image, const uint8_t *pixels) {
  size_t count = (size_t)image->width * image->height;
  FILE *file = fopen(name, "wb");
  if (!file) fail(name, strerror(errno));
  bool written = fprintf(file, "P5\n%u %u\n%u\n", image->width, image->height, image->white) > 0 &&
                 fwrite(pixels, 1, count, file) == count;
  if (fclose(file) != 0 || !written) fail(name, strerror(errno));
}

/* ---- Stretching, all in integers ---- */

/* How many pixels have each value. */
static void count_values(const uint8_t *pixels, size_t count, uint32_t counts[VALUES]) {
  memset(counts, 0, VALUES * sizeof counts[0]);
  for (size_t i = 0; i < count; i++) counts[pixels[i]]++;
}

/* The new value for each old one: the darkest `cut` percent become black, the brightest `cut` percent white, and the
 * values between are spread evenly. An image with nothing between stays as it is. */
static void stretch_table(const uint32_t counts[VALUES], uint32_t white, uint32_t cut, uint8_t table[VALUES]) {
  uint64_t pixels = 0;
  for (int value = 0; value < VALUES; value++) pixels += counts[value];
  uint64_t spare = pixels * cut / 100;
  uint32_t low = 0;
  for (uint64_t below = counts[0]; below <= spare; below += counts[++low]) continue;
  uint32_t high = white;
  for (uint64_t above = counts[white]; above <= spare; above += counts[--high]) continue;
  for (uint32_t value = 0; value < VALUES; value++) {
    if (low >= high) table[value] = (uint8_t)value;
    else if (value <= low) table[value] = 0;
    else if (value >= high) table[value] = (uint8_t)white;
    else table[value] = (uint8_t)(((value - low) * white * 2 + (high - low)) / (2 * (high - low))); /* rounded */
  }
}

/* Replaces each pixel by its new value. */
static void apply_table(uint8_t *pixels, size_t count, const uint8_t table[VALUES]) {
  for (size_t i = 0; i < count; i++) pixels[i] = table[pixels[i]];
}

/* ---- The two programs ---- */

static void alone(const struct options *options, FILE *file, const struct image *image) {
  size_t count = (size_t)image->width * image->height;
  uint8_t *pixels = read_pixels(file, options->input, image);
  uint32_t counts[VALUES];
  uint8_t table[VALUES];
  count_values(pixels, count, counts);
  stretch_table(counts, image->white, options->cut, table);
  apply_table(pixels, count, table);
  write_image(options->output, image, pixels);
  free(pixels);
  printf("contrast: wrote %s (%u x %u, one process)\n", options->output, image->width, image->height);
}

/* Copies into the shared memory through a hole: the bytes go out as one change when it is filled, and not store by
 * store. */
static void publish(dsm_session *session, void *to, const void *from, size_t size) {
  int hole;
  check(dsm_hole_dig(session, to, size, &hole));
  memcpy(to, from, size);
  check(dsm_hole_fill(session, hole));
}

static void together(const struct options *options, FILE *file, const struct image *image) {
  size_t count = (size_t)image->width * image->height;
  size_t counts_at = (count + 7) / 8 * 8;

  /* How many processes there will be is known only after joining, so there is room for as many as there can be. */
  dsm_config config;
  check(dsm_config_init(&config));
  config.size = counts_at + DSM_PROCESSES_MAX * sizeof(uint32_t[VALUES]);
  dsm_session *session;
  check(dsm_open(&config, &session));
  uint32_t rank = (uint32_t)dsm_rank(session);
  uint32_t processes = (uint32_t)dsm_processes(session);
  uint8_t *pixels = dsm_address(session);
  uint32_t(*counts)[VALUES] = (void *)(pixels + counts_at); /* one table for each process, after the image */

  if (rank == 0) {
    uint8_t *read = read_pixels(file, options->input, image);
    publish(session, pixels, read, count);
    free(read);
    printf("contrast: the image is in the shared memory (%u x %u)\n", image->width, image->height);
    fflush(stdout);
  }
  check(dsm_barrier_wait(session));

  size_t first = (uint64_t)image->height * rank / processes * image->width;
  size_t last = (uint64_t)image->height * (rank + 1) / processes * image->width;
  uint32_t mine[VALUES];
  count_values(pixels + first, last - first, mine);
  publish(session, counts[rank], mine, sizeof mine);
  check(dsm_barrier_wait(session));

  uint32_t all[VALUES] = {0};
  for (uint32_t process = 0; process < processes; process++) {
    for (int value = 0; value < VALUES; value++) all[value] += counts[process][value];
  }
  if (rank == 0) {
    printf("contrast: the values are counted (%u processes)\n", processes);
    fflush(stdout);
  }
  uint8_t table[VALUES];
  stretch_table(all, image->white, options->cut, table);
  if (last > first) {
    int hole;
    check(dsm_hole_dig(session, pixels + first, last - first, &hole));
    apply_table(pixels + first, last - first, table);
    check(dsm_hole_fill(session, hole));
  }
  check(dsm_barrier_wait(session));

  if (rank == 0) {
    printf("contrast: the contrast is stretched\n");
    write_image(options->output, image, pixels);
    printf("contrast: wrote %s\n", options->output);
  }
  check(dsm_close(session));
}

static struct options read_arguments(int argc, char **argv) {
  struct options options = {.cut = 1};
  int names = 0;
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
      fputs(usage, stdout);
      exit(0);
    } else if (strcmp(word, "--sequential") == 0) {
      options.sequential = true;
    } else if (strcmp(word, "--cut") == 0) {
      if (++i == argc) bad_arguments("--cut must be followed by a number from 0 to 49", NULL);
      char *end;
      unsigned long cut = strtoul(argv[i], &end, 10);
      if (argv[i][0] < '0' || argv[i][0] > '9' || *end != '\0' || cut > 49) {
        bad_arguments("--cut must be a number from 0 to 49", argv[i]);
      }
      options.cut = (uint32_t)cut;
    } else if (word[0] == '-' && word[1] != '\0') {
      bad_arguments("there is no such option", word);
    } else if (names == 0) {
      options.input = word;
      names++;
    } else if (names == 1) {
      options.output = word;
      names++;
    } else {
      bad_arguments("two file names are needed", word);
    }
  }
  if (names < 2) bad_arguments("two file names are needed", NULL);
  return options;
}

int main(int argc, char **argv) {
  struct options options = read_arguments(argc, argv);
  FILE *file = fopen(options.input, "rb");
  if (!file) fail(options.input, strerror(errno));
  struct image image = read_header(file, options.input);
  if (options.sequential) alone(&options, file, &image);
  else together(&options, file, &image);
  fclose(file);
  return 0;
}
