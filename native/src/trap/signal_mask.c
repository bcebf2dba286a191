/* Signal masks: SIGSEGV is never blocked, and the program does not notice.
 *
 * Invariant: no call of the C library leaves SIGSEGV blocked in the kernel's mask of a thread. A store to the map is a
 * SIGSEGV, and the kernel kills a thread that has it blocked, without a word. Programs block it without meaning to:
 * sigfillset() before pthread_sigmask(), in sa_mask, before a thread is made that waits for signals.
 *
 * So the calls that change masks are interposed, and where the program says SIGSEGV the kernel is given SIGSTKFLT, a
 * signal that Linux has a number for and never sends. Both ways: what is read back shows SIGSEGV. Because the kernel
 * keeps the bit, everything that saves, inherits or restores a mask does the right thing without being interposed:
 * handlers and their return, fork, threads, siglongjmp, contexts, exec. No state is kept here, so the calls are as safe
 * in handlers and in the child of a vfork as those they stand for.
 *
 *   the program blocks SIGSEGV, and ...                    what happens
 *   stores to the map                                      captured, as ever
 *   faults elsewhere                                       dies of SIGSEGV, as it would (dsm_action_chain)
 *   is sent a SIGSEGV                                      dsm's handler sends it on as SIGSTKFLT, which stays pending
 *                                                          until the program unblocks SIGSEGV or waits for it
 *
 * The stand-in's own bit is not kept: SIGSTKFLT reads as blocked if SIGSEGV is and so are the signals beside SIGSTKFLT,
 * which is what a filled set looks like.
 *
 * Not seen: system calls made without the C library, and a handler that puts SIGSEGV into the mask of the context it
 * returns to. */
#define _GNU_SOURCE
#include "trap/signals.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trap/region.h"
#include "trap/syscall.h"
#include "base/next.h"

#define EXPORT __attribute__((weak, visibility("default")))
#define SEGV DSM_SIGNAL_BIT(SIGSEGV)
#define STAND_IN DSM_SIGNAL_BIT(DSM_STAND_IN)
/* Of thread cancellation and setuid(): the C library never blocks them. */
#define GLIBC_OWN (DSM_SIGNAL_BIT(32) | DSM_SIGNAL_BIT(33))
#define NEIGHBOURS (DSM_SIGNAL_BIT(SIGTERM) | DSM_SIGNAL_BIT(SIGCHLD))

uint64_t dsm_mask_inward(uint64_t program) {
  uint64_t kernel = program & ~(SEGV | STAND_IN);
  return (program & SEGV) != 0 ? kernel | STAND_IN : kernel;
}

uint64_t dsm_mask_outward(uint64_t kernel) {
  uint64_t program = kernel & ~STAND_IN;
  if ((kernel & STAND_IN) != 0) program |= SEGV;
  if ((program & SEGV) != 0 && (program & NEIGHBOURS) == NEIGHBOURS) program |= STAND_IN;
  return program;
}

void dsm_signals_block(uint64_t *before) {
  uint64_t all = ~0ull;
  dsm_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)before, DSM_SIGSET_BYTES);
}

void dsm_signals_set(uint64_t mask) {
  dsm_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, DSM_SIGSET_BYTES);
}

void dsm_signals_restore(const uint64_t *before) {
  dsm_signals_set(*before);
}

void dsm_mask_open(void) {
  uint64_t mask = 0;
  dsm_syscall(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, DSM_SIGSET_BYTES);
  if ((mask & SEGV) != 0) dsm_signals_set(dsm_mask_inward(mask));
}

/* ---- one libdsm of two ---- */

static bool second;

bool dsm_is_second(void) {
  return second;
}

/* ---- sets ---- */

static uint64_t bits_of(const sigset_t *set) {
  uint64_t bits;
  memcpy(&bits, set, sizeof(bits));
  return bits;
}

static sigset_t *with_bits(sigset_t *set, uint64_t bits) {
  memset(set, 0, sizeof(*set));
  memcpy(set, &bits, sizeof(bits));
  return set;
}

/* Converts a mask to be set, or used in a wait, to kernel form. NULL stays NULL. */
static const sigset_t *inward(const sigset_t *set, sigset_t *room) {
  return set == NULL || second ? set : with_bits(room, dsm_mask_inward(bits_of(set)));
}

/* Converts a set of signals to wait for: the stand-in represents a SIGSEGV that was sent while it was blocked. */
static const sigset_t *awaited(const sigset_t *set, sigset_t *room) {
  uint64_t bits = bits_of(set);
  return with_bits(room, (bits & SEGV) != 0 && !second ? bits | STAND_IN : bits);
}

/* Returns memory that the kernel can write a set to; it cannot write to the map. */
static sigset_t *landing(sigset_t *old, sigset_t *room) {
  return dsm_regions_near(old, sizeof(*old)) ? room : old;
}

/* ---- the real calls; until the constructor has run, and in a static program, the system's own ---- */

static int failed(long result) {
  if (result >= 0) return (int)result;
  errno = (int)-result;
  return -1;
}

