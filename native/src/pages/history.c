#define _GNU_SOURCE
#include "pages/history.h"

#include <sys/mman.h>

/* A number for the instruction, from 0 to WRITERS_MAX - 1. Neighbouring instructions get different ones. */
static uint16_t slot_of(uintptr_t instruction) {
  return (uint16_t)((instruction ^ instruction >> 10 ^ instruction >> 20) % WRITERS_MAX);
}

/* Tells instructions apart in the record of a page. 0: none. */
static uint16_t mark_of(uintptr_t instruction) {
  return (uint16_t)((uint64_t)instruction * 0x9e3779b97f4a7c15u >> 48) | 1;
}

int history_prepare(struct page_history *history, uint64_t page_count) {
  void *records = mmap(NULL, page_count * sizeof *history->pages, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (records == MAP_FAILED) return -1;
  madvise(records, page_count * sizeof *history->pages, MADV_DONTFORK);
  history->pages = records;
  history->interval = 1;
  return 0;
}

void history_free(struct page_history *history, uint64_t page_count) {
  if (history->pages != NULL) munmap(history->pages, page_count * sizeof *history->pages);
  *history = (struct page_history){0};
}

void history_note_writer(struct page_history *history, uintptr_t instruction) {
  history->writers[slot_of(instruction)] = instruction;
}

int history_expects(const struct page_history *history, uint64_t page, uintptr_t instruction) {
  return history->pages[page].times > 0 && history->writers[slot_of(instruction)] == instruction;
}

int history_follows(const struct page_history *history, uint64_t page, uint64_t other) {
  const struct page_record *first = &history->pages[page], *second = &history->pages[other];
  return second->times >= FILLED_TO_FOLLOW && second->interval == first->interval;
}

void history_open(struct page_history *history, uint64_t first, uint64_t end, uintptr_t instruction) {
  for (uint64_t page = first; page < end; page++) history->pages[page].opener = mark_of(instruction);
}

void history_close(struct page_history *history, uint64_t page, int was_open, uint32_t bytes) {
  struct page_record *record = &history->pages[page];
  if (!was_open || (bytes > 0 && bytes < FILLED_BYTES_MIN)) {
    record->times = 0;
  } else if (bytes > 0) {
    int same = record->opener == record->writer;
    record->times = !same || record->times == 0        ? 1
                    : record->times < FILLED_TO_FOLLOW ? record->times + 1
                                                       : record->times;
    record->writer = record->opener;
    record->interval = history->interval;
  }
}

void history_next(struct page_history *history) {
  if (++history->interval == 0) history->interval = 1;
}
