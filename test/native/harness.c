#include "harness.h"

#include <cpuid.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

uint64_t xcr0;

void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fflush(stdout);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

static void break_rule(struct map *map, const char *rule) {
  const char *none = NULL;
  __atomic_compare_exchange_n(&map->wrong, &none, rule, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static int sink_fault(void *context, uintptr_t address, int atomic, uintptr_t instruction) {
  struct map *map = context;
  (void)atomic, (void)instruction;
  __atomic_fetch_add(&map->faults, 1, __ATOMIC_SEQ_CST);
  if (address - (uintptr_t)map->base >= map->size) break_rule(map, "fault() outside the map");
  if (address < map->hole_begin || address >= map->hole_end) return 0;
  if (mprotect((void *)(address / PAGE * PAGE), PAGE, PROT_READ | PROT_WRITE) != 0) break_rule(map, "mprotect");
  return 1;
}

static int sink_store(void *context, const struct dsm_run *runs, uint32_t count) {
  struct map *map = context;
  uint64_t end = 0;
  size_t total = 0;
  __atomic_fetch_add(&map->stores, 1, __ATOMIC_SEQ_CST);
  if (count == 0) break_rule(map, "store() without runs");
  for (uint32_t i = 0; i < count; i++) {
    if (runs[i].length == 0) break_rule(map, "an empty run");
    if (runs[i].offset >= map->size || runs[i].length > map->size - runs[i].offset) {
      break_rule(map, "a run outside the map");
      return 0;
    }
    if (i > 0 && runs[i].offset < end) break_rule(map, "runs out of order");
    if (i > 0 && runs[i].offset == end) break_rule(map, "adjacent runs not joined");
    end = runs[i].offset + runs[i].length;
    total += runs[i].length;
    memcpy(map->alias + runs[i].offset, runs[i].bytes, runs[i].length);
    for (uint32_t j = 0; j < runs[i].length; j++) map->published[runs[i].offset + j]++;
  }
  if (total > DSM_WRITE_BYTES_MAX) break_rule(map, "more than a MiB in one call");
  return 0;
}

#define ATOMIC(type)                                                                                                 \
  do {                                                                                                               \
    type *at = (type *)(void *)(map->alias + offset), before, second, wanted, next;                                  \
    memcpy(&second, operand, sizeof(second));                                                                        \
    if (op == DSM_ATOMIC_CMPXCHG) memcpy(&wanted, compare, sizeof(wanted));                                          \
    memcpy(&before, at, sizeof(before));                                                                             \
    do {                                                                                                             \
      switch (op) {                                                                                                  \
        case DSM_ATOMIC_ADD: next = (type)(before + second); break;                                                  \
        case DSM_ATOMIC_AND: next = before & second; break;                                                          \
        case DSM_ATOMIC_OR: next = before | second; break;                                                           \
        case DSM_ATOMIC_XOR: next = before ^ second; break;                                                          \
        case DSM_ATOMIC_XCHG: next = second; break;                                                                  \
        case DSM_ATOMIC_CMPXCHG: next = before == wanted ? second : before; break;                                   \
        default: next = (type)(0 - before); break;                                                                   \
      }                                                                                                              \
    } while (!__atomic_compare_exchange_n(at, &before, next, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));                \
    memcpy(old, &before, sizeof(before));                                                                            \
  } while (0)

static int sink_atomic(void *context, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                       const void *compare, void *old) {
  struct map *map = context;
  __atomic_fetch_add(&map->atomics, 1, __ATOMIC_SEQ_CST);
  if (offset >= map->size || width > map->size - offset) {
    break_rule(map, "an atomic outside the map");
    return 0;
  }
  switch (width) {
    case 1: ATOMIC(uint8_t); break;
    case 2: ATOMIC(uint16_t); break;
    case 4: ATOMIC(uint32_t); break;
    case 8: ATOMIC(uint64_t); break;
    case 16:
      if (op != DSM_ATOMIC_CMPXCHG) break_rule(map, "a 16-byte atomic that is no cmpxchg");
      memcpy(old, map->alias + offset, 16); /* the rows that use it are single-threaded */
      if (memcmp(old, compare, 16) == 0) memcpy(map->alias + offset, operand, 16);
      break;
    default: break_rule(map, "an atomic of impossible width");
  }
  for (uint32_t j = 0; j < width && width <= 16; j++) map->published[offset + j]++;
  return 0;
}

static struct dsm_burst_rules sink_burst_rules(void *context) {
  return ((struct map *)context)->rules;
}

static int sink_burst(void *context, const struct dsm_run *runs, uint32_t count) {
  struct map *map = context;
  if (count == 0) break_rule(map, "burst() without runs");
  if (map->on_burst != NULL) map->on_burst(map, runs, count);
  __atomic_fetch_add(&map->bursts, 1, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&map->burst_runs, count, __ATOMIC_SEQ_CST);
  for (uint32_t i = 0; i < count; i++) {
    if (runs[i].length == 0) break_rule(map, "an empty run");
    if (runs[i].offset >= map->size || runs[i].length > map->size - runs[i].offset) {
      break_rule(map, "a run outside the map");
      return 0;
    }
    __atomic_fetch_add(&map->burst_bytes, runs[i].length, __ATOMIC_SEQ_CST);
    memcpy(map->alias + runs[i].offset, runs[i].bytes, runs[i].length);
    for (uint32_t j = 0; j < runs[i].length; j++) map->published[runs[i].offset + j]++;
  }
  return 0;
}

const struct dsm_sink recording_sink = {.fault = sink_fault,
                                        .store = sink_store,
                                        .atomic = sink_atomic,
                                        .burst_rules = sink_burst_rules,
                                        .burst = sink_burst};

void map_create(struct map *map, uintptr_t address, size_t size) {
  memset(map, 0, sizeof(*map));
  int fd = memfd_create("map", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, (off_t)size) != 0) fail("cannot create the map's file");
  map->base = mmap((void *)address, size, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
  map->alias = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  map->published = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if ((uintptr_t)map->base != address || map->alias == MAP_FAILED || map->published == MAP_FAILED) {
    fail("cannot map the map at %p", (void *)address);
  }
  close(fd);
  map->size = size;
  map->region = dsm_region_add(address, size, &recording_sink, map);
  if (map->region < 0) fail("no room in the region table");
}

void map_forget(struct map *map) {
  memset(map->published, 0, map->size);
  map->stores = map->atomics = map->faults = map->bursts = 0;
  map->burst_runs = map->burst_bytes = 0;
  map->wrong = NULL;
}

void map_writable(struct map *map, int writable) {
  if (mprotect(map->base, map->size, writable ? PROT_READ | PROT_WRITE : PROT_READ) != 0) fail("mprotect");
}

/* ---- features ---- */

static const struct {
  const char *name;
  unsigned leaf, subleaf, reg, bit; /* reg: 0 eax, 1 ebx, 2 ecx, 3 edx */
  uint64_t needs;                   /* in XCR0 */
} features[] = {
    {"base", 1, 0, 3, 0, 0},          {"fsgsbase", 7, 0, 1, 0, 0},     {"sse3", 1, 0, 2, 0, 0},
    {"sse4.1", 1, 0, 2, 19, 0},       {"movbe", 1, 0, 2, 22, 0},       {"cx16", 1, 0, 2, 13, 0},
    {"fxsr", 1, 0, 3, 24, 0},         {"xsave", 1, 0, 2, 27, 3},       {"xsaveopt", 13, 1, 0, 0, 3},
    {"xsavec", 13, 1, 0, 1, 3},       {"avx", 1, 0, 2, 28, 7},         {"f16c", 1, 0, 2, 29, 7},
    {"avx2", 7, 0, 1, 5, 7},          {"avx512f", 7, 0, 1, 16, 0xe7},  {"avx512dq", 7, 0, 1, 17, 0xe7},
    {"avx512bw", 7, 0, 1, 30, 0xe7},  {"avx512vl", 7, 0, 1, 31, 0xe7}, {"avx512vbmi2", 7, 0, 2, 6, 0xe7},
    {"avx512fp16", 7, 0, 3, 23, 0xe7}, {"movdiri", 7, 0, 2, 27, 0},    {"movdir64b", 7, 0, 2, 28, 0},
    {"sse4a", 0x80000001, 0, 2, 6, 0}, {"clzero", 0x80000008, 0, 1, 0, 0},
};

int cpu_has(const char *feature) {
  for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
    unsigned r[4];
    if (strcmp(features[i].name, feature) != 0) continue;
    if (!__get_cpuid_count(features[i].leaf, features[i].subleaf, &r[0], &r[1], &r[2], &r[3])) return 0;
    return (r[features[i].reg] >> features[i].bit & 1) != 0 && (xcr0 & features[i].needs) == features[i].needs;
  }
  fail("the tests know no processor feature '%s'", feature);
}

void harness_init(void) {
  unsigned a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_OSXSAVE) != 0) {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    xcr0 = low | (uint64_t)high << 32;
  }
  if ((xcr0 & 3) != 3) fail("these tests need a processor with XSAVE");
}

