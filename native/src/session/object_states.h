/* What this process keeps of the mutexes, reader-writer locks and semaphores that lie in a map: which of its threads has
 * it, and the cell by which the node takes it. What the session keeps of them is not here.
 *
 * The state of an object at byte n of the map lies at byte n of a mapping of the same size, which takes memory only where
 * objects are. So there is no table to search, and no limit on their number. */
#ifndef DSM_OBJECT_STATES_H
#define DSM_OBJECT_STATES_H

#include <stdatomic.h>
#include <stdint.h>

#include "session/cells.h"

struct object_state {
  _Atomic uint32_t owner; /* the thread of this process that has it, thread_number(); 0: none. For a thread it is right
                             about whether it is that thread */
  uint32_t depth; /* how often the owner has locked a recursive mutex beyond the first time */
  struct known_cell known;
  _Atomic uint32_t turn; /* of a mutex: a word_lock of the threads of this process, before the session is asked */
  uint8_t has_turn; /* guarded by the mutex: its owner has the turn, too */
  uint8_t is_kept; /* guarded by the turn: the process has the mutex, for the thread that has the turn */
  uint8_t kept; /* guarded by the turn: how often in a row it was kept */
  uint8_t
      is_inconsistent; /* of a robust mutex of pthreads, guarded by it: an owner died, and its data is not restored */
};

/* Two objects do not begin within so many bytes: the smallest, sem_t and pthread_barrier_t, have as many. */
#define OBJECT_GRAIN 32u
_Static_assert(sizeof(struct object_state) == OBJECT_GRAIN, "a state has as much room as an object");

typedef _Atomic(struct object_state *) object_states;

#pragma GCC visibility push(hidden)

/* Maps the states of a map, if no thread has done so. Returns the first one, or NULL if out of memory. */
struct object_state *object_states_open(object_states *states, uint64_t map_size);

/* The process has left the session: gives back the memory, but keeps the addresses for threads that are late. */
void object_states_retire(object_states *states, uint64_t map_size);

/* Unmaps the states. No thread uses them any more. */
void object_states_close(object_states *states, uint64_t map_size);

/* Gives the calling thread a number. */
uint32_t thread_number_begin(void);

/* Of the calling thread; 0: it has none yet. */
extern __thread uint32_t thread_number_own;

#pragma GCC visibility pop

/* Returns the number of the calling thread, 1 or more: no other thread of this process has it. (Beyond 2^32 threads they
 * repeat.) */
static inline uint32_t thread_number(void) {
  uint32_t number = thread_number_own;
  return __builtin_expect(number != 0, 1) ? number : thread_number_begin();
}

/* Returns the state of the object at that byte of a map, zeroed at first; or NULL if out of memory. */
static inline struct object_state *object_state_at(object_states *states, uint64_t map_size, uint64_t offset) {
  struct object_state *first = atomic_load_explicit(states, memory_order_acquire);
  if (__builtin_expect(first == NULL, 0)) first = object_states_open(states, map_size);
  return first == NULL ? NULL : first + offset / OBJECT_GRAIN;
}

#endif
