/* Signal actions: the handlers of SIGSEGV, SIGBUS and SIGTRAP are dsm's from the first session on, and the program's
 * own are called by them.
 *
 * Invariant: once a session has been joined, no call of the C library changes what the kernel does at SIGSEGV, SIGBUS
 * and SIGTRAP. The program's actions are kept here: sigaction() and its relatives read and write those, so that the
 * order in which program and dsm install theirs makes no difference, and the program's handler gets what is not dsm's,
 * with the mask, flags and siginfo that the kernel would have given it. This is what the JVM's libjsig does for it.
 *
 * SIGSTKFLT is dsm's too (signal_mask.c): one that carries the mark is a SIGSEGV that was sent while the program had
 * SIGSEGV blocked, and goes to the program's action for SIGSEGV.
 *
 * dsm's own are installed by the raw system call: sanitizers stand in front of sigaction() and may do nothing, or call
 * handlers late. What replaces them that way is noticed at the next dsm_open(), and when direct mode ends.
 *
 * The lock is held with all signals blocked, for as long as a few words are copied. A fork may come while another
 * thread has it: an action is written beside the one in force and then made so, so that a child finds the old or the
 * new. */
#define _GNU_SOURCE
#include "trap/signals.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trap/syscall.h"
#include "base/next.h"

#define EXPORT __attribute__((weak, visibility("default")))
#define STAND_IN_MARK 0x64736d /* si_errno of a SIGSEGV sent on as the stand-in */

static const int kept[] = {SIGSEGV, SIGBUS, SIGTRAP, DSM_STAND_IN};
#define KEPT (sizeof(kept) / sizeof(kept[0]))

/* Of a struct sigaction what counts: the alternate stack that dsm's handlers run on may be small. The mask is in
 * program form. */
struct action {
  sighandler_t handler;
  uint64_t mask;
  int flags;
};

/* The actions that the program has set: two versions of each, one of them current. */
static struct action versions[KEPT][2];
static uint8_t in_force[KEPT];
/* The actions before dsm's first: their handlers cannot chain to dsm. */
static struct action bottom[KEPT];
static dsm_handler *ours[KEPT];
static uint32_t locked;
static pid_t taken_by; /* the process whose actions are kept here; 0: none yet */

static int index_of(int signo) {
  for (unsigned i = 0; i < KEPT; i++) {
    if (kept[i] == signo) return (int)i;
  }
  return -1;
}

static void lock(uint64_t *before) {
  dsm_signals_block(before);
  while (__atomic_exchange_n(&locked, 1, __ATOMIC_ACQUIRE) != 0) dsm_syscall(SYS_sched_yield, 0, 0, 0, 0);
}

static void unlock(const uint64_t *before) {
  __atomic_store_n(&locked, 0, __ATOMIC_RELEASE);
  dsm_signals_restore(before);
}

/* ---- the kernel's actions ---- */

struct kernel_action {
  uintptr_t handler;
  uint64_t flags;
  uintptr_t restorer;
  uint64_t mask;
};

#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000
#endif

/* Debuggers know a signal frame by this name, unwinders by these very bytes. */
extern void dsm_restore_frame(void) __asm__("__restore_rt") __attribute__((visibility("hidden")));
__asm__(".pushsection .text\n"
        ".type __restore_rt, @function\n"
        ".hidden __restore_rt\n"
        ".globl __restore_rt\n"
        "  nop\n"
        "__restore_rt:\n"
        "  .byte 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05\n"
        ".size __restore_rt, . - __restore_rt\n"
        ".popsection\n");

static long kernel_action(int signo, const struct kernel_action *new, struct kernel_action *old) {
  return dsm_syscall(SYS_rt_sigaction, signo, (long)new, (long)old, DSM_SIGSET_BYTES);
}

static void to_kernel(const struct sigaction *from, struct kernel_action *to) {
  memcpy(&to->handler, &from->sa_handler, sizeof(to->handler));
  to->flags = (unsigned)from->sa_flags | SA_RESTORER;
  to->restorer = (uintptr_t)dsm_restore_frame;
  memcpy(&to->mask, &from->sa_mask, sizeof(to->mask));
}

static void from_kernel(const struct kernel_action *from, struct sigaction *to) {
  memset(to, 0, sizeof(*to));
  memcpy(&to->sa_handler, &from->handler, sizeof(from->handler));
  to->sa_flags = (int)(from->flags & ~(uint64_t)SA_RESTORER);
  memcpy(&to->sa_mask, &from->mask, sizeof(from->mask));
}

