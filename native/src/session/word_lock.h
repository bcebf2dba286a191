/* A lock in a word that threads share, of one process or of several on a node: free, kept for the thread that was woken last,
 * or owned; and flags. Locks by cells are made of it (lock_cells.h), and turns of the threads of a process. */
#ifndef DSM_WORD_LOCK_H
#define DSM_WORD_LOCK_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/polling.h"

/* The bits of the state; the others are flags. src/core/wire/cell-layout.ts has the same. */
#define WORD_LOCK_STATE 0x0fffffffu
/* A thread has waited for long: who gives the lock back hands it to the first that sleeps. */
#define WORD_LOCK_STARVING 0x10000000u
/* Threads may be asleep on the word. */
#define WORD_LOCK_SLEEPERS 0x20000000u

struct word_lock {
  _Atomic uint32_t *word;
  uint32_t
      free; /* the state of one that is free. The next one is that of one that is kept; lower ones are no states of a lock:
                    it cannot be taken. Higher ones are marks of owners */
  uint32_t mine; /* the mark of this thread, or of its process */
  int stops_at_mine; /* it is an error to wait for a lock with that mark */
};

enum word_lock_result {
  WORD_LOCK_TAKEN,
  WORD_LOCK_BUSY, /* another thread has it */
  WORD_LOCK_STOPS, /* it cannot be taken, or should not be waited for any more */
};

/* What a wait by a word began with. */
struct word_lock_wait {
  long long end_ns; /* when its time is over; LLONG_MAX: never */
  long long began_ns; /* 0: it has not slept yet */
};

#pragma GCC visibility push(hidden)

/* Takes the lock if it is free and no thread sleeps. */
enum word_lock_result word_lock_take(const struct word_lock *lock);

/* Looks for a short time whether the lock becomes free, and takes it. Of WORD_LOCK_BUSY it is time to sleep. `may_spin`: 0 if
 * this process has one core only. */
enum word_lock_result word_lock_spin(const struct word_lock *lock, struct polling *history, int may_spin);

/* Sleeps until it has the lock: WORD_LOCK_TAKEN. WORD_LOCK_STOPS: after sleep_max_ns, or at the end of the wait, or if
 * the thread's interrupts are to be asked. */
enum word_lock_result word_lock_sleep(const struct word_lock *lock, struct word_lock_wait *wait,
                                      long long sleep_max_ns);

/* Gives the lock back. *woken gets how many threads were woken, which then take it if it is free. Returns whether that is
 * done. 0: the word does not have the mark. */
int word_lock_give(const struct word_lock *lock, int *woken);

/* Sleeps while the word is `seen`, at most that long. Returns 0 if another thread woke this one, else -1 with errno. */
int word_sleep(_Atomic uint32_t *word, uint32_t seen, long long timeout_ns);

/* Wakes at most `count` threads that sleep on the word, first come, first served. Returns how many. */
int word_wake(_Atomic uint32_t *word, int count);

#pragma GCC visibility pop

#endif
