/* The beginning and the end of bursts.
 *
 *     trap of a store ---> begin(): RIP of the frame is that of the copy, all signals but those of faults are blocked
 *                              |
 *                              v
 *                          the copy runs: stores to the map go to the log
 *                              |                                  |
 *              exit: burst_leave(), on the slot's stack           | fault: interrupted()
 *              the batch is published,                            | registers are put back,
 *              rt_sigreturn to a frame of our own                 | the batch is published
 *                              |                                  |
 *                              v                                  v
 *         the program goes on by itself, with its registers, flags, vectors and mask as if it had never been in the copy
 *
 * Invariant: when the program is seen by others, or sees a signal, its stores before that point are published. */
#include "burst/burst.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "burst/cache.h"
#include "burst/slot.h"
#include "trap/altstack.h"
#include "trap/decode.h"
#include "trap/fault.h"
#include "trap/frame.h"
#include "trap/region.h"
#include "trap/signals.h"
#include "trap/syscall.h"
#include "trap/tool.h"

/* About 100 us of the copy: an instruction costs 1 to 8 units of 0.3 ns, when its data is in the cache. So long a signal
 * waits, besides the time of the publication. */
#define BUDGET 300000
#define EFLAGS_TRAP 0x100
#define STATUS_FLAGS 0x8d5u
#define MXCSR_AT 24
#define MXCSR_MASKS 0x1f80u
/* A stack within this distance of a map may reach it. */
#define STACK_NEAR 65536u
/* Below the stack pointer a function may have variables, too. */
#define RED_ZONE_BYTES 128
/* In the FXSAVE area of a frame: the kernel's own bytes, struct _fpx_sw_bytes. */
#define SOFTWARE_AT 464
#define SOFTWARE_BYTES 48
#define XSAVE_HEADER 512
#define XSAVE_HEADER_BYTES 64
#define MAGIC1 0x46505853u
/* What a frame has before the parts that we do not use. */
#define CONTEXT_BYTES (offsetof(ucontext_t, uc_sigmask) + DSM_SIGSET_BYTES)
#define SHSTK_STATUS 0x5005 /* arch_prctl: ARCH_SHSTK_STATUS */
#define SHSTK_ENABLED 1

struct software {
  uint32_t magic1, extended_size;
  uint64_t features;
  uint32_t xstate_size;
};

/* ---- the beginning ---- */

/* Prepares the frame that the exit returns from. False: that of the fault has a form that we do not know. */
static bool prepare_context(struct burst_slot *slot, const ucontext_t *frame) {
  const uint8_t *area = (const uint8_t *)frame->uc_mcontext.fpregs;
  struct software software;
  if (area == NULL) return false;
  memcpy(&software, area + SOFTWARE_AT, sizeof software);
  if (software.magic1 != MAGIC1 || software.xstate_size + 4 > BURST_XSAVE_BYTES) return false;
  memcpy(&slot->context, frame, CONTEXT_BYTES);
  slot->context.uc_mcontext.fpregs = (fpregset_t)slot->xsave;
  slot->features = software.features;
  memcpy(slot->xsave + SOFTWARE_AT, area + SOFTWARE_AT, SOFTWARE_BYTES);
  memset(slot->xsave + XSAVE_HEADER, 0, XSAVE_HEADER_BYTES);
  memcpy(slot->xsave + software.xstate_size, area + software.xstate_size, 4); /* the second magic number */
  return true;
}

static void prepare_words(struct burst_slot *slot, const struct dsm_fault *fault, struct dsm_burst_rules rules) {
  const struct dsm_region *region = fault->region;
  uint64_t frame = (uint64_t)fault->regs[REG_RSP] - RED_ZONE_BYTES;
  uint32_t bytes = rules.bytes < BURST_LOG_BYTES ? rules.bytes : BURST_LOG_BYTES;
  slot->log_begin = (uint64_t)slot->log + BURST_LOG_BYTES - bytes;
  slot->words = (struct burst_words){
      .base = region->base,
      .limit = region->size - BURST_EDGE_BYTES,
      .below = region->base - BURST_EDGE_BYTES,
      .near = region->size + BURST_EDGE_BYTES,
      .frame = frame,
      .frame_bytes = burst_frame_bytes(frame),
      .next = BURST_NO_OFFSET,
      .log = slot->log_begin,
      .run = (uint64_t)slot->runs,
      .runs_left = BURST_RUNS_MAX,
      .low = INT64_MAX,
      .high = rules.is_strict ? INT64_MAX : INT64_MIN,
      .least = rules.is_strict ? INT64_MIN : INT64_MAX,
      .budget = BUDGET,
      .exit_stack = (uint64_t)slot->stack + BURST_STACK_BYTES,
  };
}

