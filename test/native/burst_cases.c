/* Cases of bursts: burst_cases NAME. Without a name it lists them. */
#include <asm/prctl.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "burst/burst.h"
#include "burst/cache.h"
#include "burst/slot.h"
#include "cases.h"
#include "harness.h"

#define BASE 0x2a0000000000ull
#define MAP_BYTES (256 * PAGE)
#define WORDS (MAP_BYTES / 8)
/* So often a store traps before bursts begin. */
#define WARM 16

static struct map map;

static void start(bool is_strict) {
  if (dsm_capture_init() != 0) fail("dsm_capture_init");
  dsm_burst_init();
  map_create(&map, BASE, MAP_BYTES);
  map.rules = (struct dsm_burst_rules){.bytes = BURST_LOG_BYTES, .is_strict = is_strict};
}

static uint64_t *words(void) {
  return (uint64_t *)(void *)map.base;
}

static uint64_t at(size_t word) {
  return ((volatile uint64_t *)(void *)map.alias)[word];
}

#define check(truth, what)                                                                                           \
  do {                                                                                                               \
    __asm__ volatile("" ::: "memory");                                                                               \
    if (!(truth)) fail("not so: %s", what);                                                                          \
    if (map.wrong != NULL) fail("the sink was called wrongly: %s", map.wrong);                                       \
  } while (0)

/* to[i * step] = value + i, for each i below count: by hand, so that no sanitizer looks at the addresses. */
static __attribute__((noinline)) void fill(uint64_t *to, uint64_t value, uint64_t count, int64_t step) {
  __asm__ volatile("1: mov %1, (%0)\n\t"
                   "add %3, %0\n\t"
                   "inc %1\n\t"
                   "dec %2\n\t"
                   "jnz 1b"
                   : "+r"(to), "+r"(value), "+r"(count)
                   : "r"(8 * step)
                   : "memory", "cc");
}

static void warm_up(void) {
  for (int i = 0; i < WARM; i++) fill(words(), 0, 8, 1);
  map_forget(&map);
}

/* ---- what a burst is ---- */

static void case_one_trap(void) {
  start(true);
  warm_up();
  fill(words(), 7, 4000, 1);
  for (uint64_t i = 0; i < 4000; i++) check(at(i) == 7 + i, "each word is stored");
  check(map.stores == 0 && map.bursts <= 2 && map.burst_runs == map.bursts, "few bursts, of one run each");
  check(map.burst_bytes == 32000, "nothing else is published");
}

/* What lies between two runs is not published. */
static void case_gaps(void) {
  start(true);
  warm_up();
  memset(map.alias, 0x5a, MAP_BYTES);
  fill(words(), 1, 500, 5);
  for (uint64_t i = 0; i < 2500; i++)
    check(map.published[8 * i] == (i % 5 == 0) && map.published[8 * i + 7] == (i % 5 == 0), "only what was stored");
  check(map.bursts == 1 && map.burst_runs == 500, "it was one burst");
}

static uint64_t last_seen[64];
static uint32_t last_count;
static void remember_order(struct map *m, const struct dsm_run *runs, uint32_t count) {
  (void)m;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t value;
    memcpy(&value, runs[i].bytes + runs[i].length - 8, 8);
    if (last_count < 64) last_seen[last_count++] = value;
  }
}

/* Downwards, and again and again to the same words: runs come in the order of the stores. */
static void case_order(void) {
  start(true);
  warm_up();
  map.on_burst = remember_order;
  fill(words() + 100, 1000, 50, -1);
  check(last_count == 50, "each is a run");
  for (uint32_t i = 0; i < 50; i++) check(last_seen[i] == 1000 + i, "in the order of the program");
  last_count = 0;
  fill(words() + 100, 2000, 50, 0);
  check(last_count == 50 && last_seen[0] == 2000 && last_seen[49] == 2049, "stores to one word are all there");
  check(at(100) == 2049, "and the last one is in the end");
}

/* ---- order against other memory ---- */

static volatile uint64_t flag;

