/* Displaced stepping: the instruction runs, but on private memory.
 *
 * A copy of it is put into a slot's code with an end behind it that traps, its memory operand re-encoded as plain
 * [register] (a register the instruction does not otherwise use), and that register pointed at a copy of the operand's
 * bytes in the slot's buffer. So every addressing mode - also RIP-relative, absolute, with base or index at the same
 * time source or destination - is stepped the same way, and the map's page is never opened. At the trap the
 * register, RIP and the signal mask are put back and the bytes written are taken from the buffer.
 *
 * The end is hlt, which a program must not run: SIGSEGV, at the instruction itself. A breakpoint (int3) costs a sixth
 * less, but belongs to debuggers: gdb stops there, and drops the SIGTRAP when the program is continued. Only valgrind,
 * which takes hlt for no instruction, gets int3. The trap flag costs five times as much where a hypervisor watches
 * debug exceptions.
 *
 * During the step every signal but that of the end is blocked. The instruction has no other memory operand (those that
 * have are emulated in capture_*.c and string_instruction.c), and the copy's address agrees with the original's modulo
 * 64, so it meets no fault the original would not have met. An unmasked SIMD exception (vcvtps2ph) ends the process by
 * SIGFPE even if there is a handler.
 *
 * Which bytes were written: all, or for instructions that may leave some alone, those that come out the same when the
 * instruction is run a second time over the complement of the first background. */
#include "trap/step.h"

#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trap/code_memory.h"
#include "trap/frame.h"
#include "trap/operand.h"
#include "trap/region_entry.h"
#include "trap/syscall.h"
#include "trap/tool.h"

#define CODE_BYTES 256u /* of code a slot has; a copy is at most 15 bytes, and the end */
#define HALT 0xf4
#define BREAKPOINT 0xcc
#define RUNS_MAX 512u
#define EFLAGS_TRAP 0x100
#define X87_INVALID_OVERFLOW_UNDERFLOW 0x19
#define X87_RIP_AT 8
#define X87_RDP_AT 16

/* A slot's buffer: the operand stepped on, its bytes before, the result of the first background, and the runs. */
enum { OPERAND_AT = 0, ORIGINAL_AT = 16384, FIRST_AT = 32768, RUNS_AT = 49152 };
_Static_assert(RUNS_AT + RUNS_MAX * sizeof(struct dsm_run) <= DSM_SLOT_BYTES, "the runs fit into the buffer");
_Static_assert(DSM_STEP_OPERAND_MAX + 64 <= ORIGINAL_AT, "an operand at any offset modulo 64 fits");

struct slot {
  uint32_t taken;
  uint32_t width;
  uint8_t phase; /* 0: first background, 1: second */
  uint8_t flags; /* of the instruction */
  uint8_t reg;
  bool trap_flag; /* the program was single-stepping itself */
  bool signal_deferred;
  bool x87_pending; /* exceptions were pending before */
  uint64_t copy_end; /* RIP at the trap of the end */
  uint64_t rip;      /* of the original */
  uint64_t rip_after;
  uint64_t reg_value;
  uint64_t signal_mask;
  uintptr_t address; /* of the operand in the map */
  struct dsm_region *region;
  uint8_t *operand;
} __attribute__((aligned(64)));

static struct slot slots[DSM_STEP_SLOTS];
static uint32_t released; /* futex word: counts releases */
static uint32_t waiting;
static uint8_t *buffers;
static uint8_t *code_writable;
static uint8_t *code; /* the same memory, executable */

/* The last instruction of a copy. */
static uint8_t end_byte;
static int end_signal;
static bool frame_has_x87;

int dsm_step_init(void) {
  size_t code_size = DSM_STEP_SLOTS * CODE_BYTES;
  memset(slots, 0, sizeof(slots));
  bool is_valgrind = tool_is_valgrind();
  end_byte = is_valgrind ? BREAKPOINT : HALT;
  end_signal = is_valgrind ? SIGTRAP : SIGSEGV;
  frame_has_x87 = !is_valgrind;
  void *fresh = mmap(NULL, DSM_STEP_SLOTS * (size_t)DSM_SLOT_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fresh == MAP_FAILED) return -1;
  buffers = fresh;
  struct code_memory memory;
  if (code_memory_map(&memory, "dsm-step", code_size) != 0) return -1;
  memset(memory.writable, end_byte, code_size);
  code_writable = memory.writable;
  code = memory.executable;
  return 0;
}

