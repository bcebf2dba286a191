/* Made-up faults: a random instruction at RIP, random registers and a random signal frame, answered by dsm_capture into
 * a sink that checks what it is given. Nothing of it is executed; of instructions that would be stepped the copy is
 * checked instead. */
#include "trap/capture.h"
#include "trap/decode.h"
#include "trap/fault.h"
#include "trap/frame.h"
#include "trap/region.h"
#include "trap/region_entry.h"
#include "trap/step.h"

#include <cpuid.h>
#include <string.h>
#include <sys/mman.h>
#include <xed/xed-interface.h>

#include "fuzz.h"
#include "instructions.h"

#define PAGE 4096u
#define MAP_PAGES 16u
#define MAP_SIZE (MAP_PAGES * PAGE)
#define AROUND (64 * PAGE) /* unmapped memory before and behind the map */
#define HIGH 0x2a0000000000u
#define LOW 0x2a000000u /* an address of 32 bits */
#define FRAME_BYTES 16384
#define MAGIC1 0x46505853u
#define MAGIC2 0x46505845u

static uint8_t *code, *source, *frame;
static uint32_t xsave_bytes;
static uint64_t enabled;
static int regions[2];
static const uintptr_t bases[2] = {HIGH, LOW};

/* Of the input under way. */
static const uint8_t *next_byte, *end_byte;
static uintptr_t base;
static uint16_t holes; /* a bit for each page: the sink has opened it */
static int fails, calls;

static uint8_t take(void) { return next_byte < end_byte ? *next_byte++ : 0; }

static uint64_t take_number(unsigned bytes) {
  uint64_t value = 0;
  for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)take() << 8 * i;
  return value;
}

/* ---- the sink ---- */

static int sink_fault(void *context, uintptr_t address, int atomic, uintptr_t instruction) {
  CHECK(context == &regions && address - base < MAP_SIZE);
  (void)atomic, (void)instruction;
  return holes >> (address - base) / PAGE & 1;
}

static int sink_store(void *context, const struct dsm_run *runs, uint32_t count) {
  uint64_t end = 0, total = 0;
  volatile uint8_t seen = 0;
  CHECK(context == &regions && count >= 1);
  for (uint32_t i = 0; i < count; i++) {
    CHECK(runs[i].length >= 1 && runs[i].offset < MAP_SIZE && runs[i].length <= MAP_SIZE - runs[i].offset);
    CHECK(i == 0 || runs[i].offset >= end);
    end = runs[i].offset + runs[i].length;
    total += runs[i].length;
    for (uint32_t j = 0; j < runs[i].length; j++) seen = (uint8_t)(seen ^ runs[i].bytes[j]);
  }
  CHECK(total <= DSM_SLOT_BYTES);
  calls++;
  return fails ? -1 : 0;
}

static int sink_atomic(void *context, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                       const void *compare, void *old) {
  CHECK(context == &regions && op >= DSM_ATOMIC_ADD && op <= DSM_ATOMIC_NEG);
  CHECK(width == 1 || width == 2 || width == 4 || width == 8 || (width == 16 && op == DSM_ATOMIC_CMPXCHG));
  CHECK(offset < MAP_SIZE && width <= MAP_SIZE - offset && operand != NULL && compare != NULL);
  uint8_t bytes[16];
  memcpy(bytes, operand, width);
  memcpy(bytes, compare, width);
  memcpy(old, (const uint8_t *)base + offset, width);
  calls++;
  return fails ? -1 : 0;
}

static const struct dsm_sink sink = {.fault = sink_fault, .store = sink_store, .atomic = sink_atomic};

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc, (void)argv;
  CHECK(dsm_capture_init() == 0);
  for (int i = 0; i < 2; i++) {
    CHECK(mmap((void *)(bases[i] - AROUND), MAP_SIZE + 2 * AROUND, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1,
               0) == (void *)(bases[i] - AROUND));
    CHECK(mprotect((void *)bases[i], MAP_SIZE, PROT_READ | PROT_WRITE) == 0);
    for (unsigned at = 0; at < MAP_SIZE; at++) ((uint8_t *)bases[i])[at] = (uint8_t)(at * 7 + at / 256);
    CHECK(mprotect((void *)bases[i], MAP_SIZE, PROT_READ) == 0);
    regions[i] = dsm_region_add(bases[i], MAP_SIZE, &sink, &regions);
    CHECK(regions[i] >= 0);
  }
  code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  source = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  frame = mmap(NULL, FRAME_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(code != MAP_FAILED && source != MAP_FAILED && frame != MAP_FAILED);
  CHECK(mprotect(source + PAGE, PAGE, PROT_NONE) == 0); /* copies from there fault on the way */
  unsigned a, b, c, d;
  CHECK(__get_cpuid(1, &a, &b, &c, &d) && (c & bit_OSXSAVE) != 0);
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  enabled = low | (uint64_t)high << 32;
  CHECK(__get_cpuid_count(0xd, 0, &a, &b, &c, &d));
  xsave_bytes = b;
  CHECK(xsave_bytes + 4 <= FRAME_BYTES);
  return 0;
}

