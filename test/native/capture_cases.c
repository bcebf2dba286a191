/* One behaviour a run: `capture_cases NAME`. Prints `ok` and exits 0, or fails; cases named `dies-...` are meant to end
 * by a signal, with a message or without: capture.test.ts says which. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"
#include "harness.h"

#define BASE 0x2a0000000000ull
#define PAGES 64u
#define THREADS 8
#define ROUNDS 3000
#ifndef ALT_STACK
#define ALT_STACK 8192u /* the smallest a program may well have */
#endif

static struct map map;

static void start(void) {
  if (dsm_capture_init() != 0) fail("dsm_capture_init");
  map_create(&map, BASE, PAGES * PAGE);
}

/* The stores before it are made before what is checked is read: handlers change it behind the compiler's back. */
#define check(truth, what)                                                                                           \
  do {                                                                                                               \
    __asm__ volatile("" ::: "memory");                                                                               \
    if (!(truth)) fail("not so: %s", what);                                                                          \
    if (map.wrong != NULL) fail("the sink was called wrongly: %s", map.wrong);                                       \
  } while (0)

static void store_byte(size_t offset, uint8_t value) {
  *(volatile uint8_t *)(map.base + offset) = value;
}

/* By hand, so that no sanitizer looks at the address first. */
static void store_anywhere(void *address, uint64_t value) {
  __asm__ volatile("movq %1, (%0)" ::"r"(address), "r"(value) : "memory");
}

/* ---- whose fault is it ---- */

static sigjmp_buf back;
static volatile uintptr_t seen_address;
static volatile int seen_signal, seen_code;
static uint64_t seen_rcx, seen_rsi, seen_rdi, seen_mask;

static void user_handler(int signo, siginfo_t *info, void *context_pointer) {
  ucontext_t *context = context_pointer;
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  memcpy(&seen_mask, &mask, 8);
  seen_signal = signo;
  seen_code = info->si_code;
  seen_address = (uintptr_t)info->si_addr;
  seen_rcx = (uint64_t)context->uc_mcontext.gregs[REG_RCX];
  seen_rsi = (uint64_t)context->uc_mcontext.gregs[REG_RSI];
  seen_rdi = (uint64_t)context->uc_mcontext.gregs[REG_RDI];
  siglongjmp(back, 1);
}

static void plain_handler(int signo) {
  seen_signal = signo;
  siglongjmp(back, 1);
}

static void install(int signo, void (*handler)(int, siginfo_t *, void *), int also) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  sigemptyset(&action.sa_mask);
  if (also != 0) sigaddset(&action.sa_mask, also);
  if (sigaction(signo, &action, NULL) != 0) fail("sigaction");
}

static char *const nowhere = (char *)0x123456000ull;

/* The handler that was there before still gets the program's own faults, with its own mask. */
static void case_chain(void) {
  install(SIGSEGV, user_handler, SIGUSR1);
  start();
  if (sigsetjmp(back, 1) == 0) {
    store_anywhere(nowhere, 1);
    fail("a store to nowhere went on");
  }
  check(seen_signal == SIGSEGV && seen_address == (uintptr_t)nowhere, "its handler saw the wild store");
  check(seen_mask == (1ull << (SIGSEGV - 1) | 1ull << (SIGUSR1 - 1)), "its handler ran with its own mask");
  store_byte(5, 7);
  check(map.alias[5] == 7 && map.stores == 1, "the map is still captured");
  seen_signal = 0;
  if (sigsetjmp(back, 1) == 0) raise(SIGSEGV);
  check(seen_signal == SIGSEGV, "its handler saw a SIGSEGV that was sent");
}

static void case_chain_plain(void) {
  signal(SIGSEGV, plain_handler);
  start();
  if (sigsetjmp(back, 1) == 0) store_anywhere(nowhere, 1);
  check(seen_signal == SIGSEGV, "a handler without SA_SIGINFO is called");
}

static struct sigaction wrapped;
static int wraps;

static void wrapper(int signo, siginfo_t *info, void *context) {
  wraps++;
  wrapped.sa_sigaction(signo, info, context);
}

/* What sigaction() of the C library does, which libdsm does not see. */
int __sigaction(int signo, const struct sigaction *action, struct sigaction *old);