static int system_sigsuspend(const sigset_t *set) {
  return failed(dsm_syscall(SYS_rt_sigsuspend, (long)set, DSM_SIGSET_BYTES, 0, 0));
}

static int system_sigpending(sigset_t *set) {
  return failed(dsm_syscall(SYS_rt_sigpending, (long)set, DSM_SIGSET_BYTES, 0, 0));
}

static int system_sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout) {
  int signo = failed(dsm_syscall(SYS_rt_sigtimedwait, (long)set, (long)info, (long)timeout, DSM_SIGSET_BYTES));
  if (signo > 0 && info->si_code == SI_TKILL) info->si_code = SI_USER; /* as glibc does */
  return signo;
}

static int system_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
  struct timespec left;
  if (timeout != NULL) left = *timeout; /* the kernel writes to it */
  return (int)syscall(SYS_ppoll, fds, count, timeout != NULL ? &left : NULL, mask, DSM_SIGSET_BYTES);
}

static int system_pselect(int count, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout,
                          const sigset_t *mask) {
  struct timespec left;
  if (timeout != NULL) left = *timeout;
  struct {
    const sigset_t *mask;
    size_t bytes;
  } sixth = {mask, DSM_SIGSET_BYTES};
  return (int)syscall(SYS_pselect6, count, r, w, e, timeout != NULL ? &left : NULL, &sixth);
}

static int system_epoll_pwait(int epoll, struct epoll_event *events, int most, int timeout, const sigset_t *mask) {
  return (int)syscall(SYS_epoll_pwait, epoll, events, most, timeout, mask, DSM_SIGSET_BYTES);
}

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

static int system_epoll_pwait2(int epoll, struct epoll_event *events, int most, const struct timespec *timeout,
                               const sigset_t *mask) {
  return (int)syscall(SYS_epoll_pwait2, epoll, events, most, timeout, mask, DSM_SIGSET_BYTES);
}

static int system_signalfd(int fd, const sigset_t *mask, int flags) {
  return failed(dsm_syscall(SYS_signalfd4, fd, (long)mask, DSM_SIGSET_BYTES, flags));
}

static struct {
  int (*pthread_sigmask)(int, const sigset_t *, sigset_t *); /* only if this is the second libdsm */
  int (*sigsuspend)(const sigset_t *);
  int (*sigpending)(sigset_t *);
  int (*sigtimedwait)(const sigset_t *, siginfo_t *, const struct timespec *);
  int (*ppoll)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
  int (*pselect)(int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *);
  int (*epoll_pwait)(int, struct epoll_event *, int, int, const sigset_t *);
  int (*epoll_pwait2)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *);
  int (*signalfd)(int, const sigset_t *, int);
} real = {NULL,           system_sigsuspend,  system_sigpending,   system_sigtimedwait, system_ppoll,
          system_pselect, system_epoll_pwait, system_epoll_pwait2, system_signalfd};

/* The symbol by which the first libdsm of the process is found: libdsm.so binds its own functions to itself. */
__attribute__((visibility("default"))) bool dsm_interposes(void);

bool dsm_interposes(void) {
  return !second;
}

__attribute__((constructor)) static void find_real_calls(void) {
  void *first = dlsym_2_2_5 == NULL ? NULL : dlsym_2_2_5(RTLD_DEFAULT, "dsm_interposes");
  dsm_find_next(&real.pthread_sigmask, "pthread_sigmask");
  second = first != NULL && first != (void *)dsm_interposes && real.pthread_sigmask != NULL;
  dsm_find_next(&real.sigsuspend, "sigsuspend");
  dsm_find_next(&real.sigpending, "sigpending");
  dsm_find_next(&real.sigtimedwait, "sigtimedwait");
  dsm_find_next(&real.ppoll, "ppoll");
  dsm_find_next(&real.pselect, "pselect");
  dsm_find_next(&real.epoll_pwait, "epoll_pwait");
  dsm_find_next(&real.epoll_pwait2, "epoll_pwait2");
  dsm_find_next(&real.signalfd, "signalfd");
  if (!second) dsm_mask_open(); /* a mask that the program was started with */
}

/* ---- the mask of a thread ---- */

/* Lets the first libdsm change the mask; it does not know the maps of this one. */
static int change_by_first(int how, const sigset_t *set, sigset_t *old) {
  sigset_t out, *landed = landing(old, &out);
  int error = real.pthread_sigmask(how, set, landed);
  if (error == 0 && landed == &out) memcpy(old, &out, DSM_SIGSET_BYTES);
  return error;
}

/* By the system call, with the eight bytes that it reads and writes: handlers change masks too, and may have little
 * stack. 0, or an error number. */
static int change(int how, const sigset_t *set, sigset_t *old) {
  if (second) return change_by_first(how, set, old);
  uint64_t in = 0, out;
  if (set != NULL) {
    in = dsm_mask_inward(bits_of(set)) & ~GLIBC_OWN;
    /* Also what a system call that was not seen has blocked. */
    if (how == SIG_UNBLOCK) in |= bits_of(set) & SEGV;
  }
  void *landed = dsm_regions_near(old, DSM_SIGSET_BYTES) ? (void *)&out : old;
  long result = dsm_syscall(SYS_rt_sigprocmask, how, set != NULL ? (long)&in : 0, (long)landed, DSM_SIGSET_BYTES);
  if (result == 0 && old != NULL) {
    memcpy(&out, landed, sizeof(out));
    out = dsm_mask_outward(out);
    memcpy(old, &out, sizeof(out));
  }
  return (int)-result;
}

