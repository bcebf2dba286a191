/* Stacks that lie in the map, alternate stacks there or with too little room, and stores across the map's edge: stacks CASE.
 * Rank 0 acts, rank 1 only waits. Every case that is to go on prints "ok". */
#include <dsm/dsm.h>
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "check.h"

#define STACK_AT 65536u
#define STACK_BYTES 65536u
#define THREADS 5000u /* more than DSM_ALTSTACKS_MAX */
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18
#define SS_AUTODISARM_BIT (1u << 31)

static dsm_session *session;
static uint8_t *map;
static ucontext_t outer, inner;
static volatile long result;
static volatile sig_atomic_t hits;

static __attribute__((noinline)) long fibonacci(long n) {
  volatile long own[4] = {n};
  return n < 2 ? own[0] : fibonacci(n - 1) + fibonacci(n - 2);
}

static void compute(void) {
  char text[200];
  snprintf(text, sizeof text, "%ld", fibonacci(8));
  /* Vector registers, a read-modify-write, a string instruction and a lazily made call on this stack. */
  volatile double some[8];
  for (int i = 0; i < 8; i++)
    some[i] = i * 0.5;
  char copy[200];
  memcpy(copy, text, sizeof copy);
  result = strtol(copy, NULL, 10) + (long)(some[2] + some[6]);
}

/* Runs the function on a stack that lies in the map. */
static void run_in_map(void (*run)(void)) {
  CHECK(getcontext(&inner) == 0);
  inner.uc_stack.ss_sp = map + STACK_AT;
  inner.uc_stack.ss_size = STACK_BYTES;
  inner.uc_link = &outer;
  makecontext(&inner, run, 0);
  CHECK(swapcontext(&outer, &inner) == 0);
}

static void context(void) {
  run_in_map(compute);
  CHECK(result == 21 + 4);
}

static void *context_thread(void *ready) {
  pthread_barrier_wait(ready);
  pthread_barrier_wait(ready);
  context();
  return NULL;
}

static ucontext_t other_outer;
static void *switch_over(void *unused) {
  CHECK(swapcontext(&other_outer, &inner) == 0);
  return unused;
}

/* A thread that has stored nothing goes on on a stack in the map that another one has made. */
static void context_of_other(void) {
  pthread_t thread;
  CHECK(getcontext(&inner) == 0);
  inner.uc_stack.ss_sp = map + STACK_AT;
  inner.uc_stack.ss_size = STACK_BYTES;
  inner.uc_link = &other_outer;
  makecontext(&inner, compute, 0);
  CHECK(pthread_create(&thread, NULL, switch_over, NULL) == 0 && pthread_join(thread, NULL) == 0);
  CHECK(result == 21 + 4);
}

/* A signal without a place of its own on a stack in the map. */
static void on_signal(int signo) {
  (void)signo;
  hits++;
  map[100]++;
}

static void handle(int signo, void (*handler)(int), int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  CHECK(sigaction(signo, &action, NULL) == 0);
}

static void raise_in_map(void) {
  raise(SIGUSR1);
}

static void barrier_in_map(void) {
  if (dsm_is_direct(session))
    return;
  CHECK(dsm_barrier_wait(session) == DSM_INVALID);
  CHECK(strstr(dsm_last_error(), "stack lies in the map") != NULL);
  CHECK(dsm_lock(session, "leased") == DSM_INVALID);
  CHECK(dsm_close(session) == DSM_INVALID);
  dsm_session *other = session;
  CHECK(dsm_open(NULL, &other) == DSM_INVALID && other == NULL);
}

static void read_in_map(void) {
  char bytes[16];
  int zeros = open("/dev/zero", O_RDONLY);
  errno = 0;
  ssize_t got = read(zeros, bytes, sizeof bytes);
  CHECK(dsm_is_direct(session) ? got == sizeof bytes : got == -1 && errno == EFAULT);
  close(zeros);
}

/* On the stack in the map while direct mode ends: until another process, of another node, stores to the map. */
static void stay_in_map(void) {
  puts("running");
  fflush(stdout);
  while (*(volatile uint8_t *)(map + 200) == 0)
    CHECK(fibonacci(8) == 21);
}

/* ---- alternate stacks ---- */

static void alternate(void *bytes, size_t size) {
  stack_t stack = {.ss_sp = bytes, .ss_size = size};
  CHECK(sigaltstack(&stack, NULL) == 0);
}