/* Returns whether the store lies in the map, before the last bytes: then the copy takes it. */
static bool is_inside(const struct dsm_fault *fault) {
  struct dsm_insn insn;
  const struct dsm_region *region = fault->region;
  if (region->size < BURST_EDGE_BYTES || !dsm_decode((uint64_t)fault->regs[REG_RIP], &insn)) return false;
  return dsm_frame_address(fault->regs, &insn) - region->base <= region->size - BURST_EDGE_BYTES;
}

static bool may_begin(const struct dsm_fault *fault) {
  const uint8_t *area = (const uint8_t *)fault->context->uc_mcontext.fpregs;
  uint32_t mxcsr;
  if (area == NULL || (fault->regs[REG_EFL] & EFLAGS_TRAP) != 0) return false;
  memcpy(&mxcsr, area + MXCSR_AT, sizeof mxcsr);
  const char *stack = (const char *)fault->regs[REG_RSP];
  return (mxcsr & MXCSR_MASKS) == MXCSR_MASKS && !dsm_regions_near(stack - STACK_NEAR, 2 * STACK_NEAR);
}

static bool begin(struct dsm_fault *fault) {
  struct dsm_region *region = fault->region;
  if (region->sink->burst_rules == NULL || !may_begin(fault)) return false;
  struct dsm_burst_rules rules = region->sink->burst_rules(region->context);
  if (rules.bytes == 0) return false;
  const struct burst_translation *translation = burst_cache_take((uint64_t)fault->regs[REG_RIP]);
  if (translation == NULL) return false;
  struct burst_slot *slot = is_inside(fault) ? burst_slot_of_thread() : NULL;
  /* Before the copy of the frame, which the end returns to. */
  dsm_altstack_offer(fault->context);
  if (slot == NULL || !prepare_context(slot, fault->context)) {
    burst_cache_put_off();
    return false;
  }
  prepare_words(slot, fault, rules);
  slot->translation = translation;
  slot->region = region;
  slot->deferred = 0;
  slot->gs_base = burst_gs_base();
  burst_set_gs_base((uint64_t)slot);
  uint64_t mask = ~(DSM_SIGNAL_BIT(SIGSEGV) | DSM_SIGNAL_BIT(SIGBUS) | DSM_SIGNAL_BIT(SIGTRAP));
  memcpy(&fault->context->uc_sigmask, &mask, sizeof mask);
  fault->regs[REG_RIP] = (greg_t)translation->code;
  return true;
}

/* ---- the end ---- */

/* Publishes the batch. Returns how many bytes were stored. All signals are blocked. */
static size_t publish(struct burst_slot *slot) {
  struct dsm_region *region = slot->region;
  union burst_run *end = (union burst_run *)slot->words.run;
  uint32_t count = (uint32_t)(end - slot->runs);
  size_t bytes = 0;
  if (count == 0) return 0;
  end[-1].open.end = (uint64_t)slot->words.next;
  for (uint32_t i = 0; i < count; i++) {
    union burst_run run = slot->runs[i];
    slot->runs[i].closed = (struct dsm_run){
        .offset = run.open.offset, .length = (uint32_t)(run.open.end - run.open.offset), .bytes = run.open.bytes};
    bytes += slot->runs[i].closed.length;
  }
  if (region->sink->burst(region->context, &slot->runs->closed, count) < 0) dsm_end_of_failed_store();
  return bytes;
}

/* Ends the burst, but for the registers. All signals are blocked. */
static void end(struct burst_slot *slot) {
  burst_set_gs_base(slot->gs_base);
  burst_cache_give_back(slot->translation, publish(slot));
  dsm_region_exit(slot->region);
  /* What was sent meanwhile comes when the program goes on. */
  for (int signo = 1; slot->deferred >> signo != 0; signo++)
    if ((slot->deferred >> signo & 1) != 0)
      dsm_syscall(SYS_tgkill, getpid(), dsm_syscall(SYS_gettid, 0, 0, 0, 0), signo, 0);
}

static __attribute__((noinline, no_sanitize_address)) void leave(struct burst_slot *slot,
                                                                 const struct burst_saved *saved) {
  int saved_errno = errno;
  uint64_t before;
  dsm_signals_block(&before);
  end(slot);
  errno = saved_errno;
  greg_t *regs = slot->context.uc_mcontext.gregs;
  const uint64_t values[16] = {saved->rax, saved->rcx, saved->rdx, saved->rbx, slot->words.exit_rsp, saved->rbp,
                               saved->rsi, saved->rdi, saved->r8,  saved->r9,  saved->r10,           saved->r11,
                               saved->r12, saved->r13, saved->r14, saved->r15};
  for (unsigned i = 0; i < 16; i++) regs[dsm_frame_gregs[i]] = (greg_t)values[i];
  regs[REG_RIP] = (greg_t)slot->words.exit_rip;
  regs[REG_EFL] = (greg_t)saved->flags;
}