/* A handler installed over ours, unseen, that hands on to it, then ours again over that one: no fault goes round for
 * ever. */
static void case_chain_loop(void) {
  install(SIGSEGV, user_handler, 0);
  start();
  struct sigaction action = {.sa_sigaction = wrapper, .sa_flags = SA_SIGINFO};
  __sigaction(SIGSEGV, &action, &wrapped);
  store_byte(1, 1);
  check(wraps == 1 && map.stores == 1, "called by another handler, ours captures");
  if (dsm_capture_init() != 0) fail("dsm_capture_init");
  store_byte(1, 2);
  check(wraps == 1 && map.stores == 2, "installed again, ours comes first");
  if (sigsetjmp(back, 1) == 0) store_anywhere(nowhere, 1);
  check(wraps == 2 && seen_address == (uintptr_t)nowhere, "the fault went through both to the first handler");
}

static void trap_handler(int signo, siginfo_t *info, void *context) {
  (void)info, (void)context;
  seen_signal = signo;
}

static void case_chain_trap(void) {
  install(SIGTRAP, trap_handler, 0);
  start();
  __asm__ volatile("int3");
  check(seen_signal == SIGTRAP, "a breakpoint of the program's own reaches its handler");
}

/* A fault that is no store is never captured: nothing can be mapped over a region without read access. */
static void case_read_fault(void) {
  install(SIGSEGV, user_handler, 0);
  start();
  mprotect(map.base, PAGE, PROT_NONE);
  if (sigsetjmp(back, 1) == 0) {
    (void)*(volatile uint8_t *)(map.base + 9);
    fail("a load without access went on");
  }
  check(seen_address == BASE + 9 && map.faults == 0, "a read fault goes to the handler that was there before");
}

static void case_dies_wild(void) {
  start();
  store_anywhere(nowhere, 1);
}

static void case_dies_sent(void) {
  start();
  raise(SIGSEGV);
}

static void case_dies_breakpoint(void) {
  start();
  __asm__ volatile("int3");
}

static void case_dies_left(void) {
  start();
  store_byte(0, 1);
  dsm_region_leave(map.region);
  check(map.base[0] == 1, "the map stays readable");
  store_byte(0, 2);
}

static void *store_late(void *unused) {
  (void)unused;
  store_byte(1, 7);
  return NULL;
}

/* Stores that come after leaving wait for the copy, and then go on in it. */
static void case_late_stores(void) {
  start();
  pthread_t thread;
  store_byte(0, 1);
  check(!dsm_region_is_forgiving(map.region), "a store after leaving is fatal unless it is allowed");
  dsm_region_await_copy(map.region);
  dsm_region_leave(map.region);
  if (pthread_create(&thread, NULL, store_late, NULL) != 0) fail("pthread_create");
  check(!dsm_region_is_forgiving(map.region), "there is no copy yet");
  dsm_region_copied(map.region, 1);
  pthread_join(thread, NULL);
  check(dsm_region_is_forgiving(map.region), "there is a copy");
  store_byte(0, 2);
  store_byte(map.size - 1, 3);
  check(map.base[0] == 2 && map.base[1] == 7 && map.base[map.size - 1] == 3, "the stores are in the copy");
}

/* Without a copy they are fatal. */
static void case_dies_copyless(void) {
  start();
  dsm_region_await_copy(map.region);
  dsm_region_leave(map.region);
  dsm_region_copied(map.region, 0);
  store_byte(0, 2);
}