/* data[0..8) in the map, then the flag. */
static __attribute__((noinline)) void store_and_flag(uint64_t *data, volatile uint64_t *to, uint64_t value) {
  __asm__ volatile("mov %2, (%0); mov %2, 8(%0); mov %2, 16(%0); mov %2, 24(%0)\n\t"
                   "mov %2, (%1)\n\t"
                   "mov %2, 32(%0); mov %2, 40(%0); mov %2, 48(%0); mov %2, 56(%0)"
                   :
                   : "r"(data), "r"(to), "r"(value)
                   : "memory");
}

static uint64_t first_flag_seen[64];
static uint32_t flag_calls;
static volatile uint64_t *watched;
static void note_flag(struct map *m, const struct dsm_run *runs, uint32_t count) {
  (void)m, (void)runs, (void)count;
  if (flag_calls < 64) first_flag_seen[flag_calls++] = *watched;
}

/* The batch is published before the flag, wherever that is, is stored. */
static void private_flag(volatile uint64_t *to) {
  start(false);
  watched = to;
  map.on_burst = note_flag;
  for (uint64_t i = 1; i <= 40; i++) {
    flag_calls = 0;
    store_and_flag(words(), to, i);
    if (i > WARM) check(flag_calls >= 1, "there are bursts");
    if (flag_calls >= 1 && i > WARM) check(first_flag_seen[0] == i - 1, "the flag is stored after the data before it");
    check(at(3) == i && at(7) == i && *to == i, "all is stored");
  }
}

static void case_private_flag(void) {
  private_flag(&flag);
}

static void case_shared_flag(void) {
  volatile uint64_t *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  private_flag(shared);
}

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static void *wait_for_end(void *unused) {
  pthread_mutex_lock(&held);
  pthread_mutex_unlock(&held);
  return unused;
}

/* On its own stack, too: another thread may have the address. */
static void case_stack_flag(void) {
  volatile uint64_t here = 0;
  pthread_t other;
  pthread_mutex_lock(&held);
  if (pthread_create(&other, NULL, wait_for_end, NULL) != 0) fail("pthread_create");
  private_flag(&here);
  pthread_mutex_unlock(&held);
  pthread_join(other, NULL);
}

/* A loop as compilers make it without optimisation, with its counter on the stack: a burst where there is no other
 * thread. */
struct on_stack {
  uint64_t before, count, after;
};
static __attribute__((noinline)) struct on_stack count_on_stack(uint64_t *to) {
  struct on_stack here = {7, 0, 9};
  __asm__ volatile("1: mov %0, %%rax\n\t"
                   "mov %%rax, (%1,%%rax,8)\n\t"
                   "addq $1, %0\n\t"
                   "cmpq $1000, %0\n\t"
                   "jne 1b"
                   : "+m"(here.count)
                   : "r"(to)
                   : "rax", "memory", "cc");
  return here;
}

static void case_own_stack(void) {
  char *is_single = dlsym(RTLD_DEFAULT, "__libc_single_threaded");
  start(true);
  warm_up();
  for (int round = 0; round < WARM; round++) {
    map_forget(&map);
    struct on_stack here = count_on_stack(words());
    for (uint64_t i = 0; i < 1000; i++) check(at(i) == i, "all is stored");
    check(here.count == 1000 && here.before == 7 && here.after == 9, "on the stack, too");
  }
  if (is_single == NULL || !*is_single) return; /* an older C library does not say it */
  check(map.bursts <= 2 && map.stores == 0, "in one burst");
}

/* Another node's store, which is placed before that of the burst. */
static void others_store(struct map *m, const struct dsm_run *runs, uint32_t count) {
  (void)runs, (void)count;
  m->alias[8 * 64] = 99;
}

/* Stores to words 0 to 3, then loads word 64. */
static __attribute__((noinline)) uint64_t store_and_load(uint64_t *data, uint64_t value) {
  uint64_t loaded;
  __asm__ volatile("mov %2, (%1); mov %2, 8(%1); mov %2, 16(%1); mov 512(%1), %0; mov %2, 24(%1)"
                   : "=&r"(loaded)
                   : "r"(data), "r"(value)
                   : "memory");
  return loaded;
}

/* Under `sequential` no load from the map is made while stores wait. */
static void case_strict_load(void) {
  start(true);
  map.on_burst = others_store;
  for (uint64_t i = 0; i < 40; i++) {
    map.alias[8 * 64] = 0;
    uint64_t loaded = store_and_load(words(), i);
    if (i > WARM) check(map.bursts > 0 && loaded == 99, "the load sees what was placed before the stores");
  }
}