/* Called by the exit stub, on the slot's stack. It saves the vector registers before any code that may use them. */
__attribute__((noreturn, used, target("general-regs-only"), no_sanitize_address, no_sanitize_undefined)) static void
burst_leave(const struct burst_saved *saved) {
  struct burst_slot *slot = (struct burst_slot *)((uintptr_t)saved & ~(uintptr_t)(BURST_SLOT_BYTES - 1));
  uint32_t low = (uint32_t)slot->features, high = (uint32_t)(slot->features >> 32);
  __asm__ volatile("xsave64 (%0)" ::"r"(slot->xsave), "a"(low), "d"(high) : "memory");
  leave(slot, saved);
  /* The kernel takes the frame from the stack pointer, and with it all registers and the mask in one step. */
  __asm__ volatile("mov %0, %%rsp\n\tsyscall" ::"r"(&slot->context), "a"(SYS_rt_sigreturn) : "memory");
  __builtin_unreachable();
}

/* ---- signals in between ---- */

static const struct burst_point *point_at(const struct burst_translation *translation, uint64_t rip) {
  uint64_t at = rip - (uint64_t)translation->code;
  for (uint32_t i = 0; i < translation->point_count; i++)
    if (at >= translation->points[i].from && at < translation->points[i].to) return &translation->points[i];
  return NULL;
}

/* Puts the program's registers back, as they were before the instruction of the point. */
static void restore(const struct burst_slot *slot, const struct burst_point *point, greg_t *regs) {
  const struct burst_words *words = &slot->words;
  if (point->scratch1 != BURST_KEPT) regs[dsm_frame_gregs[point->scratch1]] = (greg_t)words->scratch1;
  if (point->scratch2 != BURST_KEPT) regs[dsm_frame_gregs[point->scratch2]] = (greg_t)words->scratch2;
  if (point->has_flags) {
    /* ah, as lahf has it, and OF in al. */
    uint64_t flags = (words->flags >> 8 & 0xd5) | (words->flags & 1) << 11;
    regs[REG_EFL] = (greg_t)(((uint64_t)regs[REG_EFL] & ~(uint64_t)STATUS_FLAGS) | flags);
  }
  regs[REG_RIP] = (greg_t)slot->translation->insns[point->insn];
}

static bool interrupted(const siginfo_t *info, ucontext_t *context) {
  greg_t *regs = context->uc_mcontext.gregs;
  uint64_t rip = (uint64_t)regs[REG_RIP];
  bool is_copy = burst_cache_holds(rip), is_fault = info->si_code > 0 && info->si_signo != SIGTRAP;
  struct burst_slot *slot = is_copy ? (struct burst_slot *)burst_gs_base() : burst_slot_at((uint64_t)regs[REG_RSP]);
  if (slot == NULL) return false;
  if (!is_fault) {
    /* It was sent. The burst goes on to its next end; the exit blocks signals before it looks for this one. */
    slot->deferred |= 1u << info->si_signo;
    slot->words.budget = 0;
    return true;
  }
  const struct burst_point *point = is_copy ? point_at(slot->translation, rip) : NULL;
  if (point == NULL) return false;
  restore(slot, point, regs);
  end(slot);
  memcpy(&context->uc_sigmask, &slot->context.uc_sigmask, DSM_SIGSET_BYTES);
  /* The program runs the instruction by itself and faults again, or not. */
  return true;
}

/* ---- for the process ---- */

static bool has_shadow_stack(void) {
  uint64_t status = 0;
  return dsm_syscall(SYS_arch_prctl, SHSTK_STATUS, (long)&status, 0, 0) == 0 && (status & SHSTK_ENABLED) != 0;
}

static bool has_lahf(void) {
  unsigned a, b, c, d;
  return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & 1) != 0;
}

static bool is_prepared; /* in this process */

void dsm_burst_init(void) {
  static const struct dsm_burst_hooks hooks = {.begin = begin, .interrupted = interrupted};
  if (is_prepared) return;
  is_prepared = true;
  if (tool_is_valgrind() || tool_is_thread_sanitizer() || has_shadow_stack() || !has_lahf()) return;
  burst_frame_init();
  burst_slots_init();
  if (burst_cache_init((uint64_t)burst_leave) != 0) return;
  dsm_fault_set_burst(&hooks);
}

void dsm_burst_in_child(void) {
  is_prepared = false;
  dsm_fault_set_burst(NULL);
}
