/* Runs every row of rows.h on plain memory and on a captured map, and compares: memory, all registers, flags, vector
 * and mask registers, the x87 unit, and exactly which bytes were published. One line a row: `ok`, `not ok`, `skip`. */
#include <asm/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trap/decode.h"
#include "harness.h"
#include "rows.h"

#define MAP_BYTES (16 * PAGE)
#define TARGET (5 * PAGE + 0x200)
#define HIGH_ADDRESS 0x2a0000000000ull
#define LOW_ADDRESS 0x20000000ull
#ifndef ALT_STACK
#define ALT_STACK 8192u
#endif

extern const struct row __start_rows[], __stop_rows[];

static uint8_t source[16 * PAGE] __attribute__((aligned(4096)));
static struct state initial, plain, second, captured;
static uint8_t plain_memory[MAP_BYTES], second_memory[MAP_BYTES];

static uint64_t random_state = 88172645463325252ull;
static uint64_t pattern(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static void fill(uint8_t *at, size_t length, uint64_t seed, uint8_t flip) {
  random_state = seed;
  for (size_t i = 0; i < length; i++) at[i] = (uint8_t)(pattern() >> 24) ^ flip;
}

static const struct {
  unsigned number, offset, size;
} parts[] = {{2, 576, 256}, {5, 1088, 64}, {6, 1152, 512}, {7, 1664, 1024}};
static unsigned part_offset[8], part_size[8];

static void find_parts(void) {
  for (unsigned i = 0; i < 4; i++) {
    unsigned n = parts[i].number, a, b, c, d;
    if ((xcr0 >> n & 1) == 0) continue;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0xd), "c"(n));
    part_size[n] = a;
    part_offset[n] = b;
    if (b + a > sizeof(initial.xsave)) fail("the processor's state is larger than the tests know");
  }
}

static void prepare(struct state *s, uintptr_t t, uint64_t flags) {
  memset(s, 0, sizeof(*s));
  uint64_t *g = s->gpr;
  g[0] = 0x8877665544332211;
  g[1] = 5;
  g[2] = 0xfedcba9876543210;
  g[3] = g[5] = g[7] = g[12] = g[13] = t;
  g[6] = (uintptr_t)source + 0x800;
  g[8] = 0x0123456789abcdef;
  g[9] = t - 40;
  g[10] = 0xdeadbeefcafebabe;
  g[11] = t / 8;
  g[14] = 0xa5a55a5a0ff0f00f;
  g[15] = t / 2;
  s->flags = 0x202 | flags;
  uint8_t *x = s->xsave;
  uint16_t control = 0x37f;
  uint32_t mxcsr = 0x1f80;
  uint64_t in_use = xcr0 & 0xe7;
  memcpy(x, &control, 2);
  memcpy(x + 24, &mxcsr, 4);
  memcpy(x + 512, &in_use, 8);
  fill(x + 160, 256, 4711, 0);
  for (unsigned n = 2; n < 8; n++) {
    if (part_size[n] != 0 && n != 5) fill(x + part_offset[n], part_size[n], 4711 + n, 0);
  }
  if (part_size[5] != 0) {
    static const uint64_t masks[8] = {0, 0xaaaaaaaaaaaaaaaa, 0x80f3000112bc3d0d, ~0ull, 0, 1, 0xffffffff0000ff00, 2};
    memcpy(x + part_offset[5], masks, sizeof(masks));
    /* indices of the scatters: zmm29 dwords, zmm30 qwords; some twice, some negative, far apart */
    static const int8_t index[16] = {0, 1, 5, 5, -3, 40, 41, 42, 0, 100, -100, 17, 18, 19, 19, 7};
    for (unsigned i = 0; i < 16; i++) {
      int32_t narrow = index[i] * 16;
      memcpy(x + part_offset[7] + 13 * 64 + i * 4, &narrow, 4);
    }
    for (unsigned i = 0; i < 8; i++) {
      int64_t wide = index[i] * 16;
      memcpy(x + part_offset[7] + 14 * 64 + i * 8, &wide, 8);
    }
  }
}

