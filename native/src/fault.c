/* The SIGSEGV, SIGBUS and SIGTRAP handlers.
 *
 * They run on the thread that faulted with every signal blocked (also glibc's own two), on the alternate stack if
 * there is one, allocate nothing and take no lock. The only faults they may meet themselves are those of
 * dsm_guarded_copy, which opens SIGSEGV and SIGBUS for the length of the copy.
 *
 * What is not ours goes to the handler that was there before. SIGBUS is handled for the guarded copy's sake alone. */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture.h"
#include "tool.h"

#define SYSTEM_CALL_SIGSET_BYTES 8
#define TRAP_NUMBER_PAGE_FAULT 14
#define ERROR_BIT_WRITE 2

long dsm_syscall(long number, long a, long b, long c, long d) {
  long result;
  register long r10 __asm__("r10") = d;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return result;
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

static void set_default(int signo) {
  struct sigaction action = {.sa_handler = SIG_DFL};
  sigaction(signo, &action, NULL);
}

/* Ends the process by `signo` here and now. */
static _Noreturn void die(int signo) {
  uint64_t mask = 1ull << (signo - 1);
  set_default(signo);
  dsm_syscall(SYS_tgkill, getpid(), dsm_syscall(SYS_gettid, 0, 0, 0, 0), signo, 0);
  dsm_syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&mask, 0, SYSTEM_CALL_SIGSET_BYTES);
  for (;;) dsm_syscall(SYS_exit_group, 128 + signo, 0, 0, 0);
}

/* ---- the handlers that were there before ---- */

#define PREVIOUS_MAX 8 /* changes of a handler remembered; the ring's oldest but the first is then reused */

static const int signals[] = {SIGSEGV, SIGBUS, SIGTRAP};
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

/* before[i].action[0] is what was there at the first installation and can therefore not call us; action[latest] is
 * what was there at the last one, and may. */
static struct {
  struct sigaction action[PREVIOUS_MAX];
  uint32_t latest;
} before[SIGNALS];

static unsigned signal_index(int signo) {
  return signo == SIGSEGV ? 0 : signo == SIGBUS ? 1 : 2;
}

/* Hands the signal on. `direct`: the kernel called us; otherwise somebody's handler did, who must not get it back. */
static void chain(int signo, siginfo_t *info, ucontext_t *context, bool direct) {
  unsigned i = signal_index(signo);
  struct sigaction *previous = &before[i].action[direct ? __atomic_load_n(&before[i].latest, __ATOMIC_ACQUIRE) : 0];
  bool by_instruction = info->si_code > 0;
  if ((previous->sa_flags & SA_SIGINFO) == 0 &&
      (previous->sa_handler == SIG_DFL || previous->sa_handler == SIG_IGN)) {
    if (previous->sa_handler == SIG_IGN && !by_instruction) return;
    /* The kernel does not let an instruction's fault be ignored: it is as fatal as by default. The instruction runs
     * again and the process dies of it, with the registers as they are; a signal that was sent, or that comes after
     * its instruction (int3), would not come again and is raised. */
    set_default(signo);
    if (!by_instruction || signo == SIGTRAP) {
      dsm_syscall(SYS_tgkill, getpid(), dsm_syscall(SYS_gettid, 0, 0, 0, 0), signo, 0);
    }
    return;
  }
  struct sigaction action = *previous;
  if ((action.sa_flags & SA_RESETHAND) != 0) {
    previous->sa_flags = 0;
    previous->sa_handler = SIG_DFL;
  }
  /* The mask it would have: the interrupted one, its own, and the signal itself. Ours ends with our return. */
  uint64_t mask, own;
  memcpy(&mask, &context->uc_sigmask, sizeof(mask));
  memcpy(&own, &action.sa_mask, sizeof(own));
  mask |= own;
  if ((action.sa_flags & SA_NODEFER) == 0) mask |= 1ull << (signo - 1);
  dsm_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, SYSTEM_CALL_SIGSET_BYTES);
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(signo, info, context);
  } else {
    action.sa_handler(signo);
  }
}