static int system_sigaction(int signo, const struct sigaction *action, struct sigaction *old) {
  struct kernel_action new, was;
  if (action != NULL) to_kernel(action, &new);
  long result = kernel_action(signo, action != NULL ? &new : NULL, old != NULL ? &was : NULL);
  if (result < 0) {
    errno = (int)-result;
    return -1;
  }
  if (old != NULL) from_kernel(&was, old);
  return 0;
}

static bool is_handler(const struct action *action) {
  return (action->flags & SA_SIGINFO) != 0 || (action->handler != SIG_DFL && action->handler != SIG_IGN);
}

static const struct action *program(unsigned i) {
  return &versions[i][in_force[i]];
}

bool dsm_action_has_handler(int signo) {
  int i = index_of(signo);
  return i >= 0 && is_handler(program((unsigned)i));
}

/* Sets an action of the program. Lock held. */
static void set_program(unsigned i, struct action action) {
  uint8_t other = !in_force[i];
  versions[i][other] = action;
  __atomic_store_n(&in_force[i], other, __ATOMIC_RELEASE);
}

/* SA_RESTART is the program's: dsm's faults interrupt no system call. All others do as long as it has no handler. */
static long install(unsigned i) {
  struct kernel_action action = {.handler = (uintptr_t)ours[i],
                                 .flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER,
                                 .restorer = (uintptr_t)dsm_restore_frame,
                                 .mask = ~0ull};
  if (!is_handler(program(i)) || (program(i)->flags & SA_RESTART) != 0) action.flags |= SA_RESTART;
  return kernel_action(kept[i], &action, NULL);
}

void dsm_action_default(int signo) {
  struct kernel_action action = {
      .handler = (uintptr_t)SIG_DFL, .flags = SA_RESTORER, .restorer = (uintptr_t)dsm_restore_frame};
  if (signo == SIGSEGV) dsm_run_record_seen();
  kernel_action(signo, &action, NULL);
}

static void outward(struct sigaction *action) {
  uint64_t mask;
  memcpy(&mask, &action->sa_mask, sizeof(mask));
  mask = dsm_mask_outward(mask);
  memcpy(&action->sa_mask, &mask, sizeof(mask));
}

/* ---- taking them ---- */

static long self(void) {
  return dsm_syscall(SYS_gettid, 0, 0, 0, 0);
}

static void raise_here(int signo) {
  dsm_syscall(SYS_tgkill, getpid(), self(), signo, 0);
}

/* Handles a SIGSEGV that was sent while the program had it blocked, or a SIGSTKFLT that was sent. */
static void on_stand_in(int signo, siginfo_t *info, void *context) {
  int saved_errno = errno;
  if (info->si_errno == STAND_IN_MARK && info->si_code <= 0) {
    info->si_errno = 0;
    info->si_signo = signo = SIGSEGV;
  }
  dsm_action_chain(signo, info, context, true);
  errno = saved_errno;
}

/* Corrects handlers of other signals that were set before this library was loaded, with a mask that blocks SIGSEGV. */
static void open_masks_of_handlers(void) {
  for (int signo = 1; signo <= SIGRTMAX; signo++) {
    struct kernel_action action;
    if (index_of(signo) >= 0 || kernel_action(signo, NULL, &action) != 0) continue;
    if (action.handler == (uintptr_t)SIG_DFL || action.handler == (uintptr_t)SIG_IGN) continue;
    if ((action.mask & DSM_SIGNAL_BIT(SIGSEGV)) == 0) continue;
    action.mask = dsm_mask_inward(action.mask);
    kernel_action(signo, &action, NULL);
  }
}

static int take(void) {
  long result = 0;
  uint64_t before;
  lock(&before);
  open_masks_of_handlers();
  for (unsigned i = 0; i < KEPT && result == 0; i++) {
    struct kernel_action current;
    result = kernel_action(kept[i], NULL, &current);
    if (result != 0 || current.handler == (uintptr_t)ours[i]) continue;
    struct action found = {.mask = dsm_mask_outward(current.mask),
                           .flags = (int)(current.flags & ~(uint64_t)SA_RESTORER)};
    memcpy(&found.handler, &current.handler, sizeof(found.handler));
    set_program(i, found);
    if (taken_by == 0) bottom[i] = found;
    result = install(i);
  }
  if (result == 0) __atomic_store_n(&taken_by, getpid(), __ATOMIC_RELEASE);
  unlock(&before);
  if (result == 0) return 0;
  errno = (int)-result;
  return -1;
}

int dsm_actions_take(dsm_handler *on_fault, dsm_handler *on_trap) {
  ours[0] = ours[1] = on_fault;
  ours[2] = on_trap;
  ours[3] = on_stand_in;
  return take();
}

