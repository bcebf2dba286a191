/* Programs that do something with their signals while they store to the map. `signals CASE`: ends well if all is as it
 * would be without dsm, but for what examples/reference/limits.md names. One process, its map read-only. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* The old calls are tested too. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

extern char **environ;
sighandler_t bsd_signal(int signo, sighandler_t handler);

/* The compiler takes it that these call nothing of ours. */
#define THEN __asm__ volatile("" ::: "memory")
#define raise(signo) do { raise(signo); THEN; } while (0)
#define kill(pid, signo) do { kill(pid, signo); THEN; } while (0)
#define sigqueue(pid, signo, value) do { sigqueue(pid, signo, value); THEN; } while (0)

static volatile int *map;
static char *bytes;
static int stores;

/* A store that must be captured: the page is read-only. */
static void store(void) {
  map[0] = ++stores;
  CHECK(map[0] == stores);
  map[1] += 3; /* by another path of the library: read, changed, written */
  CHECK(map[1] == 3 * stores);
  /* And by a third, which runs the instruction aside. */
  double value = stores;
  __asm__ volatile("fldl %1; fstpt %0" : "=m"(*(volatile char(*)[10])(bytes + 512)) : "m"(value));
}

static sigset_t set_of(int signo) {
  sigset_t set;
  sigemptyset(&set);
  if (signo != 0) sigaddset(&set, signo);
  return set;
}

static sigset_t filled(void) {
  sigset_t set;
  sigfillset(&set);
  return set;
}

static sigset_t current(void) {
  sigset_t set;
  CHECK(pthread_sigmask(SIG_BLOCK, NULL, &set) == 0);
  return set;
}

/* Whether exactly the signals of `set` that can be blocked are. */
static int blocked_is(const sigset_t *set) {
  sigset_t now = current();
  for (int i = 1; i < 65; i++) {
    if (i != SIGKILL && i != SIGSTOP && i != 32 && i != 33 && sigismember(set, i) != sigismember(&now, i)) return 0;
  }
  return 1;
}

/* ---- masks ---- */

static void case_masks(void) {
  sigset_t all = filled(), none = set_of(0), one = set_of(SIGSEGV), old;
  CHECK(sigprocmask(SIG_SETMASK, &all, &old) == 0 && !sigismember(&old, SIGSEGV));
  store();
  CHECK(blocked_is(&all));
  CHECK(pthread_sigmask(SIG_UNBLOCK, &one, &old) == 0 && sigismember(&old, SIGSEGV) && sigismember(&old, SIGSTKFLT));
  sigset_t now = current();
  CHECK(!sigismember(&now, SIGSEGV));
  store();
  CHECK(pthread_sigmask(SIG_SETMASK, &none, NULL) == 0 && blocked_is(&none));
  CHECK(pthread_sigmask(SIG_BLOCK, &one, NULL) == 0 && blocked_is(&one));
  store();
  CHECK(pthread_sigmask(SIG_SETMASK, &none, NULL) == 0);
  CHECK(sighold(SIGSEGV) == 0 && blocked_is(&one));
  store();
  CHECK(sigrelse(SIGSEGV) == 0 && blocked_is(&none));
  CHECK(sigblock(1 << (SIGSEGV - 1)) == 0 && blocked_is(&one));
  store();
  CHECK(sigsetmask(0) == 1 << (SIGSEGV - 1) && blocked_is(&none) && siggetmask() == 0);
  /* Into the map, and from it. */
  sigset_t *shared = (sigset_t *)(bytes + 1024);
  *shared = one;
  CHECK(sigprocmask(SIG_BLOCK, shared, shared + 1) == 0 && blocked_is(&one) && !sigismember(shared + 1, SIGSEGV));
  CHECK(pthread_sigmask(SIG_SETMASK, shared + 1, shared + 2) == 0 && sigismember(shared + 2, SIGSEGV));
  CHECK(blocked_is(&none));
  CHECK(sigprocmask(77, &one, NULL) == -1 && errno == EINVAL && pthread_sigmask(77, &one, NULL) == EINVAL);
}

static void *store_in_thread(void *mask) {
  if (mask != NULL) CHECK(blocked_is(mask));
  store();
  return NULL;
}