/* A register's value: often where an address of the map comes of it. */
static uint64_t take_register(void) {
  uint8_t how = take();
  switch (how % 16) {
    case 0: return base + 0x5200;
    case 1: return base + take_number(2);
    case 2: return base + MAP_SIZE - take();
    case 3: return base - take();
    case 4: return (base + 0x5200) / 8;
    case 5: return (base + 0x5200) / 2;
    case 6: return base + 0x5200 - 40;
    case 7: return 5;
    case 8: return take();
    case 9: return 0 - (uint64_t)take();
    case 10: return (uintptr_t)source + PAGE - take();
    case 11: return (uintptr_t)source + 0x800;
    case 12: return take_number(8);
    case 13: return 0x8877665544332211;
    case 14: return ~0ull >> take() % 64;
    default: return 0;
  }
}

static void make_frame(ucontext_t *context) {
  uint8_t how = take();
  memset(frame, 0, FRAME_BYTES);
  uint32_t fill = how % 4 == 0 ? 0 : xsave_bytes;
  for (uint32_t i = 0; i < fill; i += 8) { /* vector registers: small numbers, so that scatters stay near */
    uint64_t value = how % 4 == 1 ? take() : i * 0x9e3779b9u;
    if (how % 4 == 2) value &= 0x000000ff000000ffu;
    memcpy(frame + i, &value, 8);
  }
  uint64_t in_use = how & 0x40 ? take() & enabled : enabled;
  memcpy(frame + 512, &in_use, 8);
  uint32_t software[5] = {how & 0x80 ? 0 : MAGIC1, xsave_bytes + 4, (uint32_t)enabled, (uint32_t)(enabled >> 32),
                          xsave_bytes};
  memcpy(frame + 464, software, sizeof(software));
  uint32_t magic2 = how & 0x20 ? 0 : MAGIC2;
  memcpy(frame + xsave_bytes, &magic2, 4);
  context->uc_mcontext.fpregs = how == 0xff ? NULL : (void *)frame;
}

/* Elements of a scatter outside the map are really written: only to unmapped memory. */
static int scatter_is_safe(const ucontext_t *context, const struct dsm_insn *insn) {
  uint8_t indices[64];
  if (!dsm_frame_vector(context, (unsigned)insn->index, insn->op, indices)) return 1;
  struct dsm_insn plain = *insn;
  plain.index = DSM_BASE_NONE;
  plain.segment = DSM_SOURCE_NONE;
  uint64_t start = dsm_frame_address(context->uc_mcontext.gregs, &plain);
  for (unsigned i = 0; i < insn->op / insn->element; i++) {
    int64_t index = 0;
    if (insn->element == 4) {
      int32_t narrow;
      memcpy(&narrow, indices + i * 4, 4);
      index = narrow;
    } else {
      memcpy(&index, indices + i * 8, 8);
    }
    uint64_t address = start + (uint64_t)index * insn->scale;
    if ((insn->flags & DSM_FLAG_ADDR32) != 0) address = (uint32_t)address;
    if (address - (base - AROUND) > MAP_SIZE + 2 * AROUND - 8) return 0;
  }
  return insn->segment == DSM_SOURCE_NONE;
}

