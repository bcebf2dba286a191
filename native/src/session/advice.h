/* Advice at run time: if a process stores thousands of times a second to the same few pages, one trap each, the library
 * prints once that publishing these stores together would be faster.
 *
 * Noting a store costs a few loads and stores in the memory of its own process. They are not atomic together: threads
 * that store at the same time may lose a count, which only delays the advice a little. */
#ifndef DSM_ADVICE_H
#define DSM_ADVICE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* This many stores to recently used pages, within this time, trigger the advice. */
#define ADVICE_STORES 4096u
#define ADVICE_WINDOW_NS 2000000000ll
/* Pages remembered. A program that stores to more pages at a time gets no advice. */
#define ADVICE_PAGES 64u
/* Longer stores are not counted: they come from string instructions and system calls. */
#define ADVICE_STORE_BYTES_MAX 64u

struct advice {
  _Atomic uint32_t silent; /* the advice was printed already, or is switched off */
  _Atomic uint32_t hits; /* stores to remembered pages in this window */
  _Atomic long long since_ns;
  _Atomic uint32_t pages[ADVICE_PAGES]; /* number of the page + 1, or 0, at its number modulo ADVICE_PAGES */
};

struct advice_figures {
  uint32_t stores;
  uint32_t pages;
  long long ns; /* length of the window */
};

#pragma GCC visibility push(hidden)

void advice_begin(struct advice *advice, int silent, long long now_ns);

/* Called when a window is full. Returns whether to print the advice, at most once per session, and fills in the
 * figures. handler-safe. */
int advice_due(struct advice *advice, long long now_ns, struct advice_figures *figures);

/* Formats the line, newline included, in at most `room` bytes. Returns its length. handler-safe. */
size_t advice_text(char *text, size_t room, uint32_t rank, const struct advice_figures *figures);

#pragma GCC visibility pop

/* Notes a store of one run. Returns nonzero if the window is full. handler-safe. */
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
