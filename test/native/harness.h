/* What the native tests share: a map as the library has it (readable at its address, writable at an alias), a sink
 * that applies what it is given through the alias and records it, and a way to run one instruction on a whole,
 * chosen processor state. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stddef.h>
#include <stdint.h>

#include "trap/fault.h"
#include "trap/region.h"

#define PAGE 4096u

struct map {
  uint8_t *base;   /* what programs use: PROT_READ while captured */
  uint8_t *alias;  /* the same memory, always writable */
  size_t size;
  int region;
  uint32_t stores;   /* calls of the sink */
  uint32_t atomics;
  uint32_t faults;
  const char *wrong; /* first rule a call broke */
  uint8_t *published; /* one byte a byte: how often it was published */
  uint32_t bursts; /* calls of the sink's burst() */
  uint64_t burst_runs, burst_bytes;
  struct dsm_burst_rules rules; /* what bursts may do: nothing at first */
  void (*on_burst)(struct map *map, const struct dsm_run *runs, uint32_t count); /* called before it is applied */
  uintptr_t hole_begin, hole_end; /* pages the sink opens */
};

extern const struct dsm_sink recording_sink;

/* Maps `size` bytes at `address`, registered as a region with the recording sink. Ends the program on failure. */
void map_create(struct map *map, uintptr_t address, size_t size);
void map_forget(struct map *map); /* clears what was recorded */
void map_writable(struct map *map, int writable);

void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* The processor's state, in the order harness.S's code expects. */
struct state {
  uint64_t gpr[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8 ... r15; rsp is only reported */
  uint64_t flags;
  uint64_t pad[7];
  uint8_t xsave[8192] __attribute__((aligned(64)));
};
_Static_assert(offsetof(struct state, flags) == 128 && offsetof(struct state, xsave) == 192, "known to state_run");

/* Loads the state, runs the code at `code` (which ends with jmp state_end), stores the state. */
void state_run(struct state *state, const void *code);
extern const char state_end[];

extern uint64_t xcr0; /* components the system has switched on; 0 without XSAVE */
int cpu_has(const char *feature);
void harness_init(void);

#endif
