/* Instruction bytes: dsm_decode agrees with XED on what is an instruction and how long it is, says of it only what
 * capture.c can rely on, reads no byte behind the instruction, and is never taken in by its cache. */
#include "trap/decode.h"

#include <string.h>
#include <sys/mman.h>
#include <xed/xed-interface.h>

#include "trap/alu.h"
#include "fuzz.h"
#include "instructions.h"

#define PAGE 4096u
static uint8_t *pages; /* two, readable and writable, and behind them one that is neither */

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc, (void)argv;
  dsm_decode_init();
  pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(pages != MAP_FAILED && mprotect(pages + 2 * PAGE, PAGE, PROT_NONE) == 0);
  return 0;
}

static xed_error_enum_t xed(const uint8_t *bytes, unsigned length, unsigned *decoded) {
  xed_decoded_inst_t x;
  xed_decoded_inst_zero(&x);
  xed_decoded_inst_set_mode(&x, XED_MACHINE_MODE_LONG_64, XED_ADDRESS_WIDTH_64b);
  xed3_operand_set_no_apx(&x, 1);
  xed_error_enum_t error = xed_decode(&x, bytes, length);
  *decoded = error == XED_ERROR_NONE ? xed_decoded_inst_get_length(&x) : 0;
  return error;
}

static int is_integer_width(unsigned width) { return width == 1 || width == 2 || width == 4 || width == 8; }
static int is_vector_width(unsigned width) { return width == 16 || width == 32 || width == 64; }

/* What each function of capture.c takes for granted. */
static void check(const struct dsm_insn *i) {
  CHECK(i->base >= DSM_BASE_NONE && i->base <= DSM_BASE_RIP);
  CHECK(i->index >= DSM_BASE_NONE && i->index < (i->kind == DSM_INSN_SCATTER || i->kind == DSM_INSN_STEP ? 32 : 16));
  CHECK(i->index < 0 || is_integer_width(i->scale));
  CHECK(i->segment == DSM_SOURCE_NONE || i->segment == DSM_SOURCE_FS || i->segment == DSM_SOURCE_GS);
  CHECK(i->modrm_at < i->length && i->tail < i->length);
  switch ((enum dsm_insn_kind)i->kind) {
    case DSM_INSN_GPR:
    case DSM_INSN_MOVBE:
      CHECK(i->reg < 16 && is_integer_width(i->width));
      CHECK(i->reg_offset == 0 || (i->reg_offset == 1 && i->width == 1 && i->reg < 4));
      CHECK(i->kind == DSM_INSN_GPR || i->width > 1);
      break;
    case DSM_INSN_IMM: CHECK(is_integer_width(i->width)); break;
    case DSM_INSN_SETCC: CHECK(i->op < 16); break;
    case DSM_INSN_VECTOR:
      CHECK(i->reg < 32 && i->width >= 1 && i->reg_offset + i->width <= 64);
      if (i->mask_kind != DSM_MASK_NONE) {
        CHECK(is_integer_width(i->element) && i->width % i->element == 0);
        CHECK(i->mask < (i->mask_kind == DSM_MASK_OPMASK ? 8 : 32));
      }
      break;
    case DSM_INSN_RMW:
      CHECK(i->op == DSM_ALU_CMPXCHG_PAIR ? i->width == 8 || i->width == 16 : is_integer_width(i->width));
      CHECK(i->source == DSM_SOURCE_IMM || i->reg < 16);
      if (i->op == DSM_ALU_XADD || i->op == DSM_ALU_XCHG || i->op == DSM_ALU_CMPXCHG) {
        CHECK(i->source == DSM_SOURCE_GPR && i->reg < 16);
      }
      CHECK(i->reg_offset == 0 || i->source == DSM_SOURCE_IMM || (i->reg_offset == 1 && i->width == 1));
      break;
    case DSM_INSN_MOVS:
    case DSM_INSN_STOS: CHECK(is_integer_width(i->width)); break;
    case DSM_INSN_SCATTER:
      CHECK(i->reg < 32 && i->index >= 0 && i->mask >= 1 && i->mask < 8);
      CHECK((i->element == 4 || i->element == 8) && (i->width == 4 || i->width == 8));
      CHECK(is_vector_width(i->op) && is_vector_width(i->reg_offset));
      break;
    case DSM_INSN_PUSH:
    case DSM_INSN_CALL: CHECK((i->width == 2 || i->width == 8) && (i->source != DSM_SOURCE_GPR || i->reg < 16)); break;
    case DSM_INSN_POP: CHECK(i->width == 2 || i->width == 8); break;
    case DSM_INSN_ENTER: CHECK(i->op < 32); break;
    case DSM_INSN_MOVDIR64B: CHECK(i->reg < 16); break;
    case DSM_INSN_STEP: CHECK(i->step_reg == 0xff || i->step_reg < 16); break;
    case DSM_INSN_CLZERO:
    case DSM_INSN_UNSUPPORTED: break;
  }
}