/* Where the processor would report the fault. */
static uintptr_t fault_address(const greg_t *regs, const struct dsm_insn *insn) {
  switch ((enum dsm_insn_kind)insn->kind) {
    case DSM_INSN_MOVS:
    case DSM_INSN_STOS:
      return (insn->flags & DSM_FLAG_ADDR32) != 0 ? (uint32_t)regs[REG_RDI] : (uintptr_t)regs[REG_RDI];
    case DSM_INSN_PUSH:
    case DSM_INSN_CALL: return (uintptr_t)regs[REG_RSP] - insn->width;
    case DSM_INSN_ENTER: return (uintptr_t)regs[REG_RSP] - 8;
    case DSM_INSN_MOVDIR64B: return dsm_frame_gpr(regs, insn->reg);
    case DSM_INSN_CLZERO: return dsm_frame_address(regs, insn) & ~63ull;
    case DSM_INSN_SCATTER: return base + 0x5200;
    default: return dsm_frame_address(regs, insn);
  }
}

/* The copy of a stepped instruction: the same instruction, on [step_reg], and the end (hlt) behind it. */
static void check_copy(const greg_t *regs, const struct dsm_insn *insn) {
  const uint8_t *copy = (const uint8_t *)regs[REG_RIP];
  xed_decoded_inst_t x, original;
  xed_decoded_inst_zero(&original);
  xed_decoded_inst_set_mode(&original, XED_MACHINE_MODE_LONG_64, XED_ADDRESS_WIDTH_64b);
  CHECK(xed_decode(&original, insn->bytes, insn->length) == XED_ERROR_NONE);
  xed_decoded_inst_zero(&x);
  xed_decoded_inst_set_mode(&x, XED_MACHINE_MODE_LONG_64, XED_ADDRESS_WIDTH_64b);
  CHECK(xed_decode(&x, copy, 15) == XED_ERROR_NONE);
  CHECK(xed_decoded_inst_get_iclass(&x) == xed_decoded_inst_get_iclass(&original));
  CHECK(xed_decoded_inst_get_iform_enum(&x) == xed_decoded_inst_get_iform_enum(&original));
  CHECK(copy[xed_decoded_inst_get_length(&x)] == 0xf4);
  CHECK(xed_decoded_inst_number_of_memory_operands(&x) == 1);
  xed_reg_enum_t reg = (xed_reg_enum_t)(XED_REG_RAX + insn->step_reg);
  CHECK(xed_decoded_inst_get_base_reg(&x, 0) == reg);
  CHECK(xed_decoded_inst_get_index_reg(&x, 0) == XED_REG_INVALID);
  CHECK(xed_decoded_inst_get_memory_displacement(&x, 0) == 0);
  CHECK(xed_decoded_inst_get_memory_operand_length(&x, 0) == xed_decoded_inst_get_memory_operand_length(&original, 0));
}

