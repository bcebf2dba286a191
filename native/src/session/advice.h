/* Advice while a program runs: a process that stores thousands of times a second to the same few pages, one trap each, is
 * told once that publishing them together would be faster.
 *
 * A store that is noted costs a few loads and stores of its own process's memory. They are not atomic together: threads
 * that store at the same time may lose a count, which only makes the advice come a little later. */
#ifndef DSM_ADVICE_H
#define DSM_ADVICE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* So many stores that each hit a page lately stored to, within so long, are worth a word. */
#define ADVICE_STORES 4096u
#define ADVICE_WINDOW_NS 2000000000ll
/* Pages remembered: a program that stores to more at a time has no few pages. */
#define ADVICE_PAGES 64u
/* Longer stores are no single ones: string instructions, system calls. */
#define ADVICE_STORE_BYTES_MAX 64u

struct advice {
  _Atomic uint32_t silent; /* said already, or never to be said */
  _Atomic uint32_t hits; /* stores to remembered pages in this window */
  _Atomic long long since_ns;
  _Atomic uint32_t pages[ADVICE_PAGES]; /* number of the page + 1, or 0, at its number modulo ADVICE_PAGES */
};

struct advice_figures {
  uint32_t stores;
  uint32_t pages;
  long long ns; /* in which they were made */
};

#pragma GCC visibility push(hidden)

void advice_begin(struct advice *advice, int silent, long long now_ns);

/* A window is full: whether advice is due, once ever, and with which figures. handler-safe. */
int advice_due(struct advice *advice, long long now_ns, struct advice_figures *figures);

/* The line, with its end. At most `room` bytes; returns how many. handler-safe. */
size_t advice_text(char *text, size_t room, uint32_t rank, const struct advice_figures *figures);

#pragma GCC visibility pop

/* Notes a store of one run. Nonzero: a window is full. handler-safe. */
static inline int advice_note(struct advice *advice, uint64_t offset, uint32_t length) {
  if (atomic_load_explicit(&advice->silent, memory_order_relaxed) != 0 || length > ADVICE_STORE_BYTES_MAX) return 0;
  uint32_t page = (uint32_t)(offset >> 12) + 1;
  _Atomic uint32_t *remembered = &advice->pages[page % ADVICE_PAGES];
  if (atomic_load_explicit(remembered, memory_order_relaxed) != page) {
    atomic_store_explicit(remembered, page, memory_order_relaxed);
    return 0;
  }
  uint32_t hits = atomic_load_explicit(&advice->hits, memory_order_relaxed) + 1;
  atomic_store_explicit(&advice->hits, hits, memory_order_relaxed);
  return hits >= ADVICE_STORES;
}

#endif
