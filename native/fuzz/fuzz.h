/* Fuzz targets for the parts of libdsm that read what others give: frames from the arbiter, instruction bytes, signal
 * frames. A target is one C file here with LLVMFuzzerTestOneInput and fuzz_seeds; it is linked with libFuzzer
 * (clang -fsanitize=fuzzer) or with driver.c, which needs gcc only. What must not happen ends the program: the
 * sanitizers see to it, and CHECK. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(holds)                                                                                                 \
  do {                                                                                                               \
    if (!(holds)) {                                                                                                  \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #holds);                                            \
      abort();                                                                                                       \
    }                                                                                                                \
  } while (0)

/* Known to libFuzzer. Returns 0. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Calls `give` with inputs to begin with: those that reach deep. */
void fuzz_seeds(void (*give)(const uint8_t *data, size_t size));

#endif