/* ---- copying memory that may not be there ---- */

/* rdi: to, rsi: from, rdx: length, rcx: guard. rep movsb leaves in rcx what is left to copy, and a fault of its is
 * resumed behind it by guard_hit. Returns what is left. */
extern const char dsm_guarded_copy_at[], dsm_guarded_copy_after[];
__asm__(
    ".pushsection .text\n"
    ".type dsm_guarded_copy_run, @function\n"
    ".hidden dsm_guarded_copy_run, dsm_guarded_copy_at, dsm_guarded_copy_after\n"
    ".globl dsm_guarded_copy_run, dsm_guarded_copy_at, dsm_guarded_copy_after\n"
    "dsm_guarded_copy_run:\n"
    "  mov %rcx, %r8\n"
    "  mov %rdx, %rcx\n"
    "dsm_guarded_copy_at:\n"
    "  rep movsb\n"
    "dsm_guarded_copy_after:\n"
    "  mov %rcx, %rax\n"
    "  ret\n"
    ".size dsm_guarded_copy_run, . - dsm_guarded_copy_run\n"
    ".popsection\n");

static bool guard_hit(int signo, const siginfo_t *info, ucontext_t *context) {
  greg_t *regs = context->uc_mcontext.gregs;
  if ((uint64_t)regs[REG_RIP] != (uint64_t)dsm_guarded_copy_at) return false;
  struct dsm_guard *guard = (struct dsm_guard *)regs[REG_R8];
  guard->signo = signo;
  guard->code = info->si_code;
  guard->address = (uint64_t)info->si_addr;
  guard->error = (uint64_t)regs[REG_ERR];
  regs[REG_RIP] = (greg_t)dsm_guarded_copy_after;
  return true;
}

size_t dsm_guarded_copy(void *to, const void *from, size_t length, struct dsm_guard *guard) {
  uint64_t mask = 1ull << (SIGSEGV - 1) | 1ull << (SIGBUS - 1), old;
  guard->signo = 0;
  dsm_syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&mask, (long)&old, SYSTEM_CALL_SIGSET_BYTES);
  size_t left = dsm_guarded_copy_run(to, from, length, guard);
  dsm_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, SYSTEM_CALL_SIGSET_BYTES);
  return left;
}

enum dsm_outcome dsm_fault_becomes(struct dsm_fault *fault, const struct dsm_guard *guard) {
  fault->info->si_signo = guard->signo;
  fault->info->si_code = guard->code;
  fault->info->si_addr = (void *)guard->address;
  fault->regs[REG_CR2] = (greg_t)guard->address;
  fault->regs[REG_ERR] = (greg_t)guard->error;
  return DSM_OUTCOME_CHAIN;
}

/* ---- the handlers ---- */

static __attribute__((noinline)) void explain_unsupported(const struct dsm_fault *fault) {
  struct message m = {.length = 0};
  const uint8_t *code = (const uint8_t *)fault->regs[REG_RIP];
  unsigned here = 4096 - (unsigned)((uintptr_t)code % 4096);
  say(&m, "dsm: cannot capture the store to 0x");
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
  if (tool_is_valgrind() && strncmp(fault->why, "valgrind", 8) != 0) say(&m, "; start valgrind with " TOOL_VALGRIND_OPTIONS);
  print(&m);
}