/* Returns whether the actions here belong to this process: not in the child of a vfork, which shares this memory but
 * not its actions. */
static bool are_taken(void) {
  pid_t by = __atomic_load_n(&taken_by, __ATOMIC_ACQUIRE);
  return by != 0 && by == getpid();
}

void dsm_actions_retake(void) {
  if (are_taken()) take();
}

void dsm_actions_in_child(void) {
  __atomic_store_n(&locked, 0, __ATOMIC_RELEASE);
  if (taken_by != 0) taken_by = getpid();
}

/* ---- chaining ---- */

/* Defers a SIGSEGV that was sent (not caused by an instruction) while the program has it blocked. Returns true if it is
 * now pending as the stand-in. */
static bool defer(siginfo_t *info, uint64_t mask) {
  if (info->si_code > 0 || (mask & DSM_SIGNAL_BIT(DSM_STAND_IN)) == 0) return false;
  info->si_signo = DSM_STAND_IN;
  info->si_errno = STAND_IN_MARK;
  long process = getpid(), thread = self();
  /* Send it to the same target: kill() means any thread that has the signal unblocked. The kernel accepts a siginfo of
   * kill() only from a thread to itself. */
  if (info->si_code == SI_TKILL || (info->si_code == SI_USER && thread != process)) {
    dsm_syscall(SYS_rt_tgsigqueueinfo, process, thread, DSM_STAND_IN, (long)info);
  } else {
    dsm_syscall(SYS_rt_sigqueueinfo, process, DSM_STAND_IN, (long)info, 0);
  }
  return true;
}

/* Lets the process die of the signal. A faulting instruction runs again and faults again; a signal that was sent, or
 * that comes after its instruction (int3), would not come again, so this raises it. */
static void die_of(int signo, bool by_instruction) {
  dsm_action_default(signo);
  if (!by_instruction || signo == SIGTRAP) raise_here(signo);
}

void dsm_action_chain(int signo, siginfo_t *info, ucontext_t *context, bool direct) {
  int i = index_of(signo);
  bool by_instruction = info->si_code > 0;
  uint64_t mask, own, before;
  memcpy(&mask, &context->uc_sigmask, sizeof(mask));
  if (signo == SIGSEGV && (mask & DSM_SIGNAL_BIT(DSM_STAND_IN)) != 0) {
    if (defer(info, mask)) return;
    if (by_instruction) {
      die_of(signo, true); /* as the kernel does with what is blocked */
      return;
    }
  }
  lock(&before);
  struct action action = direct ? *program((unsigned)i) : bottom[i];
  if (is_handler(&action) && (action.flags & SA_RESETHAND) != 0) {
    const struct action none = {.handler = SIG_DFL};
    if (direct) {
      set_program((unsigned)i, none);
    } else {
      bottom[i] = none;
    }
  }
  unlock(&before);
  if (!is_handler(&action)) {
    /* The kernel does not allow a fault of an instruction to be ignored: it is fatal, as by default. */
    if (action.handler != SIG_IGN || by_instruction) die_of(signo, by_instruction);
    return;
  }
  /* The mask it would have: the interrupted one, its own, and the signal itself. Ours ends with our return. */
  own = action.mask;
  if ((action.flags & SA_NODEFER) == 0) own |= DSM_SIGNAL_BIT(signo);
  dsm_signals_set(mask | dsm_mask_inward(own));
  if ((action.flags & SA_SIGINFO) != 0) {
    ((dsm_handler *)(void *)action.handler)(signo, info, context);
  } else {
    action.handler(signo);
  }
  /* A handler may change the mask that it returns to. */
  memcpy(&mask, &context->uc_sigmask, sizeof(mask));
  if ((mask & DSM_SIGNAL_BIT(SIGSEGV)) != 0) {
    mask = dsm_mask_inward(mask);
    memcpy(&context->uc_sigmask, &mask, sizeof(mask));
  }
}

/* ---- the calls of the program ---- */

static struct {
  int (*sigaction)(int, const struct sigaction *, struct sigaction *);
  sighandler_t (*signal)(int, sighandler_t);
  sighandler_t (*sysv_signal)(int, sighandler_t);
  sighandler_t (*sigset)(int, sighandler_t);
  int (*siginterrupt)(int, int);
} real = {.sigaction = system_sigaction};

__attribute__((constructor)) static void find_real_calls(void) {
  dsm_find_next(&real.sigaction, "sigaction");
  dsm_find_next(&real.signal, "signal");
  dsm_find_next(&real.sysv_signal, "__sysv_signal");
  dsm_find_next(&real.sigset, "sigset");
  dsm_find_next(&real.siginterrupt, "siginterrupt");
}

