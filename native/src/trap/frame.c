/* Reading and writing the registers a signal frame holds. Layout: the FXSAVE area, then (if the magic numbers say so)
 * the XSAVE header and the parts the kernel saved, in the processor's standard format (CPUID leaf 0DH). */
#include <asm/prctl.h>
#include <cpuid.h>
#include <string.h>
#include <sys/syscall.h>

#include "trap/frame.h"
#include "trap/syscall.h"

#define FXSAVE_XMM 160        /* offset of xmm0 in the FXSAVE area */
#define FXSAVE_SOFTWARE 464   /* offset of the kernel's own bytes in it: struct _fpx_sw_bytes */
#define XSAVE_HEADER 512      /* XSTATE_BV */
#define XSAVE_EXTENDED 576    /* first byte after the header */
#define MAGIC1 0x46505853u
#define MAGIC2 0x46505845u
#define COMPONENTS 63

enum { COMPONENT_YMM_HIGH = 2, COMPONENT_OPMASK = 5, COMPONENT_ZMM_HIGH = 6, COMPONENT_ZMM_16_31 = 7 };

static struct {
  uint32_t offset, size;
  bool aligned; /* to 64 bytes, in the compacted format */
} components[COMPONENTS];
static uint64_t enabled; /* XCR0: what the system has switched on */

const uint8_t dsm_frame_gregs[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

void dsm_frame_init(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) return;
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  enabled = low | (uint64_t)high << 32;
  for (unsigned i = 2; i < COMPONENTS; i++) {
    if ((enabled >> i & 1) == 0 || !__get_cpuid_count(0xd, i, &a, &b, &c, &d)) continue;
    components[i].size = a;
    components[i].offset = b;
    components[i].aligned = (c & 2) != 0;
  }
}

uint64_t dsm_frame_gpr(const greg_t *regs, unsigned reg) {
  return (uint64_t)regs[dsm_frame_gregs[reg & 15]];
}

void dsm_frame_set_gpr(greg_t *regs, unsigned reg, unsigned offset, unsigned width, uint64_t value) {
  greg_t *to = &regs[dsm_frame_gregs[reg & 15]];
  if (width == 4) {
    *to = (greg_t)(uint32_t)value;
  } else {
    memcpy((uint8_t *)to + offset, &value, width);
  }
}

/* First byte of a part of the frame's XSAVE area: NULL if it has none. *initial: the part is in its initial state,
 * all zero, whatever its bytes say. */
static uint8_t *component(const ucontext_t *context, unsigned number, bool *initial) {
  uint8_t *area = (uint8_t *)context->uc_mcontext.fpregs;
  uint32_t magic, xstate_size;
  uint64_t features, in_use;
  if (area == NULL) return NULL;
  memcpy(&magic, area + FXSAVE_SOFTWARE, 4);
  memcpy(&features, area + FXSAVE_SOFTWARE + 8, 8);
  memcpy(&xstate_size, area + FXSAVE_SOFTWARE + 16, 4);
  if (magic != MAGIC1 || (features >> number & 1) == 0 || components[number].size == 0 ||
      components[number].offset + components[number].size > xstate_size) {
    return NULL;
  }
  memcpy(&magic, area + xstate_size, 4);
  if (magic != MAGIC2) return NULL;
  memcpy(&in_use, area + XSAVE_HEADER, 8);
  *initial = (in_use >> number & 1) == 0;
  return area + components[number].offset;
}

/* Copies register `index` of an array of `bytes`-long ones. */
static bool copy_register(const ucontext_t *context, unsigned number, unsigned index, unsigned bytes, uint8_t *out) {
  bool initial;
  const uint8_t *from = component(context, number, &initial);
  if (from == NULL) return false;
  if (initial) {
    memset(out, 0, bytes);
  } else {
    memcpy(out, from + index * bytes, bytes);
  }
  return true;
}

bool dsm_frame_vector(const ucontext_t *context, unsigned reg, unsigned bytes, uint8_t out[64]) {
  const uint8_t *area = (const uint8_t *)context->uc_mcontext.fpregs;
  if (area == NULL || reg > 31) return false;
  if (reg >= 16) return copy_register(context, COMPONENT_ZMM_16_31, reg - 16, 64, out);
  memcpy(out, area + FXSAVE_XMM + reg * 16, 16);
  if (bytes > 16 && !copy_register(context, COMPONENT_YMM_HIGH, reg, 16, out + 16)) return false;
  return bytes <= 32 || copy_register(context, COMPONENT_ZMM_HIGH, reg, 32, out + 32);
}

bool dsm_frame_opmask(const ucontext_t *context, unsigned reg, uint64_t *value) {
  return copy_register(context, COMPONENT_OPMASK, reg & 7, 8, (uint8_t *)value);
}

bool dsm_frame_set_opmask(ucontext_t *context, unsigned reg, uint64_t value) {
  bool initial;
  uint8_t *to = component(context, COMPONENT_OPMASK, &initial);
  if (to == NULL) return false;
  if (initial) return value == 0; /* it was zero: a mask that chose something was not */
  memcpy(to + (reg & 7) * 8, &value, 8);
  return true;
}

unsigned dsm_frame_xsave_bytes(uint64_t mask, bool compacted) {
  unsigned end = XSAVE_EXTENDED;
  for (unsigned i = 2; i < COMPONENTS; i++) {
    if ((mask & enabled) >> i == 0) break;
    if (((mask & enabled) >> i & 1) == 0) continue;
    if (!compacted) {
      unsigned last = components[i].offset + components[i].size;
      if (last > end) end = last;
    } else {
      if (components[i].aligned) end = (end + 63) & ~63u;
      end += components[i].size;
    }
  }
  return end;
}

uint64_t dsm_frame_segment_base(unsigned segment) {
  uint64_t base = 0;
  if (segment != DSM_SOURCE_NONE) {
    dsm_syscall(SYS_arch_prctl, segment == DSM_SOURCE_FS ? ARCH_GET_FS : ARCH_GET_GS, (long)&base, 0, 0);
  }
  return base;
}

uintptr_t dsm_frame_address(const greg_t *regs, const struct dsm_insn *insn) {
  uint64_t address = (uint64_t)insn->disp;
  if (insn->base == DSM_BASE_RIP) {
    address += insn->rip + insn->length;
  } else if (insn->base >= 0) {
    address += dsm_frame_gpr(regs, (unsigned)insn->base);
  }
  if (insn->index >= 0) address += dsm_frame_gpr(regs, (unsigned)insn->index) * insn->scale;
  if ((insn->flags & DSM_FLAG_ADDR32) != 0) address = (uint32_t)address;
  return insn->segment == DSM_SOURCE_NONE ? address : address + dsm_frame_segment_base(insn->segment);
}