static void case_dies_edge(void) {
  start();
  void *after = mmap((void *)(BASE + map.size), PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (after == MAP_FAILED) fail("mmap");
  store_anywhere(map.base + map.size - 3, 5);
}

static int failing_store(void *context, const struct dsm_run *runs, uint32_t count) {
  (void)context, (void)runs, (void)count;
  return -1;
}
static int no_fault(void *context, uintptr_t address, int atomic, uintptr_t instruction) {
  (void)context, (void)address, (void)atomic, (void)instruction;
  return 0;
}

static void case_dies_sink(void) {
  static const struct dsm_sink failing = {.fault = no_fault, .store = failing_store};
  start();
  dsm_region_remove(map.region);
  dsm_region_add(BASE, map.size, &failing, &map);
  store_byte(0, 1);
}

static void case_dies_sink_step(void) {
  static const struct dsm_sink failing = {.fault = no_fault, .store = failing_store};
  start();
  dsm_region_remove(map.region);
  dsm_region_add(BASE, map.size, &failing, &map);
  __asm__ volatile("rcll $3, (%0)" ::"r"(map.base) : "memory", "cc");
}

static void case_left_and_back(void) {
  start();
  store_byte(0, 1);
  dsm_region_leave(map.region);
  int again = dsm_region_add(BASE, map.size, &recording_sink, &map);
  check(again == map.region, "a region that was left is taken over");
  store_byte(0, 2);
  check(map.alias[0] == 2 && map.stores == 2, "and captures again");
  dsm_region_remove(again);
  int other = dsm_region_add(BASE, map.size, &recording_sink, &map);
  check(other >= 0, "a removed region can be added");
  store_byte(0, 3);
  check(map.stores == 3, "and captures");
}

/* ---- fork ---- */

static int child_status(void (*body)(void), char *text, size_t size) {
  int ends[2], status;
  if (pipe(ends) != 0) fail("pipe");
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 2);
    body();
    _exit(0);
  }
  close(ends[1]);
  ssize_t got, length = 0;
  while ((got = read(ends[0], text + length, size - 1 - (size_t)length)) > 0) length += got;
  text[length] = '\0';
  close(ends[0]);
  if (waitpid(child, &status, 0) != child) fail("waitpid");
  return status;
}

static void store_in_child(void) {
  store_byte(0, 9);
}

static void load_in_child(void) {
  (void)*(volatile uint8_t *)map.base;
}

/* The child opens a map of its own, at the same place: it captures there, steps there, and the parent is unharmed. */
static void reopen_in_child(void) {
  munmap(map.base, map.size);
  map_create(&map, BASE + (1ull << 32), PAGES * PAGE);
  store_byte(0, 9);
  __asm__ volatile("rcll $3, (%0)" ::"r"(map.base + 8) : "memory", "cc");
  check(map.alias[0] == 9 && map.stores == 2, "a child that opens a map of its own captures");
}

static const char forked_line[] =
    "dsm: this process was forked after joining the session; the map belongs to its parent (open a session in the "
    "child instead)\n";

static void case_fork(void) {
  char text[400];
  start();
  if (madvise(map.base, map.size, MADV_DONTFORK) != 0) fail("madvise");
  store_byte(0, 1);
  int status = child_status(store_in_child, text, sizeof(text));
  check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a forked child's store ends it by SIGSEGV");
  check(strcmp(text, forked_line) == 0, "with the message");
  status = child_status(load_in_child, text, sizeof(text));
  check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a forked child's load ends it by SIGSEGV");
  check(strcmp(text, forked_line) == 0, "with the message");
  store_byte(0, 3);
  check(map.alias[0] == 3 && map.stores == 2, "the parent is unharmed");
}

static void case_fork_reopen(void) {
  char text[400];
  start();
  __asm__ volatile("rcll $3, (%0)" ::"r"(map.base + 8) : "memory", "cc");
  int status = child_status(reopen_in_child, text, sizeof(text));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail("the child ended with %x: %s", status, text);
  __asm__ volatile("rcll $3, (%0)" ::"r"(map.base + 8) : "memory", "cc");
  check(map.stores == 2, "the parent is unharmed");
}

/* ---- holes and edges ---- */

static void rep_movsb(void *to, const void *from, size_t length) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length)::"memory");
}
static void rep_stosq(void *to, uint64_t value, size_t count) {
  __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}
static void rep_movsq_down(void *to, const void *from, size_t count) {
  __asm__ volatile("std; rep movsq; cld" : "+D"(to), "+S"(from), "+c"(count)::"memory");
}

static uint8_t source[PAGES * PAGE];

static uint32_t published(size_t begin, size_t end) {
  uint32_t count = 0;
  for (size_t i = begin; i < end; i++) count += map.published[i];
  return count;
}