static const uint8_t *handler_frame;
static void on_alternate(int signo) {
  stack_t now, other = {.ss_sp = map, .ss_size = STACK_BYTES};
  handler_frame = __builtin_frame_address(0);
  CHECK(sigaltstack(NULL, &now) == 0 && now.ss_flags == SS_ONSTACK);
  CHECK(sigaltstack(&other, NULL) == -1 && errno == EPERM);
  on_signal(signo);
}

static void alternate_in_map(void) {
  alternate(map + STACK_AT, STACK_BYTES);
  handle(SIGUSR1, on_alternate, SA_ONSTACK);
  raise(SIGUSR1);
  CHECK(hits == 1 && map[100] == 1);
  const uint8_t *here = __builtin_frame_address(0);
  CHECK(handler_frame > here + (1 << 20) || handler_frame < here - (1 << 20));
}

/* What the program asks about its alternate stack is answered as without dsm. */
static void alternate_seen(void) {
  static uint8_t fit[1 << 18];
  stack_t none = {.ss_flags = SS_DISABLE}, wanted, now;
  CHECK(sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_DISABLE) != 0);
  const struct { void *bytes; size_t size; } stacks[] = {{map + STACK_AT, STACK_BYTES}, {fit, 2048}, {fit, sizeof fit},
                                                         {map, 1 << 19}, {fit, 8192}};
  for (unsigned i = 0; i < sizeof stacks / sizeof stacks[0]; i++) {
    wanted = (stack_t){.ss_sp = stacks[i].bytes, .ss_size = stacks[i].size};
    CHECK(sigaltstack(&wanted, &now) == 0);
    CHECK(i == 0 ? (now.ss_flags & SS_DISABLE) != 0 : now.ss_sp == stacks[i - 1].bytes && now.ss_size == stacks[i - 1].size);
    map[i] = 1;
    CHECK(sigaltstack(NULL, &now) == 0);
    CHECK(now.ss_sp == wanted.ss_sp && now.ss_size == wanted.ss_size && now.ss_flags == 0);
  }
  wanted.ss_size = 2047;
  CHECK(sigaltstack(&wanted, NULL) == -1 && errno == ENOMEM);
  wanted = (stack_t){.ss_sp = fit, .ss_size = sizeof fit, .ss_flags = 12};
  CHECK(sigaltstack(&wanted, NULL) == -1 && errno == EINVAL);
  wanted = (stack_t){.ss_sp = map + STACK_AT, .ss_size = STACK_BYTES, .ss_flags = (int)SS_AUTODISARM_BIT};
  CHECK(sigaltstack(&wanted, NULL) == 0 && sigaltstack(NULL, &now) == 0 && now.ss_flags == wanted.ss_flags);
  handle(SIGUSR1, on_signal, SA_ONSTACK);
  for (int i = 0; i < 3; i++)
    raise(SIGUSR1);
  CHECK(hits == 3 && map[100] == 3);
  CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == wanted.ss_sp && now.ss_flags == wanted.ss_flags);
  alternate(fit, 8192);
  CHECK(sigaltstack(&none, &now) == 0 && now.ss_sp == fit && now.ss_size == 8192);
  CHECK(sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_DISABLE) != 0);
  map[9] = 1;
  context();
}

/* Stores of several kinds, for which frames of different depth are made. */
static void store_all_kinds(void) {
  map[5] = 1;
  uint64_t before = *(volatile uint64_t *)(void *)(map + 8);
  __atomic_fetch_add((uint64_t *)(void *)(map + 8), 3, __ATOMIC_SEQ_CST);
  memset(map + 4096, 7, 20000);
  _mm_store_pd((double *)(void *)(map + 32), _mm_set_pd(1, 2));
  _Alignas(64) static uint8_t area[16384];
  __asm__ volatile("xsave64 (%0)" ::"r"(area), "a"(7), "d"(0) : "memory");
  __asm__ volatile("xsave64 (%0)" ::"r"(map + 32768), "a"(7), "d"(0) : "memory");
  __asm__ volatile("push %0; pop (%1)" ::"r"(77L), "r"(map + 64) : "memory");
  CHECK(map[5] == 1 && *(volatile uint64_t *)(void *)(map + 8) == before + 3 && map[4096 + 19999] == 7 && map[64] == 77);
  CHECK(memcmp(area, map + 32768, 512) == 0);
}

static void alternate_small(void) {
  static _Alignas(64) uint8_t bytes[8192];
  for (size_t size = 2048; size <= sizeof bytes; size += 1024) {
    alternate(bytes, size);
    store_all_kinds();
    handle(SIGUSR1, on_alternate, SA_ONSTACK);
    hits = 0;
    raise(SIGUSR1);
    CHECK(hits == 1);
  }
}