/* Under `pipelined` it may: a store buffer. */
static void case_buffered_load(void) {
  start(false);
  map.on_burst = others_store;
  for (uint64_t i = 0; i < 40; i++) {
    map.alias[8 * 64] = 0;
    uint64_t loaded = store_and_load(words(), i);
    if (i > WARM) check(map.bursts > 0 && loaded == 0, "the load goes ahead of the stores");
  }
}

/* m[i + 1] = m[i] + 1: each load is of the store before. */
static __attribute__((noinline)) void chain(uint64_t *to, uint64_t count) {
  uint64_t value;
  __asm__ volatile("1: mov (%0), %2\n\t"
                   "inc %2\n\t"
                   "mov %2, 8(%0)\n\t"
                   "add $8, %0\n\t"
                   "dec %1\n\t"
                   "jnz 1b"
                   : "+r"(to), "+r"(count), "=&r"(value)
                   :
                   : "memory", "cc");
}

static void own_loads(bool is_strict) {
  start(is_strict);
  for (int round = 0; round < 30; round++) {
    map.alias[0] = (uint8_t)round;
    chain(words(), 100);
    for (uint64_t i = 0; i <= 100; i++) check(at(i) == (uint64_t)round + i, "a load sees the thread's own stores");
  }
}

static void case_own_loads_strict(void) {
  own_loads(true);
}
static void case_own_loads_buffered(void) {
  own_loads(false);
}

/* ---- faults and signals ---- */

static sigjmp_buf back;
static uint64_t seen_registers[4], seen_rip, seen_published;
static uint8_t *bad_page;
static int repairs;

extern const char copy_load[];
/* to[i] = from[i], with a counter in rcx. */
static __attribute__((noinline)) void copy(uint64_t *to, const uint64_t *from, uint64_t count) {
  register uint64_t index __asm__("rcx") = 0;
  register uint64_t value __asm__("rdx");
  __asm__ volatile(".globl copy_load\n"
                   "1:\n"
                   "copy_load: mov (%[from],%[index],8), %[value]\n\t"
                   "mov %[value], (%[to],%[index],8)\n\t"
                   "inc %[index]\n\t"
                   "cmp %[index], %[count]\n\t"
                   "jne 1b"
                   : [index] "+r"(index), [value] "=&r"(value)
                   : [to] "r"(to), [from] "r"(from), [count] "r"(count)
                   : "memory", "cc");
}

static void on_bad_page(int signo, siginfo_t *info, void *context_pointer) {
  const greg_t *regs = ((ucontext_t *)context_pointer)->uc_mcontext.gregs;
  (void)signo;
  seen_rip = (uint64_t)regs[REG_RIP];
  seen_registers[0] = (uint64_t)regs[REG_RCX];
  seen_registers[1] = (uint64_t)info->si_addr;
  seen_published = at(seen_registers[0] - 1);
  if (repairs++ == 0) siglongjmp(back, 1);
  mprotect(bad_page, PAGE, PROT_READ | PROT_WRITE);
}

