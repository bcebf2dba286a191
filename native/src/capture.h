/* What the parts of store capture share: the fault being answered, the region table's inside, the signal frame.
 *
 * Everything here is handler-safe unless it says otherwise. It runs on the thread that faulted, with every signal
 * blocked, on whatever stack the kernel chose: an alternate stack may be 8 KiB, of which an AVX-512 frame takes 3.5,
 * so no path uses more than 3 KiB. */
#ifndef DSM_CAPTURE_H
#define DSM_CAPTURE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "decode.h"
#include "region.h"

#pragma GCC visibility push(hidden)

/* ---- region.c ---- */

struct dsm_region {
  uintptr_t base;
  size_t size;
  uint32_t state;   /* enum dsm_region_state, or DSM_REGION_ADDING */
  uint32_t inside;  /* threads between dsm_region_enter and dsm_region_exit; a futex word */
  uint64_t owner;   /* dsm_process_token() of the process that added it */
  const struct dsm_sink *sink;
  void *context;
} __attribute__((aligned(64)));

enum { DSM_REGION_ADDING = 3 };

/* The region `address` lies in, or NULL. dsm_region_leave and dsm_region_remove wait until it is exited again. */
struct dsm_region *dsm_region_enter(uintptr_t address);
void dsm_region_exit(struct dsm_region *region);

/* Not zero, and different in parent and child after a fork: 0 in a child until it adds a region of its own. */
uint64_t dsm_process_token(void);
/* Gives this process a token if it has none. 1: a new one was given. 0: it had one. -1 with errno. Not handler-safe. */
int dsm_process_token_renew(void);

/* ---- the fault ---- */

struct dsm_fault {
  ucontext_t *context;
  greg_t *regs;
  siginfo_t *info;
  struct dsm_region *region; /* entered */
  uintptr_t address;         /* the faulting one, inside the region */
  const char *why;           /* set with DSM_OUTCOME_UNSUPPORTED, and with CHAIN if dsm knows what is wrong; else NULL */
};

enum dsm_outcome {
  DSM_OUTCOME_DONE,        /* captured, registers advanced: return to the program */
  DSM_OUTCOME_STEPPING,    /* the displaced copy is set up: return to it; the region stays entered */
  DSM_OUTCOME_FATAL,       /* the sink failed and has said so */
  DSM_OUTCOME_UNSUPPORTED, /* cannot be captured faithfully */
  DSM_OUTCOME_CHAIN,       /* info and registers now describe a fault of the program's own: hand it on */
};

/* capture.c: whether the instruction at RIP is LOCK-prefixed or xchg. */
int dsm_capture_is_atomic(const struct dsm_fault *fault);

/* Captures the store at RIP. */
enum dsm_outcome dsm_capture(struct dsm_fault *fault);

/* ---- frame.c: registers in the signal frame ---- */

/* Finds where the processor puts the parts of its XSAVE area. Not handler-safe. */
void dsm_frame_init(void);
extern const uint8_t dsm_frame_gregs[16]; /* REG_RAX ... by the processor's numbers */
uint64_t dsm_frame_gpr(const greg_t *regs, unsigned reg);
/* Writes `width` bytes of a general register as an instruction does: 4 clears the upper half, 1 and 2 keep the rest. */
void dsm_frame_set_gpr(greg_t *regs, unsigned reg, unsigned offset, unsigned width, uint64_t value);
/* All 64 bytes of vector register `reg`. False if the frame does not have all that was asked for. */
bool dsm_frame_vector(const ucontext_t *context, unsigned reg, unsigned bytes, uint8_t out[64]);
bool dsm_frame_opmask(const ucontext_t *context, unsigned reg, uint64_t *value);
bool dsm_frame_set_opmask(ucontext_t *context, unsigned reg, uint64_t value);
/* Bytes an XSAVE (XSAVEC) of the components in `mask` may touch. */
unsigned dsm_frame_xsave_bytes(uint64_t mask, bool compacted);
/* Base of fs or gs. */
uint64_t dsm_frame_segment_base(unsigned segment);

/* Address of the memory operand, segment base included. */
uintptr_t dsm_frame_address(const greg_t *regs, const struct dsm_insn *insn);

/* ---- capture.c, for the others ---- */

/* Whether [address, address + length) lies in the fault's region. */
bool dsm_in_region(const struct dsm_fault *fault, uintptr_t address, size_t length);
/* The operand, which begins at `address`, lies in the map only in part: the fault being answered becomes the program's
 * own, at the first byte behind the map if it begins inside. Returns DSM_OUTCOME_CHAIN. */
enum dsm_outcome dsm_crosses_edge(struct dsm_fault *fault, uintptr_t address);
/* Publishes the bytes that `written` (one bit a byte, at most 64) chooses. 0 or negative. */
int dsm_publish_chosen(const struct dsm_fault *fault, uintptr_t address, const uint8_t *bytes, uint64_t written);

/* ---- string.c ---- */

enum dsm_outcome dsm_capture_string(struct dsm_fault *fault, const struct dsm_insn *insn);

/* ---- step.c ---- */

#define DSM_STEP_SLOTS 64           /* threads that can be in a step or a string instruction at once; others wait */
#define DSM_STEP_OPERAND_MAX 16320u /* bytes of the largest operand that can be stepped */
#define DSM_SLOT_BYTES 65536u       /* private buffer of a slot */

/* Maps the slots. 0, or -1 with errno. Not handler-safe; called once, and again in a forked child. */
int dsm_step_init(void);
unsigned dsm_slot_claim(void);
void dsm_slot_release(unsigned slot);
uint8_t *dsm_slot_buffer(unsigned slot);

/* Sets up the displaced copy of `insn`, whose operand is [address, address + width). */
enum dsm_outcome dsm_step_begin(struct dsm_fault *fault, const struct dsm_insn *insn, uintptr_t address,
                                uint32_t width);
/* Whether RIP is in a slot's copy. */
bool dsm_step_is_at(uint64_t rip);
/* The end's signal at an RIP in a slot's code. DONE or FATAL: the step is over and its region exited. STEPPING: the second
 * background is running. UNSUPPORTED: RIP is not at the step's end; nothing was changed. */
enum dsm_outcome dsm_step_end(ucontext_t *context);
/* Call before dsm_step_end if the signal was sent by kill() or its like: it is raised again when the step is over. */
void dsm_step_defer_signal(uint64_t rip);

/* ---- fault.c ---- */

/* A fault inside dsm_guarded_copy. signo 0: none. */
struct dsm_guard {
  int32_t signo;
  int32_t code;
  uint64_t address;
  uint64_t error;
};
/* Copies upwards between memory of the program's, of which any may be unmapped. Returns the bytes not copied and, if
 * not 0, the fault in *guard. */
size_t dsm_guarded_copy(void *to, const void *from, size_t length, struct dsm_guard *guard);
/* The same where SIGSEGV and SIGBUS are open anyhow: outside the handlers. */
size_t dsm_guarded_copy_run(void *to, const void *from, size_t length, struct dsm_guard *guard);
/* Turns the fault being answered into the one in *guard; returns DSM_OUTCOME_CHAIN. */
enum dsm_outcome dsm_fault_becomes(struct dsm_fault *fault, const struct dsm_guard *guard);

/* System calls without glibc's errno. */
long dsm_syscall(long number, long a, long b, long c, long d);

#pragma GCC visibility pop

#endif
