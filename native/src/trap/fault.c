/* The SIGSEGV, SIGBUS and SIGTRAP handlers.
 *
 * They run on the thread that faulted with every signal blocked (also glibc's own two), on the alternate stack if
 * there is one, allocate nothing and take no lock. The only faults they may meet themselves are those of
 * dsm_guarded_copy, which opens SIGSEGV and SIGBUS for the length of the copy.
 *
 * Signals that are not dsm's go to the action of the program (signal_action.c). SIGBUS is handled only for the guarded
 * copy. */
#include "trap/fault.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <dsm/dsm.h>
#include "base/size.h"
#include "trap/altstack.h"
#include "trap/capture.h"
#include "trap/decode.h"
#include "trap/frame.h"
#include "trap/guard.h"
#include "trap/region.h"
#include "trap/region_entry.h"
#include "trap/signals.h"
#include "trap/step.h"
#include "trap/syscall.h"
#include "trap/tool.h"

#define TRAP_NUMBER_PROTECTION 13
#define TRAP_NUMBER_PAGE_FAULT 14
#define ERROR_BIT_WRITE 2
/* Faults this near to a map count as meant for it. Behind its end lie addresses that only maps use. */
#define NEAR_BEHIND DSM_SIZE_MAX
#define NEAR_BEFORE (1u << 20)

static const struct dsm_burst_hooks *burst;

void dsm_fault_set_burst(const struct dsm_burst_hooks *hooks) {
  __atomic_store_n(&burst, hooks, __ATOMIC_RELEASE);
}

static bool is_in_burst(const siginfo_t *info, ucontext_t *context) {
  const struct dsm_burst_hooks *hooks = __atomic_load_n(&burst, __ATOMIC_ACQUIRE);
  return hooks != NULL && hooks->interrupted(info, context);
}

static bool begins_burst(struct dsm_fault *fault) {
  const struct dsm_burst_hooks *hooks = __atomic_load_n(&burst, __ATOMIC_ACQUIRE);
  return hooks != NULL && fault->is_direct && hooks->begin(fault);
}

/* ---- messages and endings ---- */

struct message {
  char text[400];
  size_t length;
};

static void say(struct message *m, const char *text) {
  while (*text != '\0' && m->length < sizeof(m->text) - 1) m->text[m->length++] = *text++;
}

static void say_hex(struct message *m, uint64_t value, unsigned digits) {
  char text[17];
  for (unsigned i = 0; i < digits; i++) text[i] = "0123456789abcdef"[value >> (4 * (digits - 1 - i)) & 15];
  text[digits] = '\0';
  say(m, text);
}

static void print(struct message *m) {
  m->text[m->length++] = '\n';
  dsm_syscall(SYS_write, STDERR_FILENO, (long)m->text, (long)m->length, 0);
}

static __attribute__((noinline)) void print_line(const char *text) {
  struct message m = {.length = 0};
  say(&m, text);
  print(&m);
}

/* Kills the process by `signo` at once. */
static _Noreturn void die(int signo) {
  uint64_t mask = 1ull << (signo - 1);
  dsm_action_default(signo);
  dsm_syscall(SYS_tgkill, getpid(), dsm_syscall(SYS_gettid, 0, 0, 0, 0), signo, 0);
  dsm_syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&mask, 0, DSM_SIGSET_BYTES);
  for (;;) dsm_syscall(SYS_exit_group, 128 + signo, 0, 0, 0);
}

void dsm_end_of_failed_store(void) {
  die(SIGBUS);
}

/* ---- the handlers ---- */

/* Not inlined: the stack frame of the handlers would hold its text twice. */
__attribute__((noinline)) static void explain(const struct dsm_fault *fault, const char *what) {
  struct message m = {.length = 0};
  const uint8_t *code = (const uint8_t *)fault->regs[REG_RIP];
  unsigned here = 4096 - (unsigned)((uintptr_t)code % 4096);
  say(&m, what);
  say_hex(&m, fault->address, 12);
  say(&m, " by the instruction at 0x");
  say_hex(&m, (uintptr_t)code, 12);
  say(&m, " (bytes");
  for (unsigned i = 0; i < 15 && i < here; i++) {
    say(&m, " ");
    say_hex(&m, code[i], 2);
  }
  say(&m, "): ");
  say(&m, fault->why);
  if (tool_is_valgrind() && strncmp(fault->why, "valgrind", 8) != 0)
    say(&m, "; start valgrind with " TOOL_VALGRIND_OPTIONS);
  print(&m);
}