/* A load of the loop faults: the handler sees the loop where it is, with all stores before it published. */
static void case_fault(void) {
  start(true);
  uint64_t *from = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (size_t i = 0; i < 4 * PAGE / 8; i++) from[i] = i * 3 + 1;
  struct sigaction action = {.sa_sigaction = on_bad_page, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  if (dsm_capture_init() != 0) fail("dsm_capture_init");
  for (int i = 0; i < WARM; i++) copy(words(), from, 8);
  bad_page = (uint8_t *)from + 2 * PAGE;
  mprotect(bad_page, PAGE, PROT_NONE);
  map_forget(&map);
  const uint64_t fails_at = 2 * PAGE / 8;
  if (sigsetjmp(back, 1) == 0) {
    copy(words(), from, 4 * PAGE / 8);
    fail("the loop went on");
  }
  check(map.bursts >= 1 && map.stores == 0, "it was a burst");
  check(seen_rip == (uint64_t)copy_load && seen_registers[0] == fails_at, "the handler sees the program");
  check(seen_registers[1] == (uint64_t)bad_page, "and the address");
  check(seen_published == (fails_at - 1) * 3 + 1, "and what it has stored");
  copy(words(), from, 4 * PAGE / 8);
  check(repairs == 2, "the handler has mended it");
  for (size_t i = 0; i < 4 * PAGE / 8; i++) check(at(i) == i * 3 + 1, "the loop has gone on");
  /* A thread that was left inside would keep this waiting. */
  dsm_region_leave(map.region);
}

static volatile sig_atomic_t stop, alarms, inside;
static void on_alarm(int signo, siginfo_t *info, void *context_pointer) {
  const greg_t *regs = ((ucontext_t *)context_pointer)->uc_mcontext.gregs;
  (void)signo, (void)info;
  if (burst_cache_holds((uint64_t)regs[REG_RIP]) || burst_slot_at((uint64_t)regs[REG_RSP]) != NULL) inside++;
  if (++alarms == 20) stop = 1;
}

/* An endless loop of stores, until the flag of a handler. */
static __attribute__((noinline)) uint64_t until_stopped(uint64_t *to, volatile sig_atomic_t *flag_of_handler) {
  uint64_t turns = 0;
  __asm__ volatile("1: mov %0, (%1)\n\t"
                   "inc %0\n\t"
                   "cmpl $0, (%2)\n\t"
                   "je 1b"
                   : "+r"(turns)
                   : "r"(to), "r"(flag_of_handler)
                   : "memory", "cc");
  return turns;
}

static void case_signals(void) {
  start(true);
  struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO};
  sigaction(SIGALRM, &action, NULL);
  struct itimerval timer = {{0, 1000}, {0, 1000}};
  setitimer(ITIMER_REAL, &timer, NULL);
  uint64_t turns = until_stopped(words(), &stop);
  memset(&timer, 0, sizeof timer);
  setitimer(ITIMER_REAL, &timer, NULL);
  check(at(0) == turns - 1, "the last store counts");
  check(inside == 0 && alarms >= 20, "no signal sees the copy");
  check(map.bursts > 0, "there are bursts");
}

static atomic_int sent[3];
static void on_sent(int signo, siginfo_t *info, void *context_pointer) {
  const greg_t *regs = ((ucontext_t *)context_pointer)->uc_mcontext.gregs;
  if (info->si_code > 0) fail("signal %d is none that was sent", signo);
  if (burst_cache_holds((uint64_t)regs[REG_RIP]) || burst_slot_at((uint64_t)regs[REG_RSP]) != NULL) inside++;
  sent[signo == SIGSEGV ? 0 : signo == SIGBUS ? 1 : 2]++;
}

static pthread_t victim;
static void *send_signals(void *unused) {
  static const int signals[] = {SIGSEGV, SIGBUS, SIGTRAP};
  for (int i = 0; i < 300; i++) {
    int which = i % 3, before = sent[which];
    /* One that is sent while the fault of a store is pending is lost: the kernel keeps one of each number. */
    for (int polls = 0; sent[which] == before; polls++) {
      if (polls % 50 == 0 && pthread_kill(victim, signals[which]) != 0) fail("pthread_kill");
      usleep(100);
    }
  }
  stop = 1;
  return unused;
}

/* Signals of faults that are sent come, too, and do not see the copy. */
static void case_sent_signals(void) {
  static const int signals[] = {SIGSEGV, SIGBUS, SIGTRAP};
  struct sigaction action = {.sa_sigaction = on_sent, .sa_flags = SA_SIGINFO};
  for (int i = 0; i < 3; i++) sigaction(signals[i], &action, NULL);
  start(true);
  pthread_t thread;
  victim = pthread_self();
  if (pthread_create(&thread, NULL, send_signals, NULL) != 0) fail("pthread_create");
  uint64_t turns = until_stopped(words(), &stop);
  pthread_join(thread, NULL);
  check(at(0) == turns - 1, "the last store counts");
  check(inside == 0, "no signal sees the copy");
  check(map.bursts > 0, "there are bursts");
}

/* ---- threads, processes, code ---- */

static void *fill_part(void *argument) {
  uint64_t part = (uint64_t)argument;
  for (uint64_t round = 0; round < 20; round++) fill(words() + part * 2000, round * 10000 + part, 2000, 1);
  return NULL;
}