/* The frame has 8 KiB more once a program uses tiles. */
#if __GNUC__ >= 11
__attribute__((target("amx-tile"))) static void alternate_tiles(void) {
  static _Alignas(64) uint8_t bytes[8192], config[64] = {1}, tile[1024], kept[1024];
  alternate(bytes, sizeof bytes);
  if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0) {
    puts("no tiles here");
    return;
  }
  config[16] = 64; /* bytes of a row, and rows, of tile 0 */
  config[48] = 16;
  memset(tile, 3, sizeof tile);
  _tile_loadconfig(config);
  _tile_loadd(0, tile, 64);
  store_all_kinds();
  _tile_stored(0, kept, 64);
  _tile_release();
  CHECK(memcmp(kept, tile, sizeof tile) == 0);
}
#else
static void alternate_tiles(void) {
  puts("no tiles in this compiler");
}
#endif

static void *store_once(void *place) {
  *(uint8_t *)place = 1;
  return NULL;
}

static unsigned mappings(void) {
  FILE *file = fopen("/proc/self/maps", "r");
  unsigned lines = 0;
  for (int c; (c = getc(file)) != EOF;)
    lines += c == '\n';
  fclose(file);
  return lines;
}

/* Threads come and go: the alternate stacks of those that have ended are used again. */
static void many_threads(void) {
  unsigned before = mappings();
  for (unsigned i = 0; i < THREADS; i++) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, store_once, map + i) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
  }
  CHECK(mappings() < before + 100);
}

/* A thread that was there before, and first stores to the map when it makes its stack there. */
static void context_in_thread(void) {
  pthread_t last;
  pthread_barrier_t ready;
  pthread_barrier_init(&ready, NULL, 2);
  CHECK(pthread_create(&last, NULL, context_thread, &ready) == 0);
  pthread_barrier_wait(&ready);
  pthread_barrier_wait(&ready);
  pthread_join(last, NULL);
}

static void thread_stack(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  int error = pthread_attr_setstack(&attributes, map + STACK_AT, 4 * STACK_BYTES);
  CHECK(error == (dsm_is_direct(session) ? 0 : EACCES));
  CHECK(pthread_create(&thread, &attributes, store_once, map) == 0 && pthread_join(thread, NULL) == 0);
  /* And elsewhere it is what it ever was. */
  static _Alignas(4096) uint8_t own[1 << 18];
  void *at;
  size_t size;
  CHECK(pthread_attr_setstack(&attributes, own, sizeof own) == 0);
  CHECK(pthread_attr_getstack(&attributes, &at, &size) == 0 && at == own && size == sizeof own);
  CHECK(pthread_create(&thread, &attributes, store_once, map + 1) == 0 && pthread_join(thread, NULL) == 0);
  CHECK(pthread_attr_setstack(&attributes, own, 100) == EINVAL);
  CHECK(map[0] == 1 && map[1] == 1);
}

/* ---- the edge of the map ---- */

static sigjmp_buf back;
static siginfo_t seen;
static void on_fault(int signo, siginfo_t *info, void *context) {
  (void)signo, (void)context;
  seen = *info;
  siglongjmp(back, 1);
}

static void store_8(uint8_t *at) {
  *(volatile uint64_t *)(void *)at = ~0ull;
}
static void add_4(uint8_t *at) {
  *(volatile uint32_t *)(void *)at += 5;
}
static void store_16(uint8_t *at) {
  _mm_storeu_si128((__m128i *)(void *)at, _mm_set1_epi8(-1));
}
static void store_string(uint8_t *at) {
  long count = 1;
  __asm__ volatile("rep stosq" : "+D"(at), "+c"(count) : "a"(-1L) : "memory");
}
static void store_stepped(uint8_t *at) {
  __asm__ volatile("fxsave64 (%0)" ::"r"(((uintptr_t)at & ~15ull) - 64) : "memory");
}
static void store_popped(uint8_t *at) {
  __asm__ volatile("push %%rax; pop (%0)" ::"r"(at) : "memory");
}

/* Writes the second of two words, the one that crosses. */
__attribute__((target("avx2"))) static void store_masked(uint8_t *at) {
  if (__builtin_cpu_supports("avx2"))
    _mm_maskstore_epi64((long long *)(void *)(at - 8), _mm_set_epi64x(-1, 0), _mm_set1_epi64x(-1));
  else
    store_8(at);
}
/* Its second element crosses, the first one lies where it will lie again. */
__attribute__((target("avx512f,avx512vl"))) static void store_scattered(uint8_t *at) {
  if (__builtin_cpu_supports("avx512vl"))
    _mm_mask_i64scatter_epi64(at, 2, _mm_set_epi64x(0, -256), _mm_set1_epi64x(0x1111111111111111), 1);
  else
    store_8(at);
}