/* First difference of the two states, or NULL. */
static const char *compare_states(const struct state *a, const struct state *b, uint64_t flags_mask) {
  static char text[120];
  static const char *names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  for (unsigned i = 0; i < 16; i++) {
    if (a->gpr[i] != b->gpr[i]) {
      snprintf(text, sizeof(text), "%s is %llx, not %llx", names[i], (unsigned long long)b->gpr[i],
               (unsigned long long)a->gpr[i]);
      return text;
    }
  }
  if (((a->flags ^ b->flags) & flags_mask) != 0) {
    snprintf(text, sizeof(text), "flags are %llx, not %llx", (unsigned long long)b->flags,
             (unsigned long long)a->flags);
    return text;
  }
  if (memcmp(a->xsave, b->xsave, 5) != 0) return "x87 control, status or tags differ";
  if (memcmp(a->xsave + 24, b->xsave + 24, 4) != 0) return "mxcsr differs";
  for (unsigned i = 0; i < 8; i++) {
    if (memcmp(a->xsave + 32 + i * 16, b->xsave + 32 + i * 16, 10) != 0) return "an x87 register differs";
  }
  if (memcmp(a->xsave + 160, b->xsave + 160, 256) != 0) return "an xmm register differs";
  for (unsigned n = 2; n < 8; n++) {
    if (part_size[n] != 0 && memcmp(a->xsave + part_offset[n], b->xsave + part_offset[n], part_size[n]) != 0) {
      return n == 2 ? "a ymm register differs" : n == 5 ? "a mask register differs" : "a zmm register differs";
    }
  }
  return NULL;
}

static int has(const struct row *row, char what) {
  return strchr(row->how, what) != NULL;
}

/* NULL, or what went wrong. */
static const char *run_row(const struct row *row, struct map *map, uint64_t flags) {
  static char text[160];
  uintptr_t t = (uintptr_t)map->base + TARGET;
  fill(source, sizeof(source), 99, 0);
  fill(map->alias, map->size, 12345, 0);
  prepare(&initial, t, flags);
  if (has(row, 'p')) {
    memcpy(&initial.gpr[0], map->alias + TARGET, 8);
    memcpy(&initial.gpr[2], map->alias + TARGET + 8, 8);
  }
  if (has(row, 'g')) syscall(SYS_arch_prctl, ARCH_SET_GS, t - 0x100);

  map_writable(map, 1);
  plain = initial;
  state_run(&plain, row->code);
  memcpy(plain_memory, map->alias, map->size);
  fill(map->alias, map->size, 12345, 0xff);
  fill(source, sizeof(source), 99, 0);
  second = initial;
  if (!has(row, 'p')) state_run(&second, row->code);
  memcpy(second_memory, map->alias, map->size);

  map_writable(map, 0);
  fill(map->alias, map->size, 12345, 0);
  fill(source, sizeof(source), 99, 0);
  map_forget(map);
  captured = initial;
  state_run(&captured, row->code);

  /* a locked xchg and its like must have come as atomics, all else as stores */
  if (map->wrong != NULL) return map->wrong;
  uint64_t flags_mask = has(row, 'f') ? 0x41 : 0xcd5;
  const char *difference = compare_states(&plain, &captured, flags_mask);
  if (difference != NULL) return difference;
  static uint8_t before[MAP_BYTES];
  fill(before, map->size, 12345, 0);
  uint32_t expected_count = 0;
  for (size_t i = 0; i < map->size; i++) {
    int64_t offset = (int64_t)i - (int64_t)TARGET;
    int expected;
    if (has(row, 'S') || has(row, 'X')) {
      expected = plain_memory[i] == second_memory[i] || (has(row, 'X') && plain_memory[i] != before[i]);
    } else {
      expected = !has(row, 'N') && offset >= row->offset && offset < row->offset + row->length;
    }
    expected_count += (uint32_t)expected;
    if (map->alias[i] != plain_memory[i]) {
      snprintf(text, sizeof(text), "memory at T%+lld is %02x, not %02x", (long long)offset, map->alias[i],
               plain_memory[i]);
      return text;
    }
    if ((map->published[i] != 0) != expected) {
      snprintf(text, sizeof(text), "the byte at T%+lld was %spublished", (long long)offset, expected ? "not " : "");
      return text;
    }
    if (map->published[i] > 1 && !has(row, 'm')) return "a byte was published twice";
  }
  uint32_t stores = !has(row, 'A') && expected_count != 0, atomics = has(row, 'A');
  if (map->atomics != atomics || (map->stores != stores && !(has(row, 'm') && map->stores > 1))) {
    snprintf(text, sizeof(text), "%u stores and %u atomics reached the sink, not %u and %u", map->stores, map->atomics,
             stores, atomics);
    return text;
  }
  return NULL;
}

