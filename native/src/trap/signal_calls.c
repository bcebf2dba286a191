/* sigaction() and its relatives: they read and write the program's own actions for the signals that are dsm's
 * (signal_action.c), and pass on all others with SIGSEGV open in their masks. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>

#include "base/next.h"
#include "trap/actions.h"
#include "trap/kernel_action.h"
#include "trap/signals.h"

#define EXPORT __attribute__((weak, visibility("default")))

static void outward(struct sigaction *action) {
  uint64_t mask;
  memcpy(&mask, &action->sa_mask, sizeof(mask));
  mask = dsm_mask_outward(mask);
  memcpy(&action->sa_mask, &mask, sizeof(mask));
}

static struct {
  int (*sigaction)(int, const struct sigaction *, struct sigaction *);
  sighandler_t (*signal)(int, sighandler_t);
  sighandler_t (*sysv_signal)(int, sighandler_t);
  sighandler_t (*sigset)(int, sighandler_t);
  int (*siginterrupt)(int, int);
} real = {.sigaction = dsm_system_sigaction};

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
  if (!dsm_action_is_kept(signo)) return forward(signo, action, old);
  /* Program memory is touched outside the lock: it may be the map. */
  struct dsm_action new, was;
  if (action != NULL) {
    new = (struct dsm_action){.handler = action->sa_handler, .flags = action->sa_flags};
    memcpy(&new.mask, &action->sa_mask, sizeof(new.mask));
  }
  dsm_action_exchange(signo, action != NULL ? &new : NULL, &was);
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
  if (real.signal != NULL && !dsm_action_is_kept(signo)) return real.signal(signo, handler);
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
  if (real.sysv_signal != NULL && !dsm_action_is_kept(signo)) return real.sysv_signal(signo, handler);
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
  if (real.sigset != NULL && !dsm_action_is_kept(signo)) return real.sigset(signo, handler);
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
  if (real.siginterrupt != NULL && !dsm_action_is_kept(signo)) return real.siginterrupt(signo, interrupt);
  struct sigaction action;
  if (sigaction(signo, NULL, &action) != 0) return -1;
  action.sa_flags = interrupt ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
  return sigaction(signo, &action, NULL);
}