EXPORT int sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
  return failed(-change(how, set, old));
}

EXPORT int pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
  return change(how, set, old);
}

static int change_one(int how, int signo) {
  sigset_t one;
  sigemptyset(&one);
  return sigaddset(&one, signo) != 0 ? -1 : failed(-change(how, &one, NULL));
}

EXPORT int sighold(int signo) {
  return change_one(SIG_BLOCK, signo);
}

EXPORT int sigrelse(int signo) {
  return change_one(SIG_UNBLOCK, signo);
}

/* Those of 4.2BSD, whose masks are an int. */
static int change_bits(int how, int bits) {
  sigset_t set, old;
  int error = change(how, with_bits(&set, (unsigned)bits), &old);
  return error != 0 ? failed(-error) : (int)bits_of(&old);
}

EXPORT int sigblock(int bits) {
  return change_bits(SIG_BLOCK, bits);
}

EXPORT int sigsetmask(int bits) {
  return change_bits(SIG_SETMASK, bits);
}

EXPORT int siggetmask(void) {
  return change_bits(SIG_BLOCK, 0);
}

EXPORT int sigpending(sigset_t *set) {
  sigset_t out, *landed = landing(set, &out);
  int result = real.sigpending(landed);
  if (result == 0) {
    uint64_t bits = bits_of(landed);
    if ((bits & STAND_IN) != 0 && !second) bits = (bits & ~STAND_IN) | SEGV;
    memcpy(set, &bits, sizeof(bits));
  }
  return result;
}

/* ---- masks while something is waited for ---- */

EXPORT int sigsuspend(const sigset_t *mask) {
  sigset_t in;
  return real.sigsuspend(inward(mask, &in));
}

int __xpg_sigpause(int signo);
int __sigpause(int signo_or_bits, int is_signo);
#undef sigpause

EXPORT int __xpg_sigpause(int signo) {
  sigset_t mask;
  if (sigprocmask(SIG_BLOCK, NULL, &mask) != 0 || sigdelset(&mask, signo) != 0) return -1;
  return sigsuspend(&mask);
}

EXPORT int __sigpause(int signo_or_bits, int is_signo) {
  sigset_t mask;
  return is_signo ? __xpg_sigpause(signo_or_bits) : sigsuspend(with_bits(&mask, (unsigned)signo_or_bits));
}

EXPORT int pselect(int count, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e,
                   const struct timespec *restrict timeout, const sigset_t *restrict mask) {
  sigset_t in;
  return real.pselect(count, r, w, e, timeout, inward(mask, &in));
}

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
  sigset_t in;
  return real.ppoll(fds, count, timeout, inward(mask, &in));
}

/* What -D_FORTIFY_SOURCE makes of it; `room` is the array's known size. */
_Noreturn void __chk_fail(void);
int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask, size_t room);

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
                       size_t room) {
  if (room / sizeof(*fds) < count) __chk_fail();
  return ppoll(fds, count, timeout, mask);
}

EXPORT int epoll_pwait(int epoll, struct epoll_event *events, int most, int timeout, const sigset_t *mask) {
  sigset_t in;
  return real.epoll_pwait(epoll, events, most, timeout, inward(mask, &in));
}

int epoll_pwait2(int epoll, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *mask);

EXPORT int epoll_pwait2(int epoll, struct epoll_event *events, int most, const struct timespec *timeout,
                        const sigset_t *mask) {
  sigset_t in;
  return real.epoll_pwait2(epoll, events, most, timeout, inward(mask, &in));
}

/* ---- waiting for signals ---- */

EXPORT int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info,
                        const struct timespec *restrict timeout) {
  sigset_t in;
  siginfo_t got;
  int signo = real.sigtimedwait(awaited(set, &in), &got, timeout);
  if (signo == DSM_STAND_IN && (bits_of(set) & SEGV) != 0 && !second) {
    got.si_signo = signo = SIGSEGV;
    got.si_errno = 0;
  }
  if (signo > 0 && info != NULL) *info = got;
  return signo;
}

EXPORT int sigwaitinfo(const sigset_t *restrict set, siginfo_t *restrict info) {
  return sigtimedwait(set, info, NULL);
}

EXPORT int sigwait(const sigset_t *restrict set, int *restrict signo) {
  int got;
  do {
    got = sigtimedwait(set, NULL, NULL);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno;
  *signo = got;
  return 0;
}

/* A SIGSEGV that was sent while it was blocked is read as a SIGSTKFLT. */
EXPORT int signalfd(int fd, const sigset_t *mask, int flags) {
  sigset_t in;
  return real.signalfd(fd, awaited(mask, &in), flags);
}