static void string_over_hole(int down) {
  start();
  for (size_t i = 0; i < sizeof(source); i++) source[i] = (uint8_t)(i * 7 + 1);
  map.hole_begin = BASE + 4 * PAGE;
  map.hole_end = BASE + 6 * PAGE;
  size_t begin = 2 * PAGE + 24, length = 6 * PAGE - 8;
  if (down) {
    rep_movsq_down(map.base + begin + length - 8, source + length - 8, length / 8);
  } else {
    rep_movsb(map.base + begin, source, length);
  }
  check(memcmp(map.base + begin, source, length) == 0, "all of it is there");
  check(published(0, begin) == 0, "nothing before it was published");
  check(published(begin, 4 * PAGE) == 4 * PAGE - begin, "what is before the hole was");
  check(published(4 * PAGE, 6 * PAGE) == 0, "nothing in the hole was");
  check(published(6 * PAGE, begin + length) == begin + length - 6 * PAGE, "what is behind the hole was");
  check(published(begin + length, map.size) == 0, "nothing behind it was");
}

static void case_hole_string(void) {
  string_over_hole(0);
}
static void case_hole_string_down(void) {
  string_over_hole(1);
}

/* A store half in an open hole: the fault is at its second half. */
static void case_hole_straddle(void) {
  start();
  map.hole_begin = BASE + 4 * PAGE;
  map.hole_end = BASE + 5 * PAGE;
  store_byte(4 * PAGE, 1); /* opens it */
  check(map.stores == 0, "a store in a hole is not published");
  store_anywhere(map.base + 5 * PAGE - 4, 0x1122334455667788);
  check(map.stores == 1 && published(5 * PAGE - 4, 5 * PAGE + 4) == 8, "the sink got the whole store to divide");
  rep_movsb(map.base + 5 * PAGE - 4, source, 0);
  void *to = map.base + 5 * PAGE - 4;
  __asm__ volatile("stosq" : "+D"(to) : "a"(0x55aa) : "memory");
  check(map.stores == 2 && to == map.base + 5 * PAGE + 4, "a string store too");
}