static int store_in_c11_thread(void *nothing) {
  (void)nothing;
  store();
  return 7;
}

static void case_threads(void) {
  pthread_t thread, *shared = (pthread_t *)(bytes + 1024);
  sigset_t all = filled(), got;
  CHECK(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
  CHECK(pthread_create(&thread, NULL, store_in_thread, &all) == 0 && pthread_join(thread, NULL) == 0);
  CHECK(pthread_create(shared, NULL, store_in_thread, &all) == 0 && pthread_join(*shared, NULL) == 0);
  int result;
  thrd_t *standard = (thrd_t *)(bytes + 2048);
  CHECK(thrd_create(standard, store_in_c11_thread, NULL) == thrd_success);
  CHECK(thrd_join(*standard, &result) == thrd_success && result == 7);
  sigset_t none = set_of(0);
  CHECK(pthread_sigmask(SIG_SETMASK, &none, NULL) == 0);
#if __GLIBC_PREREQ(2, 32)
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setsigmask_np(&attributes, &all) == 0);
  CHECK(pthread_attr_getsigmask_np(&attributes, &got) == 0 && sigismember(&got, SIGSEGV));
  CHECK(pthread_create(&thread, &attributes, store_in_thread, &all) == 0 && pthread_join(thread, NULL) == 0);
  pthread_attr_destroy(&attributes);
#endif
}

/* ---- handlers that run with a mask ---- */

static volatile int handled;
static sigset_t inside;

static void on_other(int signo) {
  (void)signo;
  inside = current();
  store();
  handled++;
}

static void case_handler_mask(void) {
  sigset_t all = filled(), none = set_of(0);
  struct sigaction action = {.sa_handler = on_other, .sa_mask = all}, old;
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  CHECK(sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_handler == on_other && sigismember(&old.sa_mask, SIGSEGV));
  raise(SIGUSR1);
  CHECK(handled == 1 && sigismember(&inside, SIGSEGV) && blocked_is(&none));
  store();
}

static sigset_t with_open(int signo) {
  sigset_t mask = filled();
  sigdelset(&mask, signo);
  return mask;
}