/* Memory of the program's before the map: stores that end inside the map are a fault like those that end behind it. */
static void edge_before(void) {
  uint8_t *before = mmap(map - 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  CHECK(before == map - 4096);
  void (*const kinds[])(uint8_t *) = {store_8, add_4, store_16, store_string, store_popped, store_masked};
  for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    seen = (siginfo_t){.si_signo = 0};
    if (sigsetjmp(back, 1) == 0)
      kinds[i](map - 3);
    CHECK(dsm_is_direct(session) ? seen.si_signo == 0 : seen.si_signo == SIGSEGV && (uint8_t *)seen.si_addr >= map - 3 &&
                                                                        (uint8_t *)seen.si_addr < map + 512);
    CHECK(dsm_is_direct(session) || (map[0] == 0 && map[-3] == 0));
  }
}

static void edge(void) {
  /* None with a LOCK prefix: Linux lets a program that locks the bus wait, on a busy machine for minutes. */
  void (*const kinds[])(uint8_t *) = {store_8,       add_4,        store_16,     store_string,
                                      store_stepped, store_popped, store_masked, store_scattered};
  uint8_t *end = map + dsm_size(session);
  for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    memset(end - 512, 0x11, 512);
    seen = (siginfo_t){.si_signo = 0};
    if (sigsetjmp(back, 1) == 0)
      kinds[i](end - 3);
    /* Some instructions' faults the processor itself names by a byte further on. */
    int named = (uint8_t *)seen.si_addr >= end && (uint8_t *)seen.si_addr < end + 512;
    if (seen.si_signo != SIGSEGV || !named || seen.si_code != SEGV_MAPERR) {
      fprintf(stderr, "kind %u: signal %d, code %d, at %p instead of %p\n", i, seen.si_signo, seen.si_code, seen.si_addr,
              (void *)end);
      exit(1);
    }
    for (unsigned byte = 1; byte <= 512; byte++)
      CHECK(end[-(int)byte] == 0x11);
  }
}

/* ---- */

static int run(const char *name) {
  if (strcmp(name, "context") == 0) {
    context();
  } else if (strcmp(name, "context-thread") == 0) {
    context_in_thread();
  } else if (strcmp(name, "context-other") == 0) {
    context_of_other();
  } else if (strcmp(name, "many-threads") == 0) {
    many_threads();
  } else if (strcmp(name, "context-signal") == 0) {
    handle(SIGUSR1, on_signal, SA_ONSTACK);
    run_in_map(raise_in_map);
    CHECK(hits == 1);
  } else if (strcmp(name, "context-change") == 0) {
    CHECK(dsm_is_direct(session));
    run_in_map(stay_in_map);
    CHECK(!dsm_is_direct(session));
  } else if (strcmp(name, "dies-signal") == 0) {
    handle(SIGUSR1, on_signal, 0);
    run_in_map(raise_in_map);
  } else if (strcmp(name, "calls") == 0) {
    for (int time = 0; time < 3; time++) {
      CHECK(dsm_lock(session, "leased") == DSM_OK);
      CHECK(dsm_unlock(session, "leased") == DSM_OK);
    }
    run_in_map(barrier_in_map);
    run_in_map(read_in_map);
  } else if (strcmp(name, "alternate-in-map") == 0) {
    alternate_in_map();
  } else if (strcmp(name, "alternate-in-map-store") == 0) {
    alternate(map + STACK_AT, STACK_BYTES);
    store_all_kinds();
  } else if (strcmp(name, "alternate-small") == 0) {
    alternate_small();
  } else if (strcmp(name, "alternate-tiles") == 0) {
    alternate_tiles();
  } else if (strcmp(name, "alternate-seen") == 0) {
    alternate_seen();
  } else if (strcmp(name, "thread-stack") == 0) {
    thread_stack();
  } else if (strcmp(name, "edge") == 0) {
    edge();
    edge_before();
  } else if (strcmp(name, "dies-edge") == 0) {
    store_8(map + dsm_size(session) - 3);
  } else {
    return 2;
  }
  puts("ok");
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 2)
    return 2;
  if (strcmp(argv[1], "edge") == 0) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  }
  CHECK(dsm_open(NULL, &session) == DSM_OK);
  map = dsm_address(session);
  int failed = dsm_rank(session) == 0 ? run(argv[1]) : 0;
  if (dsm_rank(session) == 1)
    map[200] = 1;
  CHECK(dsm_barrier_wait(session) == DSM_OK);
  CHECK(dsm_close(session) == DSM_OK);
  return failed;
}
