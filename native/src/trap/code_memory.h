/* Memory for code that the library makes. Not handler-safe. */
#ifndef DSM_CODE_MEMORY_H
#define DSM_CODE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Two views of one memory, so that no page is writable and executable at once; where there can be no memfd, one. A forked
 * child has neither: it must not write into code that its parent runs. */
struct code_memory {
  uint8_t *writable;
  uint8_t *executable;
};

#pragma GCC visibility push(hidden)

/* Maps `size` bytes. Returns 0, or -1 with errno. */
int code_memory_map(struct code_memory *memory, const char *name, size_t size);

#pragma GCC visibility pop

#endif