/* What is read and was never written is then seen to be wrong. */
static __attribute__((noinline)) void dirty_stack(void) {
  volatile uint8_t dirt[8192];
  for (unsigned i = 0; i < sizeof(dirt); i++) dirt[i] = 0xa5;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < INSTRUCTION_MAX + 1) return 0;
  memcpy(code + 100, data, INSTRUCTION_MAX);
  next_byte = data + INSTRUCTION_MAX;
  end_byte = data + size;
  uint8_t how = take();
  base = bases[how & 1];
  holes = how & 2 ? (uint16_t)take_number(2) : 0;
  fails = (how & 12) == 12;
  calls = 0;
  ucontext_t context;
  siginfo_t info;
  memset(&context, 0, sizeof context);
  memset(&info, 0, sizeof info);
  info.si_signo = SIGSEGV; /* which a capture may turn into SIGBUS */
  greg_t *regs = context.uc_mcontext.gregs;
  for (unsigned i = 0; i < 16; i++) regs[dsm_frame_gregs[i]] = (greg_t)take_register();
  regs[REG_RIP] = (greg_t)(code + 100);
  regs[REG_EFL] = (greg_t)(0x202 | (take_number(2) & 0xdd5)); /* arithmetic flags, direction, trap */
  make_frame(&context);

  struct dsm_insn insn;
  struct dsm_fault fault = {.context = &context, .regs = regs, .info = &info};
  CHECK(dsm_capture_is_atomic(&fault) == 0 || dsm_capture_is_atomic(&fault) == 1);
  if (dsm_decode((uint64_t)regs[REG_RIP], &insn)) {
    fault.address = how & 0x10 ? base + take_number(2) : fault_address(regs, &insn);
    if (insn.kind == DSM_INSN_SCATTER && !scatter_is_safe(&context, &insn)) return 0;
  } else {
    insn.length = 0;
    fault.address = base;
  }
  fault.region = dsm_region_enter(fault.address);
  if (fault.region == NULL || fault.region->base != base) {
    if (fault.region != NULL) dsm_region_exit(fault.region);
    return 0;
  }
  if ((holes >> (fault.address - base) / PAGE & 1) != 0) { /* the handler would not come this far */
    dsm_region_exit(fault.region);
    return 0;
  }
  greg_t before[NGREG];
  memcpy(before, regs, sizeof(before));
  unsigned slot = dsm_slot_claim(); /* the one that a step will get */
  dsm_slot_release(slot);
  fault.why = NULL;
  dirty_stack();
  switch (dsm_capture(&fault)) {
    case DSM_OUTCOME_DONE:
      CHECK(insn.length != 0 && !(fails && calls > 0));
      CHECK(insn.kind == DSM_INSN_CALL || regs[REG_RIP] == before[REG_RIP] ||
            regs[REG_RIP] == before[REG_RIP] + insn.length);
      break;
    case DSM_OUTCOME_STEPPING:
      CHECK(insn.kind == DSM_INSN_STEP && dsm_step_is_at((uint64_t)regs[REG_RIP]));
      check_copy(regs, &insn);
      dsm_slot_release(slot);
      break;
    case DSM_OUTCOME_FATAL: CHECK(fails && calls > 0); break;
    case DSM_OUTCOME_UNSUPPORTED:
      CHECK(fault.why != NULL && calls == 0 && memcmp(before, regs, sizeof(before)) == 0);
      break;
    case DSM_OUTCOME_CHAIN:
      CHECK(info.si_signo == SIGSEGV || info.si_signo == SIGBUS);
      before[REG_CR2] = regs[REG_CR2];
      before[REG_ERR] = regs[REG_ERR];
      CHECK(calls == 0 && memcmp(before, regs, sizeof(before)) == 0);
      break;
  }
  dsm_region_exit(fault.region);
  CHECK(dsm_slot_claim() == slot); /* none is kept */
  dsm_slot_release(slot);
  return 0;
}

void fuzz_seeds(void (*give)(const uint8_t *data, size_t size)) {
  /* The registers as the table wants them: rax rcx rdx rbx rsp rbp rsi rdi r8 ... r15. */
  static const uint8_t registers[] = {13, 7, 13, 0, 0, 0, 11, 0, 13, 6, 13, 4, 0, 0, 13, 5};
  for (const struct row *row = __start_rows; row < __stop_rows; row++) {
    uint8_t input[INSTRUCTION_MAX + 1 + sizeof(registers) + 3];
    memcpy(input, row->code, INSTRUCTION_MAX);
    input[INSTRUCTION_MAX] = 0;
    memcpy(input + INSTRUCTION_MAX + 1, registers, sizeof(registers));
    memset(input + INSTRUCTION_MAX + 1 + sizeof(registers), 0, 2);
    input[sizeof(input) - 1] = 2;
    give(input, sizeof input);
    input[INSTRUCTION_MAX] = 1;
    give(input, sizeof input);
  }
  /* Failed once: std; rep movsb of five bytes from address 0 down. */
  uint8_t failed[INSTRUCTION_MAX + 1 + 17 + 3] = {0xf3, 0xa4};
  memcpy(failed + INSTRUCTION_MAX + 1, registers, 6);
  static const uint8_t rest[] = {8, 0, 0, 13, 6, 13, 4, 0, 0, 13, 5, 0, 4, 2};
  memcpy(failed + INSTRUCTION_MAX + 7, rest, sizeof(rest));
  give(failed, sizeof failed);
  /* clzero, alone: in the table it has other instructions before it. */
  memset(failed, 0, sizeof(failed));
  memcpy(failed, "\x0f\x01\xfc", 3);
  give(failed, sizeof failed);
  /* A REX prefix without effect, before another prefix that the stepped copy lacks: rcll $0x44, (%ebx). */
  static const uint8_t stale_rex[INSTRUCTION_MAX] = {0x4c, 0x67, 0xc1, 0x13, 0x44};
  memcpy(failed, stale_rex, INSTRUCTION_MAX);
  memset(failed + INSTRUCTION_MAX, 0, sizeof(failed) - INSTRUCTION_MAX);
  failed[INSTRUCTION_MAX] = 1; /* the map below 4 GiB, all registers at its middle */
  give(failed, sizeof failed);
}