/* Each waits with SIGSEGV blocked, and a handler that stores runs meanwhile. */
static void case_waits(void) {
  sigset_t all = filled(), waiting = with_open(SIGUSR1);
  struct sigaction action = {.sa_handler = on_other};
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  CHECK(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
  raise(SIGUSR1);
  CHECK(sigsuspend(&waiting) == -1 && errno == EINTR && handled == 1 && blocked_is(&all));
  raise(SIGUSR1);
  CHECK(ppoll(NULL, 0, NULL, &waiting) == -1 && errno == EINTR && handled == 2);
  raise(SIGUSR1);
  CHECK(pselect(0, NULL, NULL, NULL, NULL, &waiting) == -1 && errno == EINTR && handled == 3);
  int epoll = epoll_create1(0);
  struct epoll_event event;
  raise(SIGUSR1);
  CHECK(epoll_pwait(epoll, &event, 1, -1, &waiting) == -1 && errno == EINTR && handled == 4);
  raise(SIGUSR1);
  CHECK(sigpause(SIGUSR1) == -1 && errno == EINTR && handled == 5 && blocked_is(&all));
  CHECK(sigismember(&inside, SIGSEGV));
  store();
}

/* ---- a SIGSEGV that is sent ---- */

static siginfo_t seen;

static void on_info(int signo, siginfo_t *info, void *context) {
  (void)context;
  CHECK(signo == SIGSEGV);
  seen = *info;
  inside = current();
  store();
  handled++;
}

static void case_sent(void) {
  struct sigaction action = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO, .sa_mask = set_of(SIGUSR2)};
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  raise(SIGSEGV);
  CHECK(handled == 1 && seen.si_code == SI_TKILL && seen.si_pid == getpid() && seen.si_signo == SIGSEGV);
  CHECK(sigismember(&inside, SIGSEGV) && sigismember(&inside, SIGUSR2) && !sigismember(&inside, SIGUSR1));
  kill(getpid(), SIGSEGV);
  CHECK(handled == 2 && seen.si_code == SI_USER && seen.si_uid == getuid());
  union sigval value = {.sival_int = 42};
  sigqueue(getpid(), SIGSEGV, value);
  CHECK(handled == 3 && seen.si_code == SI_QUEUE && seen.si_value.sival_int == 42);

  /* Blocked, it waits, is seen to, and comes when it is unblocked. */
  sigset_t one = set_of(SIGSEGV), none = set_of(0), pending;
  CHECK(pthread_sigmask(SIG_BLOCK, &one, NULL) == 0);
  raise(SIGSEGV);
  CHECK(handled == 3 && sigpending(&pending) == 0 && sigismember(&pending, SIGSEGV) == 1);
  CHECK(!sigismember(&pending, SIGSTKFLT));
  store();
  CHECK(pthread_sigmask(SIG_SETMASK, &none, NULL) == 0);
  THEN;
  CHECK(handled == 4 && seen.si_code == SI_TKILL && seen.si_pid == getpid() && seen.si_signo == SIGSEGV);
  CHECK(seen.si_errno == 0 && blocked_is(&none));

  /* Or is waited for. */
  siginfo_t info;
  int signo;
  CHECK(pthread_sigmask(SIG_BLOCK, &one, NULL) == 0);
  raise(SIGSEGV);
  CHECK(sigwaitinfo(&one, &info) == SIGSEGV && info.si_signo == SIGSEGV && info.si_code == SI_USER);
  CHECK(info.si_errno == 0 && info.si_pid == getpid());
  kill(getpid(), SIGSEGV);
  CHECK(sigwait(&one, &signo) == 0 && signo == SIGSEGV);
  struct timespec now = {0};
  CHECK(sigtimedwait(&one, &info, &now) == -1 && errno == EAGAIN && handled == 4);
  /* And by a descriptor, under the name of its stand-in. */
  int fd = signalfd(-1, &one, SFD_CLOEXEC);
  struct signalfd_siginfo entry;
  raise(SIGSEGV);
  CHECK(read(fd, &entry, sizeof(entry)) == sizeof(entry) && entry.ssi_signo == SIGSTKFLT);
  CHECK(pthread_sigmask(SIG_SETMASK, &none, NULL) == 0 && handled == 4);
}

static pthread_barrier_t ready;

static void *wait_for_it(void *result) {
  sigset_t one = set_of(SIGSEGV);
  pthread_barrier_wait(&ready);
  int signo;
  CHECK(sigwait(&one, &signo) == 0);
  store();
  *(int *)result = signo;
  return NULL;
}