/* A page fault of a store, at an address in an entered region. True: dealt with. False: chain. */
static bool answer(struct dsm_fault *fault, int *chain_as) {
  struct dsm_region *region = fault->region;
  if (region->owner != dsm_process_token()) {
    print_line(
        "dsm: this process was forked after joining the session; the map belongs to its parent (open a session in the "
        "child instead)");
    set_default(SIGSEGV); /* and die of the same instruction */
    dsm_region_exit(region);
    return true;
  }
  if ((fault->regs[REG_ERR] & ERROR_BIT_WRITE) == 0) {
    dsm_region_exit(region);
    return false;
  }
  if (__atomic_load_n(&region->state, __ATOMIC_ACQUIRE) != DSM_REGION_ACTIVE) {
    print_line("dsm: store to the map of a session this process has left");
    set_default(SIGSEGV);
    dsm_region_exit(region);
    return true;
  }
  int opened = region->sink->fault(region->context, fault->address, dsm_capture_is_atomic(fault));
  if (opened < 0) die(SIGBUS);
  if (opened > 0) {
    dsm_region_exit(region);
    return true;
  }
  switch (dsm_capture(fault)) {
    case DSM_OUTCOME_DONE: break;
    case DSM_OUTCOME_STEPPING: return true;
    case DSM_OUTCOME_FATAL: die(SIGBUS);
    case DSM_OUTCOME_UNSUPPORTED:
      explain_unsupported(fault);
      set_default(SIGSEGV);
      break;
    case DSM_OUTCOME_CHAIN:
      dsm_region_exit(region);
      *chain_as = fault->info->si_signo;
      return false;
  }
  dsm_region_exit(region);
  return true;
}

/* The kernel pushes the restorer's address and puts the context right above it: if the context is not where our
 * caller's frame begins, we were called by another handler. */
#define CALLED_BY_KERNEL(context) (__builtin_dwarf_cfa() == (context))

/* Ends a step, if one was under way where the signal came. */
static __attribute__((noinline)) bool end_step(const siginfo_t *info, ucontext_t *context) {
  uint64_t rip = (uint64_t)context->uc_mcontext.gregs[REG_RIP];
  if (!dsm_step_is_at(rip)) return false;
  /* One that was sent to this thread, and not yet delivered, swallows the end's own: it is RIP that tells whether the
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
  if (guard_hit(signo, info, context) || tool_probe_hit(context)) return;
  int saved_errno = errno, chain_as = signo;
  struct dsm_fault fault = {
      .context = context,
      .regs = context->uc_mcontext.gregs,
      .info = info,
      .address = (uintptr_t)info->si_addr,
  };
  bool done = signo == SIGSEGV && end_step(info, context);
  if (!done && signo == SIGSEGV && info->si_code > 0 && fault.regs[REG_TRAPNO] == TRAP_NUMBER_PAGE_FAULT) {
    tool_enter();
    done = (fault.region = dsm_region_enter(fault.address)) != NULL && answer(&fault, &chain_as);
    tool_leave();
  }
  if (!done) {
    dsm_fault_of_program(signo);
    chain(chain_as, info, context, direct);
  }
  errno = saved_errno;
}

/* The end of a step under valgrind. */
static void on_trap(int signo, siginfo_t *info, void *context_pointer) {
  bool direct = CALLED_BY_KERNEL(context_pointer);
  int saved_errno = errno;
  if (!end_step(info, context_pointer)) chain(signo, info, context_pointer, direct);
  errno = saved_errno;
}

static bool is_ours(const struct sigaction *action) {
  return (action->sa_flags & SA_SIGINFO) != 0 &&
         (action->sa_sigaction == on_fault || action->sa_sigaction == on_trap);
}

static int install(unsigned i) {
  struct sigaction current, ours = {.sa_sigaction = signals[i] == SIGTRAP ? on_trap : on_fault,
                                    .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
  memset(&ours.sa_mask, 0xff, sizeof(ours.sa_mask)); /* sigfillset leaves out glibc's own signals */
  if (sigaction(signals[i], NULL, &current) != 0) return -1;
  if (is_ours(&current)) return 0;
  static bool installed[SIGNALS];
  uint32_t latest = before[i].latest;
  if (!installed[i]) {
    before[i].action[0] = current;
    installed[i] = true;
  } else if (memcmp(&current, &before[i].action[latest], sizeof(current)) != 0) {
    uint32_t next = latest % (PREVIOUS_MAX - 1) + 1; /* never 0 */
    before[i].action[next] = current;
    __atomic_store_n(&before[i].latest, next, __ATOMIC_RELEASE);
  }
  return sigaction(signals[i], &ours, NULL);
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
  for (unsigned i = 0; i < SIGNALS; i++) {
    if (install(i) != 0) return -1;
  }
  return 0;
}