unsigned dsm_slot_claim(void) {
  /* Threads begin at different slots, and a thread at the same one each time: its last copy may still be there. */
  unsigned start = (unsigned)((uintptr_t)__builtin_thread_pointer() >> 12) * 0x9e37u >> 4;
  for (;;) {
    uint32_t seen = __atomic_load_n(&released, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < DSM_STEP_SLOTS; i++) {
      unsigned n = (start + i) % DSM_STEP_SLOTS;
      uint32_t none = 0;
      if (__atomic_load_n(&slots[n].taken, __ATOMIC_RELAXED) == 0 &&
          __atomic_compare_exchange_n(&slots[n].taken, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return n;
      }
    }
    __atomic_fetch_add(&waiting, 1, __ATOMIC_SEQ_CST);
    dsm_syscall(SYS_futex, (long)&released, FUTEX_WAIT_PRIVATE, (long)seen, 0);
    __atomic_fetch_sub(&waiting, 1, __ATOMIC_SEQ_CST);
  }
}

void dsm_slot_release(unsigned slot) {
  __atomic_store_n(&slots[slot].taken, 0, __ATOMIC_RELEASE);
  __atomic_fetch_add(&released, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&waiting, __ATOMIC_SEQ_CST) != 0) {
    dsm_syscall(SYS_futex, (long)&released, FUTEX_WAKE_PRIVATE, 1, 0);
  }
}

uint8_t *dsm_slot_buffer(unsigned slot) {
  return buffers + slot * (size_t)DSM_SLOT_BYTES;
}

static bool is_prefix(uint8_t byte) {
  return byte == 0x66 || byte == 0x67 || byte == 0xf0 || byte == 0xf2 || byte == 0xf3 || byte == 0x2e || byte == 0x36 ||
         byte == 0x3e || byte == 0x26 || byte == 0x64 || byte == 0x65;
}

static bool is_rex(uint8_t byte) {
  return (byte & 0xf0) == 0x40;
}

/* Writes the copy of `insn` with [reg] as its operand, and the end. Segment and address-size prefixes are left
 * out with the address they belonged to; the branch hints among them mean nothing here. Returns how long both are. */
static unsigned build_copy(unsigned slot, const struct dsm_insn *insn) {
  uint8_t copy[16];
  unsigned from = 0, length = 0;
  for (; from < insn->length; from++) {
    uint8_t byte = insn->bytes[from];
    if (byte == 0x66 || byte == 0xf0 || byte == 0xf2 || byte == 0xf3) {
      copy[length++] = byte;
    } else if (is_rex(byte)) {
      /* One before another prefix has no effect, and must not get one because that is left out. */
      if (!is_prefix(insn->bytes[from + 1]) && !is_rex(insn->bytes[from + 1])) break;
    } else if (!is_prefix(byte)) {
      break;
    }
  }
  unsigned end = insn->modrm_at != 0 ? insn->modrm_at : insn->length;
  while (from < end) copy[length++] = insn->bytes[from++];
  if (insn->modrm_at != 0) {
    copy[length++] = (uint8_t)((insn->bytes[from] & 0x38) | (insn->step_reg & 7));
    for (unsigned i = insn->length - insn->tail; i < insn->length; i++) copy[length++] = insn->bytes[i];
  }
  copy[length++] = end_byte;
  uint8_t *to = code_writable + slot * CODE_BYTES;
  if (memcmp(to, copy, length) != 0) { /* writing code is slow: not if it is there already */
    memcpy(to, copy, length);
    tool_code_changed(code + slot * CODE_BYTES, length);
  }
  return length;
}

/* Unmasked exceptions that are pending in the x87 unit, as bits of its status word. */
static unsigned x87_exceptions(const ucontext_t *context) {
  uint16_t words[2] = {0x3f, 0}; /* control, status */
  if (context->uc_mcontext.fpregs != NULL && frame_has_x87) memcpy(words, context->uc_mcontext.fpregs, sizeof(words));
  return words[1] & ~words[0] & 0x3fu;
}

enum dsm_outcome dsm_step_begin(struct dsm_fault *fault, const struct dsm_insn *insn, uintptr_t address,
                                uint32_t width) {
  if (insn->step_reg > 15 || width > DSM_STEP_OPERAND_MAX) {
    fault->why = "dsm does not know how to run this instruction aside";
    return DSM_OUTCOME_UNSUPPORTED;
  }
  unsigned n = dsm_slot_claim();
  struct slot *s = &slots[n];
  greg_t *regs = fault->regs;
  uint64_t step_mask = ~(1ull << (end_signal - 1));
  /* After int3, at hlt. */
  s->copy_end = (uint64_t)code + n * CODE_BYTES + build_copy(n, insn) - (end_byte == HALT);
  s->width = width;
  s->phase = 0;
  s->flags = insn->flags;
  s->reg = insn->step_reg;
  s->trap_flag = (regs[REG_EFL] & EFLAGS_TRAP) != 0;
  s->signal_deferred = false;
  s->x87_pending = x87_exceptions(fault->context) != 0;
  s->rip = insn->rip;
  s->rip_after = insn->rip + insn->length;
  s->reg_value = dsm_frame_gpr(regs, s->reg);
  memcpy(&s->signal_mask, &fault->context->uc_sigmask, sizeof(s->signal_mask));
  s->address = address;
  s->region = fault->region;
  s->operand = dsm_slot_buffer(n) + OPERAND_AT + address % 64;
  memcpy(s->operand, (const void *)address, width);
  if ((s->flags & DSM_FLAG_PARTIAL) != 0) memcpy(dsm_slot_buffer(n) + ORIGINAL_AT, s->operand, width);
  regs[dsm_frame_gregs[s->reg]] = (greg_t)s->operand;
  regs[REG_RIP] = (greg_t)(code + n * CODE_BYTES);
  regs[REG_EFL] &= ~(greg_t)EFLAGS_TRAP;
  memcpy(&fault->context->uc_sigmask, &step_mask, sizeof(step_mask));
  return DSM_OUTCOME_STEPPING;
}