static void case_threads(void) {
  pthread_t threads[8];
  start(true);
  for (uint64_t i = 0; i < 8; i++)
    if (pthread_create(&threads[i], NULL, fill_part, (void *)i) != 0) fail("pthread_create");
  for (uint64_t i = 0; i < 8; i++) pthread_join(threads[i], NULL);
  for (uint64_t i = 0; i < 16000; i++)
    check(at(i) == 190000 + i / 2000 + i % 2000, "each thread's stores are there");
  check(map.bursts > 0, "there are bursts");
}

/* Slots of threads that have ended are used again: more threads than slots, one after the other. */
static void case_many_threads(void) {
  start(true);
  warm_up();
  for (uint64_t i = 0; i < 3 * BURST_SLOTS; i++) {
    pthread_t thread;
    uint32_t before = map.bursts;
    if (pthread_create(&thread, NULL, fill_part, (void *)(i % 8)) != 0) fail("pthread_create");
    pthread_join(thread, NULL);
    check(map.bursts > before, "each thread has bursts");
  }
}

static void *store_until_stopped(void *unused) {
  until_stopped(words(), &stop);
  return unused;
}

/* A region is left while a thread stores to it without an end: it is let out of its burst. */
static void case_leave(void) {
  pthread_t thread;
  start(true);
  if (pthread_create(&thread, NULL, store_until_stopped, NULL) != 0) fail("pthread_create");
  while (__atomic_load_n(&map.bursts, __ATOMIC_SEQ_CST) < 5) usleep(100);
  /* Its store to the copy is told of. */
  dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
  dsm_region_await_copy(map.region);
  dsm_region_leave(map.region);
  uint32_t bursts = map.bursts;
  dsm_region_copied(map.region, 1);
  stop = 1;
  pthread_join(thread, NULL);
  check(map.bursts == bursts, "the sink is not called any more");
}

static void case_fork(void) {
  int status;
  start(true);
  if (madvise(map.base, map.size, MADV_DONTFORK) != 0) fail("madvise");
  warm_up();
  fill(words(), 3, 100, 1);
  pid_t child = fork();
  if (child == 0) {
    dsm_burst_in_child();
    munmap(map.base, map.size);
    map_create(&map, BASE + (1ull << 32), MAP_BYTES);
    map.rules = (struct dsm_burst_rules){.bytes = BURST_LOG_BYTES};
    dsm_burst_init();
    warm_up();
    fill(words(), 5, 1000, 1);
    check(at(999) == 1004 && map.bursts > 0 && map.stores == 0, "a child has bursts of its own");
    _exit(0);
  }
  if (waitpid(child, &status, 0) != child || status != 0) fail("the child ended with %x", status);
  fill(words(), 9, 1000, 1);
  check(at(999) == 1008, "the parent is unharmed");
}

typedef void generated(uint64_t *to, uint64_t count);

/* Writes code that stores `value` to each of `count` words. */
static void generate(uint8_t *code, uint32_t value) {
  static const uint8_t loop[] = {0x48, 0xc7, 0x07, 0, 0, 0, 0, /* movq $value, (%rdi) */
                                 0x48, 0x83, 0xc7, 8,          /* add $8, %rdi */
                                 0x48, 0xff, 0xce,             /* dec %rsi */
                                 0x75, 0xf0, 0xc3};            /* jnz ; ret */
  memcpy(code, loop, sizeof loop);
  memcpy(code + 3, &value, 4);
}

/* Code that changes: the new one runs. */
static void case_changed_code(void) {
  start(true);
  uint8_t *code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (uint32_t value = 1; value < 200; value++) {
    /* Also where it crosses into the next page. */
    uint8_t *place = code + (value % 2 == 0 ? 0 : PAGE - 9);
    generate(place, value);
    for (int i = 0; i < 3; i++) ((generated *)place)(words(), 100);
    for (uint64_t i = 0; i < 100; i++) check(at(i) == value, "the code of now has run");
  }
}

/* More stores than the table has entries, and more code than the cache holds: all is dropped then. */
static void case_much_code(void) {
  start(true);
  size_t count = 9000;
  uint8_t *code = mmap(NULL, count * 32, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t before = map.bursts;
    generate(code + 32 * (size_t)i, i);
    for (int round = 0; round < 12; round++) ((generated *)(code + 32 * (size_t)i))(words(), 9);
    check(at(0) == i && at(8) == i, "the code has run");
    check(map.bursts > before, "in bursts");
  }
}