/* Decodes the bytes at `at`, which XED says are `length` long (0: no instruction). */
static void decode(uint8_t *at, const uint8_t *bytes, unsigned size, unsigned length, struct dsm_insn *insn) {
  memcpy(at, bytes, size);
  for (int again = 0; again < 2; again++) { /* the second time from the cache */
    memset(insn, 0xa5, sizeof *insn);
    CHECK(dsm_decode((uint64_t)at, insn) == (length != 0));
    if (length == 0) continue;
    CHECK(insn->rip == (uint64_t)at && insn->length == length && memcmp(insn->bytes, bytes, length) == 0);
    CHECK(insn->kind <= DSM_INSN_STEP);
    check(insn);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1) return 0;
  unsigned split = data[0] % INSTRUCTION_MAX;
  uint8_t bytes[INSTRUCTION_MAX] = {0};
  unsigned given = size - 1 < INSTRUCTION_MAX ? (unsigned)(size - 1) : INSTRUCTION_MAX, length;
  memcpy(bytes, data + 1, given);
  struct dsm_insn insn, other;
  /* In the middle of a page; across the border of two. */
  xed(bytes, INSTRUCTION_MAX, &length);
  CHECK(length <= INSTRUCTION_MAX);
  decode(pages + 100, bytes, INSTRUCTION_MAX, length, &insn);
  decode(pages + PAGE - split, bytes, INSTRUCTION_MAX, length, &other);
  CHECK(length == 0 || bytes[0] != 0xd5); /* REX2 */
  if (length != 0) {
    other.rip = insn.rip;
    CHECK(memcmp(&insn, &other, sizeof insn) == 0);
    /* As the last thing before memory that is not there: not a byte more may be read. */
    decode(pages + 2 * PAGE - length, bytes, length, length, &other);
    other.rip = insn.rip;
    CHECK(memcmp(&insn, &other, sizeof insn) == 0);
  } else if (given > 0 && xed(bytes, given, &length) != XED_ERROR_BUFFER_TOO_SHORT) {
    decode(pages + 2 * PAGE - given, bytes, given, length, &other);
  }
  return 0;
}

void fuzz_seeds(void (*give)(const uint8_t *data, size_t size)) {
  for (const struct row *row = __start_rows; row < __stop_rows; row++) {
    uint8_t input[1 + INSTRUCTION_MAX];
    input[0] = (uint8_t)(row - __start_rows);
    memcpy(input + 1, row->code, INSTRUCTION_MAX);
    give(input, sizeof input);
  }
  /* Failed once: a register that only APX has (xadd %r24, ...; mov %r16, (%rax)). */
  static const uint8_t failed[][1 + INSTRUCTION_MAX] = {{8, 0xd5, 0xf4, 0xc1, 0x63, 0xad}, {0, 0xd5, 0x48, 0x89, 0x00}};
  for (unsigned i = 0; i < sizeof failed / sizeof failed[0]; i++) give(failed[i], sizeof failed[i]);
}
