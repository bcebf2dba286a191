/* A burst slot: the memory of a thread that runs a translated copy.
 *
 * Translated code reaches its words through the base of gs, which points to the slot while the thread is in the copy: so
 * the code is the same for all threads, and needs no register of the program. */
#ifndef DSM_BURST_SLOT_H
#define DSM_BURST_SLOT_H

#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#include "trap/region_entry.h"

#define BURST_SLOTS 64u /* threads of a process that can have one; the stores of others are single */
/* Bytes of a slot, and its alignment: so the exit finds the slot by its stack. Memory is used as a burst fills it. */
#define BURST_SLOT_BYTES (1u << 20)
/* Most bytes of a batch. Between two looks at the end (each backward jump) translated code stores at most
 * BURST_INSNS_MAX times; there is room for that behind the end. */
#define BURST_LOG_BYTES (256u << 10)
#define BURST_LOG_SLACK (64u << 10)
#define BURST_RUNS_MAX 2048u
#define BURST_RUNS_SLACK 256u
#define BURST_XSAVE_BYTES 16384u
#define BURST_STACK_BYTES 32768u
/* `limit` leaves out the last bytes of the map, so that no store that begins below it crosses the end. */
#define BURST_EDGE_BYTES 64u
/* Offset of no byte of a map, in `next`. */
#define BURST_NO_OFFSET INT64_MIN

/* Consecutive bytes that were stored in ascending order. At the end of the burst it becomes a struct dsm_run. */
union burst_run {
  struct {
    uint64_t offset; /* in the map */
    uint8_t *bytes;  /* in the log */
    uint64_t end;    /* offset behind its last byte; of the last run: `next` */
  } open;
  struct dsm_run closed;
};
_Static_assert(sizeof(union burst_run) == 24 && sizeof(struct dsm_run) == 24, "a run is converted in place");

/* What translated code reads and writes. Offsets are those of the map. */
struct burst_words {
  uint64_t scratch1, scratch2; /* values of the program's registers that the code has borrowed */
  uint64_t rax;
  uint64_t flags;       /* al: OF; ah: the others, as lahf has them */
  uint64_t stub_rax, stub_rdx;
  uint64_t base;        /* address of the map */
  uint64_t below;       /* BURST_EDGE_BYTES less: a load that begins before the map may reach into it */
  uint64_t limit;       /* a store at an offset of at most this is in the map as a whole */
  uint64_t near;        /* bytes from `below` to the end of the map */
  uint64_t frame; /* the stack that no other thread can see: its address, */
  uint64_t frame_bytes; /* and its size; 0: there is none */
  int64_t next;         /* offset behind the last byte stored; BURST_NO_OFFSET: none */
  uint64_t log;         /* where the next bytes go */
  uint64_t run;         /* the next run */
  int64_t runs_left;    /* below 0: the burst ends at the next backward jump */
  int64_t low;          /* no offset below it was stored to; INT64_MAX: none was */
  int64_t high;         /* BURST_EDGE_BYTES behind the end of all runs but the last */
  int64_t least; /* `low` becomes this with the first store: INT64_MIN makes each load from the map end the burst */
  int64_t budget; /* below 0: the burst ends at the next backward jump */
  uint64_t offset; /* arguments of the new-run stub: where the run begins, */
  uint64_t back; /* and where to go on */
  uint64_t exit_rip, exit_rsp;
  uint64_t exit_stack;
};

struct burst_slot {
  struct burst_words words;
  /* Of the burst in progress: */
  const struct burst_translation *translation;
  struct dsm_region *region;
  uint64_t signal_mask; /* of the program */
  uint64_t gs_base; /* likewise */
  uint64_t log_begin;
  uint64_t features; /* components of XSAVE that frames have */
  uint32_t deferred; /* bit N: signal N was sent to the thread meanwhile */
  ucontext_t context; /* the frame that the exit returns from */
  uint8_t xsave[BURST_XSAVE_BYTES] __attribute__((aligned(64)));
  uint8_t stack[BURST_STACK_BYTES] __attribute__((aligned(64)));
  union burst_run before; /* gets the end of the run before the first one */
  union burst_run runs[BURST_RUNS_MAX + BURST_RUNS_SLACK];
  uint8_t log[BURST_LOG_BYTES + BURST_LOG_SLACK] __attribute__((aligned(BURST_LOG_BYTES * 2)));
};
_Static_assert(sizeof(struct burst_slot) == BURST_SLOT_BYTES, "one slot follows the other");
_Static_assert(offsetof(struct burst_slot, runs) == offsetof(struct burst_slot, before) + sizeof(union burst_run),
               "`before` is before the runs");

/* Set in the address of the log's end, and not in those before it. */
#define BURST_LOG_END_BIT BURST_LOG_BYTES

#define BURST_WORD(name) ((uint32_t)offsetof(struct burst_words, name))

#pragma GCC visibility push(hidden)

/* Not handler-safe; once in a process. */
void burst_slots_init(void);

/* Returns the slot of the calling thread, or NULL if all are taken by others, or there is no memory. handler-safe. */
struct burst_slot *burst_slot_of_thread(void);

/* Returns the slot that has this address, or NULL. handler-safe. */
struct burst_slot *burst_slot_at(uint64_t address);

/* Finds the stack from `stack_pointer` on that no other thread can see. handler-safe, but for the first. */
void burst_frame_init(void);
uint64_t burst_frame_bytes(uint64_t stack_pointer);

/* Base of gs. handler-safe. */
uint64_t burst_gs_base(void);
void burst_set_gs_base(uint64_t base);

#pragma GCC visibility pop

#endif