/* A repeated store that leaves the map goes on in the ordinary memory behind it, and the same downwards. */
static void case_string_leaves(void) {
  start();
  uint8_t *after = mmap((void *)(BASE + map.size), 2 * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  uint8_t *before = mmap((void *)(BASE - 2 * PAGE), 2 * PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (after == MAP_FAILED || before == MAP_FAILED) fail("mmap");
  rep_stosq(map.base + map.size - PAGE, 0x0102030405060708, 2 * PAGE / 8);
  check(published(map.size - PAGE, map.size) == PAGE && after[PAGE - 1] == 1 && after[PAGE] == 0, "upwards");
  map_forget(&map);
  for (size_t i = 0; i < 2 * PAGE; i++) source[i] = (uint8_t)(i | 1);
  rep_movsq_down(map.base + PAGE - 8, source + 2 * PAGE - 8, 2 * PAGE / 8);
  check(published(0, PAGE) == PAGE && memcmp(before + PAGE, source, 2 * PAGE) == 0 && before[PAGE - 1] == 0,
        "downwards");
}

/* More than fits into one call, and signals get in between the calls. */
static void case_string_long(void) {
  start();
  for (size_t i = 0; i < sizeof(source); i++) source[i] = (uint8_t)(i >> 3 ^ i);
  rep_movsb(map.base + 1, source, sizeof(source) - 1);
  check(memcmp(map.base + 1, source, sizeof(source) - 1) == 0, "a long copy arrives");
  check(map.stores == 4, "in calls of 64 KiB");
  memmove(map.base, source, sizeof(source));
  memset(map.base, 0x77, map.size);
  check(map.base[0] == 0x77 && map.base[map.size - 1] == 0x77, "memset");
}

/* ---- faults of a captured instruction's other operand ---- */

static uint8_t *half_mapped(void) {
  uint8_t *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(pages, 0x42, PAGE);
  mprotect(pages + PAGE, PAGE, PROT_NONE);
  return pages;
}

static void small_alternate_stack(void) {
  uint8_t *stack = mmap(NULL, PAGE + ALT_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(stack, PAGE, PROT_NONE);
  stack_t alternate = {.ss_sp = stack + PAGE, .ss_size = ALT_STACK};
  if (sigaltstack(&alternate, NULL) != 0) fail("sigaltstack");
}

static void case_dies_unsupported(void) {
  small_alternate_stack();
  start();
  /* enter with 16-bit operands, and the stack in the map */
  __asm__ volatile("mov %0, %%rsp; .byte 0x66, 0xc8, 0, 0, 0" ::"r"(map.base + 256) : "memory");
}

static void case_source_fault(void) {
  small_alternate_stack();
  install(SIGSEGV, user_handler, 0);
  start();
  uint8_t *pages = half_mapped();
  if (sigsetjmp(back, 1) == 0) {
    rep_movsb(map.base + 100, pages + PAGE - 40, 100);
    fail("a copy from nowhere went on");
  }
  check(seen_signal == SIGSEGV && seen_code == SEGV_ACCERR, "it is the source's fault");
  check(seen_address == (uintptr_t)pages + PAGE, "at the source's address");
  check(seen_rcx == 60 && seen_rsi == (uintptr_t)pages + PAGE && seen_rdi == BASE + 140, "40 bytes are done");
  check(published(100, 140) == 40 && published(0, map.size) == 40, "and published");
  if (sigsetjmp(back, 1) == 0) {
    rep_movsq_down(map.base + 400, pages + PAGE + 8, 10);
    fail("a copy from nowhere went on");
  }
  check(seen_address == (uintptr_t)pages + PAGE + 8 && seen_rcx == 10 && seen_rdi == BASE + 400, "downwards too");
}

static void mending_handler(int signo, siginfo_t *info, void *context) {
  (void)signo, (void)context;
  mprotect((void *)((uintptr_t)info->si_addr / PAGE * PAGE), PAGE, PROT_READ | PROT_WRITE);
}

/* A program that maps pages as they are touched: the copy goes on where it stopped. */
static void case_source_fault_mended(void) {
  install(SIGSEGV, mending_handler, 0);
  start();
  uint8_t *pages = half_mapped();
  rep_movsb(map.base + 100, pages + PAGE - 40, 100);
  check(published(100, 200) == 100 && map.base[139] == 0x42 && map.base[140] == 0, "the copy was finished");
}

static void case_source_bus(void) {
  install(SIGBUS, user_handler, 0);
  start();
  int fd = memfd_create("short", 0);
  if (fd < 0 || ftruncate(fd, PAGE) != 0) fail("memfd");
  uint8_t *pages = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
  if (sigsetjmp(back, 1) == 0) {
    rep_movsb(map.base, pages + PAGE - 8, 16);
    fail("a copy from behind the end of a file went on");
  }
  check(seen_signal == SIGBUS && seen_address == (uintptr_t)pages + PAGE && seen_rcx == 8, "SIGBUS at the right place");
}

static void case_push_fault(void) {
  install(SIGSEGV, user_handler, 0);
  struct sigaction action;
  sigaction(SIGSEGV, NULL, &action);
  action.sa_flags |= SA_ONSTACK;
  sigaction(SIGSEGV, &action, NULL);
  small_alternate_stack();
  start();
  uint8_t *pages = half_mapped();
  if (sigsetjmp(back, 1) == 0) {
    __asm__ volatile("mov %0, %%rsp; pushq (%1)" ::"r"(map.base + 800), "r"(pages + PAGE) : "memory");
  }
  check(seen_address == (uintptr_t)pages + PAGE && published(0, map.size) == 0, "a push from nowhere is its own fault");
}

/* ---- changing code ---- */

static void case_changed_code(void) {
  start();
  uint8_t *code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  static const uint8_t movb[] = {0xc6, 0x07, 0x11, 0xc3}, movl[] = {0xc7, 0x07, 0x22, 0x22, 0x22, 0x22, 0xc3};
  static const uint8_t movq[] = {0x48, 0x89, 0x37, 0xc3};
  void (*run)(void *, uint64_t);
  /* at the end of a page too, with nothing behind it, and over the end */
  for (int i = 0; i < 3; i++) {
    uint8_t *at = i == 0 ? code : i == 1 ? code + PAGE - sizeof(movq) : code + PAGE - 2;
    memcpy(&run, &at, sizeof(run));
    mprotect(code + PAGE, PAGE, i == 1 ? PROT_NONE : PROT_READ | PROT_WRITE | PROT_EXEC);
    for (int round = 0; round < 3; round++) {
      memcpy(at, movb, sizeof(movb));
      memset(map.alias, 0, 64);
      run(map.base, 0);
      check(map.alias[0] == 0x11 && map.alias[1] == 0, "movb");
      memcpy(at, movq, sizeof(movq));
      run(map.base, 0x0807060504030201);
      check(map.alias[0] == 1 && map.alias[7] == 8, "movq");
      if (i == 1) continue;
      memcpy(at, movl, sizeof(movl));
      run(map.base, 0);
      check(map.alias[0] == 0x22 && map.alias[3] == 0x22 && map.alias[4] == 5, "movl");
    }
  }
}

/* RIP-relative operands, with and without an immediate behind them: code next to the map. */
static void case_rip_relative(void) {
  start();
  uint8_t *code = mmap((void *)(BASE - PAGE), PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (code == MAP_FAILED) fail("mmap");
  static const uint8_t text[] = {
      0x48, 0x89, 0x3d, 0xf9, 0x1f, 0, 0,               /* mov %rdi, 0x1ff9(%rip): map + 0x1000 */
      0xc7, 0x05, 0xef, 0x1f, 0, 0, 0x44, 0x33, 0x22, 0x11, /* movl $0x11223344, : map + 0x1000 */
      0xc1, 0x05, 0xe8, 0x1f, 0, 0, 4,                  /* roll $4, : map + 0x1000 */
      0xc3,
  };
  memcpy(code, text, sizeof(text));
  void (*run)(uint64_t);
  memcpy(&run, &code, sizeof(run));
  run(0x8877665544332211);
  check(map.stores == 3, "three stores");
  check(*(uint64_t *)(void *)(map.alias + PAGE) == 0x8877665512233441, "they are right");
}

/* ---- many threads ---- */

static volatile uint64_t alarms;

static void *worker(void *argument) {
  uint64_t id = (uint64_t)(uintptr_t)argument;
  uint64_t *mine = (uint64_t *)(void *)(map.base + PAGE * (8 + id));
  uint32_t *sum = (uint32_t *)(void *)map.base;
  for (uint32_t i = 1; i <= ROUNDS; i++) {
    __atomic_fetch_add(sum, 1, __ATOMIC_SEQ_CST);
    *(volatile uint64_t *)&mine[i % 64] = i;
    if (mine[i % 64] != i) fail("a thread does not see its own store");
    __asm__ volatile("roll $1, (%0)" ::"r"(&mine[100]) : "memory", "cc");      /* displaced */
    __asm__ volatile("movq %0, %%mm0; movq %%mm0, (%1); emms" ::"r"(~(uint64_t)i), "r"(&mine[101]) : "memory");
    if (mine[101] != ~(uint64_t)i) fail("a thread does not see its own stepped store");
    if (i % 16 == 0) rep_stosq(&mine[128], i, 200);
    mine[102]++;
    __atomic_fetch_xor((uint8_t *)map.base + 8, (uint8_t)(1 << id), __ATOMIC_SEQ_CST);
  }
  return NULL;
}

static void run_threads(unsigned count) {
  pthread_t threads[256];
  *(uint64_t *)(void *)(map.alias) = 0;
  for (uintptr_t i = 0; i < count; i++) {
    if (i < THREADS) ((uint32_t *)(void *)(map.alias + PAGE * (8 + i)))[200] = 0x80000001u;
    if (pthread_create(&threads[i], NULL, worker, (void *)(i % THREADS)) != 0) fail("pthread_create");
  }
  for (unsigned i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

static void check_threads(uint64_t extra) {
  check(*(uint32_t *)(void *)map.alias == THREADS * ROUNDS, "no addition was lost");
  check(map.alias[8] == 0, "no exclusive-or was lost");
  uint64_t expected = THREADS * (4ull * ROUNDS + ROUNDS / 16) + extra;
  if (map.stores != expected) fail("%u stores reached the sink, not %llu", map.stores, (unsigned long long)expected);
  check(map.atomics == 2 * THREADS * ROUNDS, "the atomics reached the sink once each");
  for (unsigned i = 0; i < THREADS; i++) {
    uint64_t *mine = (uint64_t *)(void *)(map.alias + PAGE * (8 + i));
    uint32_t rotated = 0x80000001u;
    for (int j = 0; j < ROUNDS; j++) rotated = rotated << 1 | rotated >> 31;
    check(*(uint32_t *)(void *)&mine[100] == rotated, "no rotation was lost");
    check(mine[102] == ROUNDS && mine[327] == ROUNDS / 16 * 16, "no store was lost");
  }
}

static void case_threads(void) {
  start();
  run_threads(THREADS);
  check_threads(0);
}

static void on_alarm(int signo) {
  (void)signo;
  __atomic_fetch_add((uint64_t *)&alarms, 1, __ATOMIC_SEQ_CST);
  *(volatile uint64_t *)(map.base + PAGE) = alarms;
  __asm__ volatile("rcll $3, (%0)" ::"r"(map.base + PAGE + 8) : "memory", "cc");
}

/* Signals arrive all the time, in the middle of everything, and their handler stores to the map itself. */
static void case_signals(void) {
  start();
  struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  struct itimerval timer = {{0, 200}, {0, 200}};
  setitimer(ITIMER_REAL, &timer, NULL);
  run_threads(THREADS);
  while (__atomic_load_n((uint64_t *)&alarms, __ATOMIC_SEQ_CST) < 100) pause();
  timer = (struct itimerval){{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &timer, NULL);
  check_threads(2 * alarms);
}

static volatile uint64_t traps;
static volatile int rotations_done;

static void count_trap(int signo) {
  (void)signo;
  traps++;
}

static void *rotate(void *argument) {
  for (int i = 0; i < 20000; i++) __asm__ volatile("roll $1, (%0)" ::"r"(argument) : "memory", "cc");
  rotations_done = 1;
  return NULL;
}

/* Signals of the kind that ends a step, and SIGTRAPs, which are sent by another thread, also in the middle of a step,
 * are the program's; none disturbs the step. */
static void signals_sent(int signo) {
  struct sigaction action = {.sa_handler = count_trap};
  sigaction(signo, &action, NULL);
  start();
  pthread_t thread;
  *(uint32_t *)(void *)map.alias = 0x80000001u;
  pthread_create(&thread, NULL, rotate, map.base);
  while (!rotations_done) {
    pthread_kill(thread, signo);
    sched_yield();
  }
  pthread_join(thread, NULL);
  check(traps > 0 && map.stores == 20000, "each rotation was published once");
  check(*(uint32_t *)(void *)map.alias == 0x80000001u, "and done once"); /* 20000 is a multiple of 32 */
}

static void case_traps_sent(void) {
  signals_sent(SIGTRAP);
}

static void case_faults_sent(void) {
  signals_sent(SIGSEGV);
}

/* A sink that holds every store back until all threads are in one: more of them than there are slots. */
static uint32_t arrived, wanted;
static pthread_barrier_t gate;

static int slow_store(void *context, const struct dsm_run *runs, uint32_t count) {
  for (int i = 0; i < 3; i++) sched_yield();
  return recording_sink.store(context, runs, count);
}

static void *stepper(void *argument) {
  uint32_t *at = argument;
  pthread_barrier_wait(&gate);
  for (int i = 0; i < 20; i++) __asm__ volatile("roll $1, (%0)" ::"r"(at) : "memory", "cc");
  __atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

static void case_many_steppers(void) {
  static const struct dsm_sink slow = {.fault = no_fault, .store = slow_store};
  pthread_t threads[160];
  start();
  dsm_region_remove(map.region);
  map.region = dsm_region_add(BASE, map.size, &slow, &map);
  wanted = sizeof(threads) / sizeof(threads[0]);
  pthread_barrier_init(&gate, NULL, wanted);
  for (unsigned i = 0; i < wanted; i++) {
    *(uint32_t *)(void *)(map.alias + i * 64) = 0x80000001u + i * 16;
    if (pthread_create(&threads[i], NULL, stepper, map.base + i * 64) != 0) fail("pthread_create");
  }
  for (unsigned i = 0; i < wanted; i++) pthread_join(threads[i], NULL);
  check(arrived == wanted && map.stores == wanted * 20, "all have stepped");
  for (unsigned i = 0; i < wanted; i++) {
    uint32_t start_value = 0x80000001u + i * 16;
    check(*(uint32_t *)(void *)(map.alias + i * 64) == (start_value << 20 | start_value >> 12), "and rightly");
  }
}

/* Leaving waits for the stores that are under way, and nothing reaches the sink afterwards. */
static volatile int entered, let_go, left;

static int held_store(void *context, const struct dsm_run *runs, uint32_t count) {
  entered = 1;
  while (!let_go) sched_yield();
  if (left) fail("the sink was used after the region was left");
  return recording_sink.store(context, runs, count);
}

static void *store_once(void *argument) {
  (void)argument;
  __asm__ volatile("roll $1, (%0)" ::"r"(map.base) : "memory", "cc");
  return NULL;
}

static void *leave(void *argument) {
  (void)argument;
  dsm_region_leave(map.region);
  left = 1;
  return NULL;
}

static void case_leave_waits(void) {
  static const struct dsm_sink held = {.fault = no_fault, .store = held_store};
  pthread_t storing, leaving;
  start();
  dsm_region_remove(map.region);
  map.region = dsm_region_add(BASE, map.size, &held, &map);
  map.alias[0] = 1;
  pthread_create(&storing, NULL, store_once, NULL);
  while (!entered) sched_yield();
  pthread_create(&leaving, NULL, leave, NULL);
  for (int i = 0; i < 1000; i++) sched_yield();
  check(!left, "leaving waits for the store under way");
  let_go = 1;
  pthread_join(storing, NULL);
  pthread_join(leaving, NULL);
  check(left && map.alias[0] == 2, "and then goes on");
}

static void case_regions_full(void) {
  start();
  int count = 1, index;
  while ((index = dsm_region_add(BASE + (uintptr_t)count * (1ull << 32), PAGE, &recording_sink, &map)) >= 0) count++;
  check(count == 64, "there is room for 64 regions");
  store_byte(3, 4);
  check(map.alias[3] == 4, "the first still captures");
}

static void case_errno(void) {
  start();
  errno = 1234;
  store_byte(0, 1);
  __asm__ volatile("roll $1, (%0)" ::"r"(map.base) : "memory", "cc");
  check(errno == 1234, "errno is kept");
}

static const struct test_case cases[] = {
    {"chain", case_chain},
    {"chain-plain", case_chain_plain},
    {"chain-loop", case_chain_loop},
    {"chain-trap", case_chain_trap},
    {"read-fault", case_read_fault},
    {"left-and-back", case_left_and_back},
    {"fork", case_fork},
    {"fork-reopen", case_fork_reopen},
    {"hole-string", case_hole_string},
    {"hole-string-down", case_hole_string_down},
    {"hole-straddle", case_hole_straddle},
    {"string-leaves", case_string_leaves},
    {"string-long", case_string_long},
    {"source-fault", case_source_fault},
    {"source-fault-mended", case_source_fault_mended},
    {"source-bus", case_source_bus},
    {"push-fault", case_push_fault},
    {"changed-code", case_changed_code},
    {"rip-relative", case_rip_relative},
    {"threads", case_threads},
    {"signals", case_signals},
    {"traps-sent", case_traps_sent},
    {"faults-sent", case_faults_sent},
    {"many-steppers", case_many_steppers},
    {"leave-waits", case_leave_waits},
    {"regions-full", case_regions_full},
    {"errno", case_errno},
    {"late-stores", case_late_stores},
    {"dies-wild", case_dies_wild},
    {"dies-sent", case_dies_sent},
    {"dies-breakpoint", case_dies_breakpoint},
    {"dies-left", case_dies_left},
    {"dies-copyless", case_dies_copyless},
    {"dies-edge", case_dies_edge},
    {"dies-sink", case_dies_sink},
    {"dies-sink-step", case_dies_sink_step},
    {"dies-unsupported", case_dies_unsupported},
};

int main(int argc, char **argv) {
  return run_cases(argc, argv, cases, sizeof cases / sizeof cases[0], NULL);
}
