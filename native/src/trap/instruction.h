/* The decoded form of one instruction: what classify.c finds out, and capture.c and step.c go by. */
#ifndef DSM_INSTRUCTION_H
#define DSM_INSTRUCTION_H

#include <stdint.h>

enum dsm_insn_kind {
  DSM_INSN_UNSUPPORTED = 0,
  DSM_INSN_GPR,       /* store of a general register */
  DSM_INSN_IMM,       /* store of an immediate */
  DSM_INSN_MOVBE,     /* store of a general register, bytes reversed */
  DSM_INSN_SETCC,     /* store of a condition; op: the condition's number */
  DSM_INSN_VECTOR,    /* store of (a part of) a vector register, perhaps masked */
  DSM_INSN_RMW,       /* integer read-modify-write; op: enum dsm_alu_op */
  DSM_INSN_MOVS,      /* string move; width of an element */
  DSM_INSN_STOS,      /* string store */
  DSM_INSN_SCATTER,   /* width: bytes of an element */
  DSM_INSN_PUSH,      /* operand in source */
  DSM_INSN_CALL,      /* near call; operand in source, or imm: the distance */
  DSM_INSN_ENTER,     /* imm: bytes to reserve; op: nesting level */
  DSM_INSN_POP,       /* pop to memory */
  DSM_INSN_MOVDIR64B, /* reg: holds the destination's address */
  DSM_INSN_CLZERO,
  DSM_INSN_STEP, /* whatever else writes memory: run displaced, see step.c */
};

enum dsm_insn_source {
  DSM_SOURCE_NONE = 0,
  DSM_SOURCE_GPR, /* reg, at reg_offset bytes (1: ah, ch, dh, bh) */
  DSM_SOURCE_IMM,
  DSM_SOURCE_MEMORY,
  DSM_SOURCE_FLAGS,
  DSM_SOURCE_FS,
  DSM_SOURCE_GS,
};

enum dsm_insn_mask {
  DSM_MASK_NONE = 0,
  DSM_MASK_OPMASK, /* mask: number of the k register */
  DSM_MASK_SIGN,   /* mask: number of the vector register whose elements' top bits choose */
};

enum {
  DSM_FLAG_LOCK = 1,    /* LOCK prefix, or xchg */
  DSM_FLAG_ADDR32 = 2,  /* 67h: addresses are 32 bits */
  DSM_FLAG_REP = 4,
  DSM_FLAG_PARTIAL = 8, /* may write only a part of its operand: step it on two backgrounds */
  DSM_FLAG_X87 = 16,    /* may not write if it raises an unmasked x87 exception */
  DSM_FLAG_XSAVE = 32,  /* operand's size follows from edx:eax */
  DSM_FLAG_XSAVEC = 64, /* the same, compacted */
};

enum { DSM_BASE_NONE = -1, DSM_BASE_RIP = 16 };

/* General registers are numbered as the processor does: rax rcx rdx rbx rsp rbp rsi rdi r8 ... r15. */
struct dsm_insn {
  uint64_t rip;
  uint8_t bytes[15];
  uint8_t length;
  int64_t disp;
  uint64_t imm; /* sign-extended */
  uint16_t width; /* bytes of the memory operand */
  uint8_t kind;   /* enum dsm_insn_kind */
  uint8_t flags;
  int8_t base;
  int8_t index; /* general register; vector register of a scatter */
  uint8_t scale;
  uint8_t segment; /* DSM_SOURCE_FS, DSM_SOURCE_GS or DSM_SOURCE_NONE */
  uint8_t op;
  uint8_t source;     /* enum dsm_insn_source */
  uint8_t reg;        /* general or vector register */
  uint8_t reg_offset; /* first byte taken from it */
  uint8_t mask_kind;
  uint8_t mask;
  uint8_t element;   /* bytes each mask bit stands for; of a scatter: bytes of an index */
  uint8_t step_reg;  /* general register the stepped copy uses for the address; 0xff: cannot be stepped */
  uint8_t modrm_at;  /* where ModRM is in bytes; 0: the address is in rdi, not in ModRM */
  uint8_t tail;      /* immediate bytes at the end */
  uint8_t pad[6];
};
_Static_assert(sizeof(struct dsm_insn) == 64, "struct dsm_insn is copied by whole words");

#endif
