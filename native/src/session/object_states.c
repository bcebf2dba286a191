#define _GNU_SOURCE
#include "session/object_states.h"

#include <stddef.h>
#include <sys/mman.h>

struct object_state *object_states_open(object_states *states, uint64_t map_size) {
  void *fresh = mmap(NULL, map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fresh == MAP_FAILED) return NULL;
  /* Objects lie far apart: a huge page for each would be a waste. A forked child is not in the session. */
  madvise(fresh, map_size, MADV_NOHUGEPAGE);
  madvise(fresh, map_size, MADV_DONTFORK);
  struct object_state *first = NULL;
  if (atomic_compare_exchange_strong(states, &first, fresh)) return fresh;
  munmap(fresh, map_size);
  return first;
}

void object_states_retire(object_states *states, uint64_t map_size) {
  struct object_state *first = atomic_load(states);
  if (first != NULL) madvise(first, map_size, MADV_DONTNEED);
}

void object_states_close(object_states *states, uint64_t map_size) {
  struct object_state *first = atomic_exchange(states, NULL);
  if (first != NULL) munmap(first, map_size);
}

__thread uint32_t thread_number_own;

uint32_t thread_number_begin(void) {
  static _Atomic uint32_t given;
  while (thread_number_own == 0) thread_number_own = atomic_fetch_add(&given, 1) + 1;
  return thread_number_own;
}