/* Decodes every instruction of a row at the end of a page: with nothing readable behind it, and divided at each of its
 * bytes. Returns NULL, or what went wrong. */
static const char *split_row(const struct row *row) {
  static uint8_t *pages;
  if (pages == NULL) {
    pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) fail("mmap");
  }
  struct dsm_insn whole, part;
  for (const uint8_t *at = row->code; *at != 0xe9 && *at != 0xeb; at += whole.length) {
    if (!dsm_decode((uint64_t)at, &whole)) return "an instruction cannot be decoded";
    for (unsigned here = 1; here <= whole.length; here++) {
      mprotect(pages, 2 * PAGE, PROT_READ | PROT_WRITE);
      memset(pages, 0x90, 2 * PAGE);
      uint8_t *copy = pages + PAGE - here;
      memcpy(copy, at, whole.length);
      if (here == whole.length) mprotect(pages + PAGE, PAGE, PROT_NONE);
      if (!dsm_decode((uint64_t)copy, &part)) return "an instruction cannot be decoded at the end of a page";
      part.rip = whole.rip;
      if (memcmp(&whole, &part, sizeof(whole)) != 0) return "it is decoded differently at the end of a page";
    }
  }
  return NULL;
}

int main(int argc, char **argv) {
  const char *only = argc > 1 ? argv[1] : NULL;
  harness_init();
  find_parts();
  /* The smallest stack a handler may get, on a page that must not be touched: the handler has to fit. */
  uint8_t *stack = mmap(NULL, ALT_STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED || mprotect(stack, PAGE, PROT_NONE) != 0) fail("no alternate stack");
  memset(stack + PAGE, 0x5a, ALT_STACK);
  stack_t alternate = {.ss_sp = stack + PAGE, .ss_size = ALT_STACK};
  if (sigaltstack(&alternate, NULL) != 0) fail("sigaltstack");
  if (dsm_capture_init() != 0) fail("dsm_capture_init");
  struct map high, low;
  map_create(&high, HIGH_ADDRESS, MAP_BYTES);
  map_create(&low, LOW_ADDRESS, MAP_BYTES);

  unsigned good = 0, bad = 0, skipped = 0;
  for (const struct row *row = __start_rows; row < __stop_rows; row++) {
    if (only != NULL && strstr(row->text, only) == NULL && strcmp(row->group, only) != 0) continue;
    if (!cpu_has(row->feature)) {
      printf("skip\t%s\t%s\tthe processor has no %s\n", row->group, row->text, row->feature);
      skipped++;
      continue;
    }
    const char *wrong = run_row(row, has(row, 'l') ? &low : &high, 0);
    if (wrong == NULL) wrong = run_row(row, has(row, 'l') ? &low : &high, 0x8d5);
    if (wrong == NULL) wrong = split_row(row);
    if (wrong == NULL) {
      printf("ok\t%s\t%s\n", row->group, row->text);
      good++;
    } else {
      printf("not ok\t%s\t%s\t%s\n", row->group, row->text, wrong);
      bad++;
    }
    fflush(stdout);
  }
  size_t untouched = 0;
  while (untouched < ALT_STACK && stack[PAGE + untouched] == 0x5a) untouched++;
  printf("total\t%u ok, %u not ok, %u skipped; %zu bytes of stack\n", good, bad, skipped, ALT_STACK - untouched);
  return bad != 0;
}
