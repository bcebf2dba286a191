/* Signal actions: the handlers of SIGSEGV, SIGBUS and SIGTRAP are dsm's from the first session on, and the program's
 * own are called by them.
 *
 * Invariant: once a session has been joined, no call of the C library changes what the kernel does at SIGSEGV, SIGBUS
 * and SIGTRAP. The program's actions are kept here: sigaction() and its relatives (signal_calls.c) read and write them,
 * so that the order in which program and dsm install theirs makes no difference, and the program's handler gets what is
 * not dsm's, with the mask, flags and siginfo that the kernel would have given it. This is what the JVM's libjsig does
 * for it.
 *
 * Across exec() the kernel keeps what is ignored and resets handlers, so an action SIG_IGN that is kept here becomes the
 * default in the executed program. posix_spawn() and system() leave no moment at which it could be put back.
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

#include "trap/actions.h"
#include "trap/kernel_action.h"
#include "trap/syscall.h"

#define STAND_IN_MARK 0x64736d /* si_errno of a SIGSEGV sent on as the stand-in */

static const int kept[] = {SIGSEGV, SIGBUS, SIGTRAP, DSM_STAND_IN};
#define KEPT (sizeof(kept) / sizeof(kept[0]))

/* The actions that the program has set: two versions of each, one of them current. */
static struct dsm_action versions[KEPT][2];
static uint8_t in_force[KEPT];
/* The actions before dsm's first: their handlers cannot chain to dsm. */
static struct dsm_action bottom[KEPT];
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

static bool is_handler(const struct dsm_action *action) {
  return (action->flags & SA_SIGINFO) != 0 || (action->handler != SIG_DFL && action->handler != SIG_IGN);
}

static const struct dsm_action *program(unsigned i) {
  return &versions[i][in_force[i]];
}

bool dsm_action_has_handler(int signo) {
  int i = index_of(signo);
  return i >= 0 && is_handler(program((unsigned)i));
}

/* Sets an action of the program. Lock held. */
static void set_program(unsigned i, struct dsm_action action) {
  uint8_t other = !in_force[i];
  versions[i][other] = action;
  __atomic_store_n(&in_force[i], other, __ATOMIC_RELEASE);
}

/* SA_RESTART is the program's: dsm's faults interrupt no system call. All others do as long as it has no handler. */
static long install(unsigned i) {
  struct dsm_kernel_action action = {.handler = (uintptr_t)ours[i],
                                     .flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER,
                                     .restorer = (uintptr_t)dsm_restore_frame,
                                     .mask = ~0ull};
  if (!is_handler(program(i)) || (program(i)->flags & SA_RESTART) != 0) action.flags |= SA_RESTART;
  return dsm_kernel_action(kept[i], &action, NULL);
}

void dsm_action_default(int signo) {
  struct dsm_kernel_action action = {
      .handler = (uintptr_t)SIG_DFL, .flags = SA_RESTORER, .restorer = (uintptr_t)dsm_restore_frame};
  if (signo == SIGSEGV) dsm_run_record_seen();
  dsm_kernel_action(signo, &action, NULL);
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
    struct dsm_kernel_action action;
    if (index_of(signo) >= 0 || dsm_kernel_action(signo, NULL, &action) != 0) continue;
    if (action.handler == (uintptr_t)SIG_DFL || action.handler == (uintptr_t)SIG_IGN) continue;
    if ((action.mask & DSM_SIGNAL_BIT(SIGSEGV)) == 0) continue;
    action.mask = dsm_mask_inward(action.mask);
    dsm_kernel_action(signo, &action, NULL);
  }
}

static int take(void) {
  long result = 0;
  uint64_t before;
  lock(&before);
  open_masks_of_handlers();
  for (unsigned i = 0; i < KEPT && result == 0; i++) {
    struct dsm_kernel_action current;
    result = dsm_kernel_action(kept[i], NULL, &current);
    if (result != 0 || current.handler == (uintptr_t)ours[i]) continue;
    struct dsm_action found = {.mask = dsm_mask_outward(current.mask),
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

bool dsm_action_is_kept(int signo) {
  return index_of(signo) >= 0 && are_taken();
}

void dsm_action_exchange(int signo, const struct dsm_action *action, struct dsm_action *old) {
  unsigned i = (unsigned)index_of(signo);
  uint64_t before;
  lock(&before);
  *old = *program(i);
  if (action != NULL) {
    set_program(i, *action);
    install(i);
  }
  unlock(&before);
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
  struct dsm_action action = direct ? *program((unsigned)i) : bottom[i];
  if (is_handler(&action) && (action.flags & SA_RESETHAND) != 0) {
    const struct dsm_action none = {.handler = SIG_DFL};
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