/* ---- where there is none ---- */

/* Short bursts are given up, and tried again now and then. */
static void case_short(void) {
  start(true);
  for (int i = 0; i < 1000; i++) fill(words() + i, (uint64_t)i, 1, 1);
  if (!(map.stores > 950 && map.bursts < 50)) fail("%u single stores, %u bursts", map.stores, map.bursts);
  uint32_t before = map.bursts;
  for (int i = 0; i < 2000; i++) fill(words(), 1, 100, 1);
  check(map.bursts > before + 1000, "a loop that becomes long has bursts again");
}

static void case_switched_off(void) {
  start(true);
  map.rules.bytes = 0;
  fill(words(), 7, 1000, 1);
  check(map.bursts == 0 && map.stores == 1000, "the sink decides");
}

static void on_step(int signo, siginfo_t *info, void *context_pointer) {
  (void)signo, (void)info, (void)context_pointer;
  alarms++;
}

/* A program that single-steps itself sees each of its instructions. */
static void case_stepping(void) {
  struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
  sigaction(SIGTRAP, &action, NULL);
  start(true);
  warm_up();
  __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop" ::: "memory", "cc");
  fill(words(), 7, 20, 1);
  __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
  if (map.bursts != 0 || map.stores != 20 || alarms < 60) fail("%u bursts, %u stores, %d steps", map.bursts, map.stores, (int)alarms);
}

/* With an unmasked exception of the vector unit there is no burst: dsm has no handler for SIGFPE. */
static void case_unmasked(void) {
  uint32_t mxcsr = 0x1f80, open = 0x1d80;
  start(true);
  warm_up();
  __asm__ volatile("ldmxcsr %0" ::"m"(open));
  fill(words(), 7, 100, 1);
  __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
  check(map.bursts == 0 && map.stores == 100, "stores are single");
}

/* Over the end of the map into ordinary memory. */
static void case_edge(void) {
  start(true);
  uint64_t *after = mmap((void *)(BASE + MAP_BYTES), PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (after == MAP_FAILED) fail("mmap");
  warm_up();
  fill(words() + WORDS - 1000, 1, 1100, 1);
  for (uint64_t i = 0; i < 1000; i++) check(at(WORDS - 1000 + i) == 1 + i, "up to the end of the map");
  for (uint64_t i = 0; i < 100; i++) check(after[i] == 1001 + i, "and behind it");
  check(map.bursts > 0 && map.stores < 20, "in bursts");
}

/* The base of gs is the program's. */
static void case_gs(void) {
  uint64_t base = 0x123456789000, seen = 0;
  start(true);
  syscall(SYS_arch_prctl, ARCH_SET_GS, base);
  warm_up();
  fill(words(), 1, 1000, 1);
  syscall(SYS_arch_prctl, ARCH_GET_GS, &seen);
  check(seen == base && map.bursts > 0, "after a burst, too");
}

static const struct test_case cases[] = {
    {"one-trap", case_one_trap},
    {"gaps", case_gaps},
    {"order", case_order},
    {"private-flag", case_private_flag},
    {"shared-flag", case_shared_flag},
    {"stack-flag", case_stack_flag},
    {"own-stack", case_own_stack},
    {"strict-load", case_strict_load},
    {"buffered-load", case_buffered_load},
    {"own-loads-strict", case_own_loads_strict},
    {"own-loads-buffered", case_own_loads_buffered},
    {"fault", case_fault},
    {"signals", case_signals},
    {"sent-signals", case_sent_signals},
    {"threads", case_threads},
    {"many-threads", case_many_threads},
    {"leave", case_leave},
    {"fork", case_fork},
    {"changed-code", case_changed_code},
    {"much-code", case_much_code},
    {"short", case_short},
    {"switched-off", case_switched_off},
    {"stepping", case_stepping},
    {"unmasked", case_unmasked},
    {"edge", case_edge},
    {"gs", case_gs},
};

int main(int argc, char **argv) {
  harness_init();
  return run_cases(argc, argv, cases, sizeof cases / sizeof cases[0], NULL);
}
