/* A process that adopts orphans in place of one that does so itself. */
#ifndef DSM_REAPER_H
#define DSM_REAPER_H

#include <stdint.h>

#pragma GCC visibility push(hidden)

/* What a reaper needs once its memory is gone; it lies on pages that the reaper keeps. reaper.c's code in assembly
 * language knows the layout. */
struct reaper {
  struct {
    uint64_t start, length;
  } unmapped[3];
  struct {
    int32_t fd;
    int16_t events, revents;
  } polled[2]; /* the process that it serves has ended; a child has ended */
  uint8_t signal_info[128];
};

/* Becomes a reaper for the process `parent`: adopts orphans among its descendants, reaps its children, and exits when it
 * has none any more, or `parent` has ended. Gives up all memory but *reaper, which takes `size` bytes from a page boundary
 * on. Called with all signals blocked and no descriptor open, in a process that shares its memory with no living one. */
__attribute__((noreturn)) void reaper_become(struct reaper *reaper, uint64_t size, int parent);

#pragma GCC visibility pop

#endif