/* Handles a store to a region that was left, if such stores may go on: it is done again. */
static bool forgive(struct dsm_region *region) {
  uint32_t late = __atomic_load_n(&region->late, __ATOMIC_ACQUIRE);
  if (late == DSM_LATE_FATAL) return false;
  if (late == DSM_LATE_WAIT) {
    dsm_region_exit(region); /* the leaving thread waits for it */
    dsm_syscall(SYS_sched_yield, 0, 0, 0, 0);
    return true;
  }
  if (dsm_syscall(SYS_mprotect, (long)region->base, (long)region->size, PROT_READ | PROT_WRITE, 0) != 0) return false;
  print_line("dsm: store to the map of a session this process has left: it changes the copy in this process only");
  dsm_region_exit(region);
  return true;
}

static void say_number(struct message *m, uint64_t number) {
  char digits[21];
  size_digits(digits, number);
  say(m, digits);
}

/* Says that the program has missed a map, if the fault is near one, before the program dies of it. */
static __attribute__((noinline)) void explain_near_map(const struct dsm_fault *fault) {
  struct dsm_region *region = dsm_region_enter_near(fault->address, NEAR_BEHIND, NEAR_BEFORE);
  if (region == NULL) return;
  uintptr_t end = region->base + region->size;
  bool is_behind = fault->address >= end;
  const char *name = region->sink->name != NULL ? region->sink->name(region->context) : NULL;
  char advice[SIZE_ADVICE_BYTES];
  struct message m = {.length = 0};
  say(&m, (fault->regs[REG_ERR] & ERROR_BIT_WRITE) != 0 ? "dsm: a store to 0x" : "dsm: a load from 0x");
  say_hex(&m, fault->address, 12);
  uintptr_t distance = is_behind ? fault->address - end : region->base - fault->address;
  say(&m, " is ");
  if (distance == 0) {
    say(&m, "right");
  } else {
    say_number(&m, distance);
    say(&m, distance == 1 ? " byte" : " bytes");
  }
  say(&m, is_behind ? " behind the end of the map of " : " before the beginning of the map of ");
  say_number(&m, region->size);
  say(&m, " bytes");
  if (name != NULL) {
    say(&m, " of session \"");
    say(&m, name);
    say(&m, "\"");
  }
  if (is_behind) {
    say(&m, "; ");
    uint64_t needed = fault->address - region->base + 1;
    say(&m, size_advice(needed, SIZE_ROOM(needed), advice));
  }
  print(&m);
  dsm_region_exit(region);
}

/* Handles the page fault of a store, at an address in an entered region. Returns true if it is handled, false to
 * chain. */
static bool answer(struct dsm_fault *fault, int *chain_as) {
  struct dsm_region *region = fault->region;
  if (region->owner != dsm_process_token()) {
    print_line(
        "dsm: this process was forked after joining the session; the map belongs to its parent (open a session in the "
        "child instead)");
    dsm_action_default(SIGSEGV); /* and die of the same instruction */
    dsm_region_exit(region);
    return true;
  }
  if ((fault->regs[REG_ERR] & ERROR_BIT_WRITE) == 0) {
    dsm_region_exit(region);
    return false;
  }
  if (__atomic_load_n(&region->state, __ATOMIC_ACQUIRE) != DSM_REGION_ACTIVE) {
    if (forgive(region)) return true;
    print_line("dsm: store to the map of a session this process has left");
    dsm_action_default(SIGSEGV);
    dsm_region_exit(region);
    return true;
  }
  int opened = region->sink->fault(region->context, fault->address, dsm_capture_is_atomic(fault),
                                   (uintptr_t)fault->regs[REG_RIP]);
  if (opened < 0) die(SIGBUS);
  if (opened > 0) {
    dsm_region_exit(region);
    return true;
  }
  if (begins_burst(fault)) return true;
  switch (dsm_capture(fault)) {
    case DSM_OUTCOME_DONE: break;
    case DSM_OUTCOME_STEPPING: return true;
    case DSM_OUTCOME_FATAL: die(SIGBUS);
    case DSM_OUTCOME_UNSUPPORTED:
      explain(fault, "dsm: cannot capture the store to 0x");
      dsm_action_default(SIGSEGV);
      break;
    case DSM_OUTCOME_CHAIN:
      if (fault->why != NULL && !dsm_action_has_handler(fault->info->si_signo))
        explain(fault, "dsm: fault of the store to 0x");
      dsm_region_exit(region);
      *chain_as = fault->info->si_signo;
      return false;
  }
  dsm_region_exit(region);
  return true;
}