/* ---- running one instruction ---- */

__asm__(
    ".text\n"
    ".globl state_run, state_end\n"
    ".type state_run, @function\n"
    "state_run:\n"
    "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; sub $8, %rsp\n"
    "  mov %rdi, state_current(%rip)\n"
    "  mov %rsi, state_code(%rip)\n"
    "  mov %rsp, state_stack(%rip)\n"
    "  mov $0xe7, %eax; xor %edx, %edx; xrstor64 192(%rdi)\n"
    "  pushq 128(%rdi); popfq\n"
    "  mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
    "  mov 40(%rdi), %rbp; mov 48(%rdi), %rsi\n"
    "  mov 64(%rdi), %r8; mov 72(%rdi), %r9; mov 80(%rdi), %r10; mov 88(%rdi), %r11\n"
    "  mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n"
    "  mov 56(%rdi), %rdi\n"
    "  jmp *state_code(%rip)\n"
    "state_end:\n"
    "  mov %rax, state_code(%rip)\n"
    "  mov state_current(%rip), %rax\n"
    "  mov %rsp, 32(%rax)\n"
    "  mov state_stack(%rip), %rsp\n"
    "  pushfq; popq 128(%rax); cld\n"
    "  mov %rcx, 8(%rax); mov %rdx, 16(%rax); mov %rbx, 24(%rax)\n"
    "  mov %rbp, 40(%rax); mov %rsi, 48(%rax); mov %rdi, 56(%rax)\n"
    "  mov %r8, 64(%rax); mov %r9, 72(%rax); mov %r10, 80(%rax); mov %r11, 88(%rax)\n"
    "  mov %r12, 96(%rax); mov %r13, 104(%rax); mov %r14, 112(%rax); mov %r15, 120(%rax)\n"
    "  mov %rax, %rdi\n"
    "  mov state_code(%rip), %rax; mov %rax, 0(%rdi)\n"
    "  mov $0xe7, %eax; xor %edx, %edx; xsave64 192(%rdi)\n"
    "  fninit; movl $0x1f80, -8(%rsp); ldmxcsr -8(%rsp)\n"
    "  add $8, %rsp; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "  ret\n"
    ".size state_run, . - state_run\n"
    ".local state_current, state_code, state_stack\n"
    ".comm state_current, 8, 8\n"
    ".comm state_code, 8, 8\n"
    ".comm state_stack, 8, 8\n");
