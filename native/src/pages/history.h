/* History: which pages a process fills in each interval, under `release`. An interval lies between two publications.
 *
 * A page is opened after STORES_TO_OPEN captured stores, because a page with fewer may hold an atomic variable, which
 * must trap. A program that fills the same array in each interval would pay those traps each time. So a page that was
 * filled in the last interval in which it was written opens at its first store, if one of the instructions that fill
 * pages stores to it, and with it the pages after it that were filled together with it more than once.
 *
 * An atomic operation on an open page is not seen by others. The two conditions keep that limit where it is: the
 * instruction has filled a page, or gone on to the next one, with no atomic operation between, and this page has been
 * filled since an atomic operation could last have been executed there (a page with one is never opened again).
 *
 * Handler-safe; the caller holds the lock of the pages. */
#ifndef DSM_HISTORY_H
#define DSM_HISTORY_H

#include <stdint.h>

#include "pages/state.h"

/* A page whose publication has at least so many bytes was filled: as many as STORES_TO_OPEN words of 4 bytes. */
#define FILLED_BYTES_MIN 64u
/* A page opens without a store of its own if it was filled so many times, by the same instruction each time. */
#define FILLED_TO_FOLLOW 2u

#pragma GCC visibility push(hidden)

/* Takes memory for the history of each page of the map. Returns 0, or -1 with errno. */
int history_prepare(struct page_history *history, uint64_t page_count);

void history_free(struct page_history *history, uint64_t page_count);

/* Records that this instruction fills pages. */
void history_note_writer(struct page_history *history, uintptr_t instruction);

/* Returns whether the page is to be opened at its first store, which this instruction makes. */
int history_expects(const struct page_history *history, uint64_t page, uintptr_t instruction);

/* Returns whether the page was filled together with `page` each of the last FILLED_TO_FOLLOW times or more. */
int history_follows(const struct page_history *history, uint64_t page, uint64_t other);

/* Records that the pages [first, end) are opened because of a store by this instruction. */
void history_open(struct page_history *history, uint64_t first, uint64_t end, uintptr_t instruction);

/* Records what the interval that ends has published of a page that was open (`bytes` of runs), or was not. */
void history_close(struct page_history *history, uint64_t page, int was_open, uint32_t bytes);

/* Begins the next interval. */
void history_next(struct page_history *history);

#pragma GCC visibility pop

#endif