/* Returns whether the kernel could not put a signal frame on a stack in the map: then it sends SIGSEGV instead, because
 * the handler of that signal does not use the alternate stack. A general protection fault looks the same; the trap
 * number tells them apart. */
static bool is_frame_in_map(const siginfo_t *info, const greg_t *regs) {
  uintptr_t start;
  return info->si_signo == SIGSEGV && info->si_code == SI_KERNEL && regs[REG_TRAPNO] != TRAP_NUMBER_PROTECTION &&
         dsm_regions_near((const void *)regs[REG_RSP], 1) && dsm_region_part((uintptr_t)regs[REG_RSP], 1, &start) > 0;
}

/* The kernel pushes the restorer's address and puts the context right above it: if the context is not where our
 * caller's frame begins, we were called by another handler. */
#define CALLED_BY_KERNEL(context) (__builtin_dwarf_cfa() == (context))

/* Ends a step, if one was in progress where the signal arrived. */
static __attribute__((noinline)) bool end_step(const siginfo_t *info, ucontext_t *context) {
  uint64_t rip = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
  if (!dsm_step_is_at(rip)) return false;
  /* A pending SIGSEGV that was sent to this thread replaces the one of the step's end, so only RIP tells whether the
   * step is over. */
  if (info->si_code <= 0) dsm_step_defer_signal(rip);
  tool_enter();
  enum dsm_outcome outcome = dsm_step_end(context);
  tool_leave();
  if (outcome == DSM_OUTCOME_FATAL) die(SIGBUS);
  if (outcome == DSM_OUTCOME_UNSUPPORTED && info->si_code > 0) {
    print_line("dsm: a store that was run aside did not end where it should; the decoder is wrong about it");
    die(SIGSEGV);
  }
  return true;
}

static void on_fault(int signo, siginfo_t *info, void *context_pointer) {
  bool direct = CALLED_BY_KERNEL(context_pointer);
  ucontext_t *context = context_pointer;
  if ((info->si_code > 0 && dsm_guard_hit(signo, info, context)) || tool_probe_hit(context)) return;
  int saved_errno = errno, chain_as = signo;
  struct dsm_fault fault = {
      .context = context,
      .regs = context->uc_mcontext.gregs,
      .info = info,
      .address = (uintptr_t)info->si_addr,
      .is_direct = direct,
  };
  bool done = is_in_burst(info, context) || (signo == SIGSEGV && end_step(info, context));
  if (!done && signo == SIGSEGV && info->si_code > 0 && fault.regs[REG_TRAPNO] == TRAP_NUMBER_PAGE_FAULT) {
    tool_enter();
    done = (fault.region = dsm_region_enter(fault.address)) != NULL && answer(&fault, &chain_as);
    tool_leave();
    if (done) dsm_altstack_offer(context);
  }
  if (!done && is_frame_in_map(info, fault.regs)) {
    print_line("dsm: a signal came on a stack that lies in the map: install its handler with SA_ONSTACK");
    die(SIGSEGV);
  }
  if (!done) {
    bool is_page_fault = info->si_code > 0 && fault.regs[REG_TRAPNO] == TRAP_NUMBER_PAGE_FAULT;
    if (signo == SIGSEGV && is_page_fault && fault.region == NULL && direct && !dsm_action_has_handler(signo))
      explain_near_map(&fault);
    dsm_fault_of_program(signo);
    dsm_action_chain(chain_as, info, context, direct);
  }
  errno = saved_errno;
}

/* Handles the end of a step under valgrind. */
static void on_trap(int signo, siginfo_t *info, void *context_pointer) {
  bool direct = CALLED_BY_KERNEL(context_pointer);
  int saved_errno = errno;
  if (!is_in_burst(info, context_pointer) && !end_step(info, context_pointer))
    dsm_action_chain(signo, info, context_pointer, direct);
  errno = saved_errno;
}

int dsm_capture_init(void) {
  static bool prepared;
  if (!prepared) {
    dsm_decode_init();
    dsm_frame_init();
    prepared = true;
  }
  int renewed = dsm_process_token_renew();
  if (renewed < 0 || (renewed == 1 && dsm_step_init() != 0)) return -1;
  dsm_mask_open();
  return dsm_actions_take(on_fault, on_trap);
}