/* All threads block it, one waits for it, and the process is sent it. */
static void case_sent_to_waiter(void) {
  sigset_t all = filled();
  CHECK(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
  pthread_barrier_init(&ready, NULL, 2);
  pthread_t thread;
  int signo = 0;
  CHECK(pthread_create(&thread, NULL, wait_for_it, &signo) == 0);
  pthread_barrier_wait(&ready);
  kill(getpid(), SIGSEGV);
  pthread_join(thread, NULL);
  CHECK(signo == SIGSEGV);
}

static void case_ignored(void) {
  CHECK(signal(SIGSEGV, SIG_IGN) == SIG_DFL);
  raise(SIGSEGV);
  store();
  CHECK(signal(SIGSEGV, SIG_DFL) == SIG_IGN);
  store();
}

/* ---- the program's own faults ---- */

static int *volatile wild = (int *)16;
static sigjmp_buf back;

static void on_wild(int signo, siginfo_t *info, void *context) {
  (void)context;
  CHECK(signo == SIGSEGV && info->si_addr == (void *)wild && info->si_code == SEGV_MAPERR);
  inside = current();
  store();
  handled++;
  siglongjmp(back, 1);
}

static void fault(void) {
  if (sigsetjmp(back, 1) == 0) {
    *(volatile int *)wild = 1;
    CHECK(!"the store faults");
  }
}

/* A handler that jumps out gets the next fault too, and finds its mask as it was. */
static void case_recovers(void) {
  sigset_t none = set_of(0), two = set_of(SIGUSR2);
  struct sigaction action = {.sa_sigaction = on_wild, .sa_flags = SA_SIGINFO, .sa_mask = two};
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  for (int i = 1; i <= 5; i++) {
    fault();
    CHECK(handled == i && blocked_is(&none));
    CHECK(sigismember(&inside, SIGSEGV) && sigismember(&inside, SIGUSR2) && !sigismember(&inside, SIGUSR1));
    store();
  }
}

static void on_plain(int signo) {
  CHECK(signo == SIGSEGV);
  store();
  handled++;
  siglongjmp(back, 1);
}

static void case_old_calls(void) {
  CHECK(signal(SIGSEGV, on_plain) == SIG_DFL);
  fault();
  fault();
  CHECK(handled == 2);
  CHECK(bsd_signal(SIGSEGV, on_plain) == on_plain);
  fault();
  CHECK(sysv_signal(SIGSEGV, on_plain) == on_plain);
  fault();
  struct sigaction old;
  CHECK(sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_handler == SIG_DFL && handled == 4);
  CHECK(sigset(SIGSEGV, on_plain) == SIG_DFL);
  fault();
  CHECK(handled == 5 && sigset(SIGSEGV, SIG_HOLD) == on_plain && sigset(SIGSEGV, on_plain) == SIG_HOLD);
  CHECK(siginterrupt(SIGSEGV, 0) == 0 && sigaction(SIGSEGV, NULL, &old) == 0 && (old.sa_flags & SA_RESTART) != 0);
  CHECK(siginterrupt(SIGSEGV, 1) == 0 && sigaction(SIGSEGV, NULL, &old) == 0 && (old.sa_flags & SA_RESTART) == 0);
  CHECK(sigignore(SIGSEGV) == 0 && signal(SIGSEGV, on_plain) == SIG_IGN);
  store();
  fault();
  CHECK(handled == 6);
}

static void on_nested(int signo, siginfo_t *info, void *context) {
  (void)signo, (void)info, (void)context;
  if (++handled < 3) *(volatile int *)wild = 1;
  siglongjmp(back, 1);
}

static void case_nested(void) {
  struct sigaction action = {.sa_sigaction = on_nested, .sa_flags = SA_SIGINFO | SA_NODEFER};
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  fault();
  CHECK(handled == 3);
  store();
}

/* These end by SIGSEGV, as they would without dsm. */
static void case_dies_blocked(void) {
  sigset_t all = filled();
  CHECK(signal(SIGSEGV, on_plain) == SIG_DFL && pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
  store();
  *(volatile int *)wild = 1;
}

static void case_dies_nested(void) {
  struct sigaction action = {.sa_sigaction = on_nested, .sa_flags = SA_SIGINFO};
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  fault();
  CHECK(!"a fault in the handler is handled");
}

static void case_dies_reset(void) {
  struct sigaction action = {.sa_handler = on_plain, .sa_flags = (int)SA_RESETHAND};
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  fault();
  CHECK(handled == 1);
  store();
  *(volatile int *)wild = 1;
}

static void case_dies_ignored(void) {
  CHECK(signal(SIGSEGV, SIG_IGN) == SIG_DFL);
  store();
  *(volatile int *)wild = 1;
}

static void case_dies_sent(void) {
  store();
  raise(SIGSEGV);
}

/* By system calls, which libdsm cannot see. */
static void case_dies_unseen(void) {
  uint64_t mask = 1ull << (SIGSEGV - 1);
  syscall(SYS_rt_sigprocmask, SIG_BLOCK, &mask, NULL, 8);
  map[0] = 1;
}

/* ---- SIGTRAP and SIGBUS, which dsm takes too ---- */

static void on_trap(int signo, siginfo_t *info, void *context) {
  (void)context;
  CHECK(signo == SIGTRAP && (info->si_code > 0 || info->si_code == SI_TKILL));
  store();
  handled++;
}

static void on_bus(int signo) {
  CHECK(signo == SIGBUS);
  store();
  handled++;
  siglongjmp(back, 1);
}

static void case_traps(void) {
  struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO, .sa_mask = filled()};
  CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
  store();
  __asm__ volatile("int3");
  raise(SIGTRAP);
  CHECK(handled == 2);
  sigset_t one = set_of(SIGTRAP), none = set_of(0);
  CHECK(pthread_sigmask(SIG_BLOCK, &one, NULL) == 0 && blocked_is(&one));
  store();
  raise(SIGTRAP);
  store();
  CHECK(handled == 2 && pthread_sigmask(SIG_SETMASK, &none, NULL) == 0 && handled == 3);
  CHECK(signal(SIGTRAP, SIG_IGN) != SIG_ERR);
  raise(SIGTRAP);
  store();
  int fd = memfd_create("short", 0);
  char *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(signal(SIGBUS, on_bus) == SIG_DFL);
  for (int i = 4; i < 6; i++) {
    if (sigsetjmp(back, 1) == 0) CHECK(*(volatile char *)page == 1);
    CHECK(handled == i);
    store();
  }
}

/* ---- what saves and restores masks ---- */

static ucontext_t ucontexts[2];
static char context_stack[64 << 10];

static void in_context(void) {
  sigset_t all = filled();
  CHECK(blocked_is(&all));
  store();
}

static void case_contexts(void) {
  sigset_t none = set_of(0);
  CHECK(getcontext(&ucontexts[1]) == 0);
  ucontexts[1].uc_stack = (stack_t){.ss_sp = context_stack, .ss_size = sizeof(context_stack)};
  ucontexts[1].uc_link = &ucontexts[0];
  sigfillset(&ucontexts[1].uc_sigmask);
  makecontext(&ucontexts[1], in_context, 0);
  CHECK(swapcontext(&ucontexts[0], &ucontexts[1]) == 0);
  CHECK(blocked_is(&none) && stores == 1);
  volatile int again = 0;
  CHECK(getcontext(&ucontexts[0]) == 0);
  sigset_t all = filled();
  if (again == 0) {
    again = 1;
    CHECK(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
    sigfillset(&ucontexts[0].uc_sigmask);
    setcontext(&ucontexts[0]);
  }
  CHECK(blocked_is(&all));
  store();
}

/* ---- processes ---- */

static void expect_end(pid_t child) {
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* In pthread_atfork's handlers the map is what it was. */
static void store_around_fork(void) {
  store();
}

/* Blocks, starts a child in each way, and its own stores go on. */
static void case_children(void) {
  pthread_atfork(store_around_fork, store_around_fork, NULL);
  sigset_t all = filled(), none = set_of(0);
  struct sigaction action = {.sa_sigaction = on_wild, .sa_flags = SA_SIGINFO}, got;
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  pid_t *shared = (pid_t *)(bytes + 1024);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &all);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  char *arguments[] = {"true", NULL};
  CHECK(posix_spawn(shared, "/bin/true", NULL, NULL, arguments, environ) == 0);
  expect_end(*shared);
  CHECK(posix_spawnp(shared, "true", NULL, &attributes, arguments, environ) == 0);
  expect_end(*shared);
  store();
  /* A vfork child shares memory, and not the signals: what it does to them is its own. */
  pid_t child = vfork();
  if (child == 0) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(SIGSEGV, &standard, NULL);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execl("/bin/true", "true", NULL);
    _exit(1);
  }
  expect_end(child);
  CHECK(sigaction(SIGSEGV, NULL, &got) == 0 && got.sa_sigaction == on_wild && blocked_is(&none));
  fault();
  store();
  CHECK(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
  child = fork();
  if (child == 0) {
    CHECK(blocked_is(&all) && pthread_sigmask(SIG_SETMASK, &none, NULL) == 0);
    CHECK(sigaction(SIGSEGV, NULL, &got) == 0 && got.sa_sigaction == on_wild);
    /* The handler stores to the map, which is the parent's. */
    CHECK(signal(SIGSEGV, SIG_DFL) != SIG_ERR);
    _exit(0);
  }
  expect_end(child);
  store();
  CHECK(system("true") == 0);
  FILE *pipe = popen("true", "r");
  CHECK(pclose(pipe) == 0);
  store();
  /* The mask goes along into another program. */
  child = fork();
  if (child == 0) {
    execl("/proc/self/exe", "signals", "has-all-blocked", NULL);
    _exit(1);
  }
  expect_end(child);
}

static void *end_thread(void *nothing) {
  return nothing;
}

static volatile int rung;

static void on_timer(union sigval value) {
  (void)value;
  store();
  rung++;
}

static void case_timers(void) {
  timer_t *shared = (timer_t *)(bytes + 1024);
  CHECK(timer_create(CLOCK_MONOTONIC, NULL, shared) == 0 && timer_delete(*shared) == 0);
  struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_timer};
  struct itimerspec soon = {.it_value = {.tv_nsec = 1000000}};
  CHECK(timer_create(CLOCK_MONOTONIC, &event, shared) == 0 && timer_settime(*shared, 0, &soon, NULL) == 0);
  for (int i = 0; i < 60000 && !rung; i++) usleep(1000);
  CHECK(rung == 1);

  mqd_t queue = mq_open("/dsm-signals", O_CREAT | O_RDWR, 0600, NULL);
  CHECK(queue >= 0 && mq_unlink("/dsm-signals") == 0);
  CHECK(mq_notify(queue, &event) == 0 && mq_send(queue, "x", 1, 0) == 0);
  for (int i = 0; i < 60000 && rung < 2; i++) usleep(1000);
  CHECK(rung == 2);
}

/* Threads that change handlers while others store and fault. */
static volatile int over;

static void *change_handlers(void *nothing) {
  while (!over) {
    struct sigaction action = {.sa_sigaction = on_wild, .sa_flags = SA_SIGINFO}, old;
    CHECK(sigaction(SIGSEGV, &action, &old) == 0 && (old.sa_handler == SIG_DFL || old.sa_sigaction == on_wild));
    action = (struct sigaction){.sa_handler = SIG_DFL};
    CHECK(sigaction(SIGSEGV, &action, &old) == 0 && old.sa_sigaction == on_wild);
  }
  return nothing;
}

static void case_concurrent(void) {
  pthread_t thread, other;
  sigset_t all = filled(), none = set_of(0);
  CHECK(pthread_create(&thread, NULL, change_handlers, NULL) == 0);
  for (int i = 0; i < 5000; i++) {
    map[2] = i;
    CHECK(pthread_sigmask(SIG_SETMASK, i % 2 ? &none : &all, NULL) == 0);
    map[3] = i;
    if (i % 50 == 0) {
      pid_t child = fork();
      if (child == 0) {
        struct sigaction action = {.sa_handler = SIG_DFL};
        _exit(sigaction(SIGSEGV, &action, NULL));
      }
      expect_end(child);
      CHECK(pthread_create(&other, NULL, end_thread, NULL) == 0 && pthread_join(other, NULL) == 0);
    }
  }
  over = 1;
  pthread_join(thread, NULL);
  CHECK(map[2] == 4999 && map[3] == 4999);
}

static const struct {
  const char *name;
  void (*run)(void);
} cases[] = {
    {"masks", case_masks},
    {"threads", case_threads},
    {"handler-mask", case_handler_mask},
    {"waits", case_waits},
    {"sent", case_sent},
    {"sent-to-waiter", case_sent_to_waiter},
    {"ignored", case_ignored},
    {"recovers", case_recovers},
    {"old-calls", case_old_calls},
    {"nested", case_nested},
    {"traps", case_traps},
    {"contexts", case_contexts},
    {"children", case_children},
    {"timers", case_timers},
    {"concurrent", case_concurrent},
    {"dies-blocked", case_dies_blocked},
    {"dies-nested", case_dies_nested},
    {"dies-reset", case_dies_reset},
    {"dies-ignored", case_dies_ignored},
    {"dies-sent", case_dies_sent},
    {"dies-unseen", case_dies_unseen},
};

int main(int count, char **arguments) {
  CHECK(count >= 2);
  if (strcmp(arguments[1], "has-all-blocked") == 0) {
    sigset_t all = filled();
    CHECK(blocked_is(&all));
    return 0;
  }
  dsm_session *session;
  CHECK_OK(dsm_open(NULL, &session));
  map = dsm_address(session);
  bytes = dsm_address(session);
  for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    if (strcmp(cases[i].name, arguments[1]) != 0) continue;
    cases[i].run();
    CHECK_OK(dsm_close(session));
    puts("ok");
    return 0;
  }
  CHECK(!"there is such a case");
}