bool dsm_step_is_at(uint64_t rip) {
  return code != NULL && rip - (uint64_t)code < DSM_STEP_SLOTS * CODE_BYTES;
}

void dsm_step_defer_signal(uint64_t rip) {
  slots[(rip - (uint64_t)code) / CODE_BYTES].signal_deferred = true;
}

/* The x87 unit remembers where its last instruction and operand were. */
static void mend_x87_pointers(const struct slot *s, unsigned n, ucontext_t *context) {
  uint8_t *area = (uint8_t *)context->uc_mcontext.fpregs;
  uint64_t pointer;
  if (area == NULL || !frame_has_x87) return;
  memcpy(&pointer, area + X87_RIP_AT, 8);
  if (pointer == (uint64_t)code + n * CODE_BYTES) memcpy(area + X87_RIP_AT, &s->rip, 8);
  memcpy(&pointer, area + X87_RDP_AT, 8);
  if (pointer == (uint64_t)s->operand) memcpy(area + X87_RDP_AT, &s->address, 8);
}

/* Publishes the bytes that the step wrote. Returns 0, or negative if fatal. */
static int publish(const struct slot *s, unsigned n, const ucontext_t *context) {
  struct dsm_region *region = s->region;
  struct dsm_run *runs = (struct dsm_run *)(void *)(dsm_slot_buffer(n) + RUNS_AT);
  uint64_t offset = s->address - region->base;
  if ((s->flags & DSM_FLAG_X87) != 0 && !s->x87_pending &&
      (x87_exceptions(context) & X87_INVALID_OVERFLOW_UNDERFLOW) != 0) {
    return 0; /* it raised one instead of storing (unlike an inexact result); the next x87 instruction delivers it */
  }
  if ((s->flags & DSM_FLAG_PARTIAL) == 0) {
    runs[0] = (struct dsm_run){.offset = offset, .length = s->width, .bytes = s->operand};
    return region->sink->store(region->context, runs, 1);
  }
  const uint8_t *original = dsm_slot_buffer(n) + ORIGINAL_AT, *first = dsm_slot_buffer(n) + FIRST_AT;
  uint32_t count = 0;
  for (uint32_t i = 0; i < s->width;) {
    uint32_t begin = i;
    /* The second test: a byte of which only some bits are written (XSAVE's header) depends on the background. */
    while (i < s->width && (first[i] == s->operand[i] || first[i] != original[i])) i++;
    if (i == begin) {
      i++;
      continue;
    }
    if (count == RUNS_MAX) { /* no known instruction gets here; if one does, it is published in parts */
      int result = region->sink->store(region->context, runs, count);
      if (result < 0) return result;
      count = 0;
    }
    runs[count++] = (struct dsm_run){.offset = offset + begin, .length = i - begin, .bytes = first + begin};
  }
  return count == 0 ? 0 : region->sink->store(region->context, runs, count);
}

enum dsm_outcome dsm_step_end(ucontext_t *context) {
  greg_t *regs = context->uc_mcontext.gregs;
  unsigned n = (unsigned)(((uint64_t)regs[REG_RIP] - (uint64_t)code) / CODE_BYTES);
  struct slot *s = &slots[n];
  if (s->taken == 0 || (uint64_t)regs[REG_RIP] != s->copy_end) return DSM_OUTCOME_UNSUPPORTED;
  if ((s->flags & DSM_FLAG_PARTIAL) != 0 && s->phase == 0) {
    const uint8_t *original = dsm_slot_buffer(n) + ORIGINAL_AT;
    memcpy(dsm_slot_buffer(n) + FIRST_AT, s->operand, s->width);
    for (uint32_t i = 0; i < s->width; i++) s->operand[i] = (uint8_t)~original[i];
    s->phase = 1;
    regs[REG_RIP] = (greg_t)(code + n * CODE_BYTES);
    return DSM_OUTCOME_STEPPING;
  }
  regs[dsm_frame_gregs[s->reg]] = (greg_t)s->reg_value;
  regs[REG_RIP] = (greg_t)s->rip_after;
  if (s->trap_flag) regs[REG_EFL] |= EFLAGS_TRAP;
  memcpy(&context->uc_sigmask, &s->signal_mask, sizeof(s->signal_mask));
  mend_x87_pointers(s, n, context);
  int result = publish(s, n, context);
  bool signal_deferred = s->signal_deferred;
  struct dsm_region *region = s->region;
  dsm_slot_release(n);
  dsm_region_exit(region);
  if (signal_deferred) {
    dsm_syscall(SYS_tgkill, getpid(), dsm_syscall(SYS_gettid, 0, 0, 0, 0), end_signal, 0);
  }
  return result < 0 ? DSM_OUTCOME_FATAL : DSM_OUTCOME_DONE;
}
