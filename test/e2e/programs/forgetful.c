/* A back end for the kernels of native/bench/kernels, of one process, that forgets what one section under a lock has changed: a
 * kernel that does not fail with it does not look at its result. */
#include <stdlib.h>
#include <string.h>

#include "../../../native/bench/kernels/parallel.h"

#define FORGOTTEN 3u /* the section that is forgotten */

static void *memory, *before;
static size_t size;
static unsigned sections;

struct team team_start(size_t bytes, unsigned locks, unsigned semaphores) {
  (void)locks, (void)semaphores;
  size = bytes;
  memory = private_memory(size);
  before = private_memory(size);
  return (struct team){0, 1, memory};
}

void team_lock(unsigned i) {
  (void)i;
  if (++sections == FORGOTTEN) memcpy(before, memory, size);
}

void team_unlock(unsigned i) {
  (void)i;
  if (sections == FORGOTTEN) memcpy(memory, before, size);
}

void team_semaphore_wait(unsigned i) {
  (void)i;
}

void team_semaphore_post(unsigned i) {
  (void)i;
}

void team_barrier(void) {
}

void team_finish(void) {
}