/* The real call, with the masks of handlers as they have to be. */
static int forward(int signo, const struct sigaction *action, struct sigaction *old) {
  if (dsm_is_second()) return real.sigaction(signo, action, old);
  struct sigaction new, was;
  if (action != NULL) {
    uint64_t mask;
    new = *action;
    memcpy(&mask, &new.sa_mask, sizeof(mask));
    mask = dsm_mask_inward(mask);
    memcpy(&new.sa_mask, &mask, sizeof(mask));
  }
  int result = real.sigaction(signo, action != NULL ? &new : NULL, old != NULL ? &was : NULL);
  if (result == 0 && old != NULL) {
    outward(&was);
    *old = was;
  }
  return result;
}

EXPORT int sigaction(int signo, const struct sigaction *restrict action, struct sigaction *restrict old) {
  int i = index_of(signo);
  if (i < 0 || !are_taken()) return forward(signo, action, old);
  /* Program memory is touched outside the lock: it may be the map. */
  struct action new, was;
  uint64_t before;
  if (action != NULL) {
    new = (struct action){.handler = action->sa_handler, .flags = action->sa_flags};
    memcpy(&new.mask, &action->sa_mask, sizeof(new.mask));
  }
  lock(&before);
  was = *program((unsigned)i);
  if (action != NULL) {
    set_program((unsigned)i, new);
    install((unsigned)i);
  }
  unlock(&before);
  if (old != NULL) {
    memset(old, 0, sizeof(*old));
    old->sa_handler = was.handler;
    old->sa_flags = was.flags;
    memcpy(&old->sa_mask, &was.mask, sizeof(was.mask));
  }
  return 0;
}

static sighandler_t set(int signo, sighandler_t handler, int flags, bool blocks_itself) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
  sigemptyset(&action.sa_mask);
  if (blocks_itself) sigaddset(&action.sa_mask, signo);
  return sigaction(signo, &action, &old) != 0 ? SIG_ERR : old.sa_handler;
}

/* Implements the BSD signal(), which glibc uses. */
static sighandler_t set_bsd(int signo, sighandler_t handler) {
  if (real.signal != NULL && (index_of(signo) < 0 || !are_taken())) return real.signal(signo, handler);
  return set(signo, handler, SA_RESTART, true);
}

EXPORT sighandler_t(signal)(int signo, sighandler_t handler) {
  return set_bsd(signo, handler);
}

EXPORT sighandler_t bsd_signal(int signo, sighandler_t handler) {
  return set_bsd(signo, handler);
}

EXPORT sighandler_t ssignal(int signo, sighandler_t handler) {
  return set_bsd(signo, handler);
}

static sighandler_t set_sysv(int signo, sighandler_t handler) {
  if (real.sysv_signal != NULL && (index_of(signo) < 0 || !are_taken())) return real.sysv_signal(signo, handler);
  return set(signo, handler, (int)SA_RESETHAND | SA_NODEFER, false);
}

sighandler_t __sysv_signal(int signo, sighandler_t handler);

EXPORT sighandler_t __sysv_signal(int signo, sighandler_t handler) {
  return set_sysv(signo, handler);
}

EXPORT sighandler_t sysv_signal(int signo, sighandler_t handler) {
  return set_sysv(signo, handler);
}

/* Sets a handler and unblocks the signal, or blocks it (SIG_HOLD). */
EXPORT sighandler_t sigset(int signo, sighandler_t handler) {
  if (real.sigset != NULL && (index_of(signo) < 0 || !are_taken())) return real.sigset(signo, handler);
  sigset_t one, mask;
  sigemptyset(&one);
  if (sigaddset(&one, signo) != 0) return SIG_ERR;
  struct sigaction was;
  if (handler == SIG_HOLD) {
    if (sigprocmask(SIG_BLOCK, &one, &mask) != 0 || sigaction(signo, NULL, &was) != 0) return SIG_ERR;
  } else {
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    if (sigaction(signo, &action, &was) != 0 || sigprocmask(SIG_UNBLOCK, &one, &mask) != 0) return SIG_ERR;
  }
  return sigismember(&mask, signo) ? SIG_HOLD : was.sa_handler;
}

EXPORT int sigignore(int signo) {
  return set(signo, SIG_IGN, 0, false) == SIG_ERR ? -1 : 0;
}

EXPORT int siginterrupt(int signo, int interrupt) {
  if (real.siginterrupt != NULL && (index_of(signo) < 0 || !are_taken())) return real.siginterrupt(signo, interrupt);
  struct sigaction action;
  if (sigaction(signo, NULL, &action) != 0) return -1;
  action.sa_flags = interrupt ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
  return sigaction(signo, &action, NULL);
}
