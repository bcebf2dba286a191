/* The table of store instructions. Each row runs on a whole processor state that the test chooses:
 *   rbx rbp rdi r12 r13 = T, an address in the map, at offset 0x200 of a page; r9 + rcx * 8 = T; r11 * 8 = T;
 *   r15 * 2 = T; rcx = 5; rsi: ordinary memory; rax rdx r8 r10 r14: patterns; vector registers: patterns;
 *   k1 alternating bits, k2 a mixture, k3 all ones, k4 zero, k5 bit 0, k6 the upper half.
 *
 * ROW(group, feature, how, offset, length, text). `how`:
 *   S  a store: the expected bytes are those that come out the same on two backgrounds on plain memory
 *   X  as S, and those that changed (instructions that write some bits of a byte)
 *   R  a read-modify-write: [T + offset, T + offset + length) is expected
 *   A  the same, as one atomic operation
 *   N  like R, but nothing is expected to be published
 *   l  in the map below 4 GiB      p  rax, rdx:rax hold what T holds
 *   f  compare CF and ZF only      g  the base of gs is T - 0x100 */
#ifndef ROWS_H
#define ROWS_H

#include <stdint.h>

struct row {
  const char *group, *feature, *how, *text;
  int64_t offset, length;
  const void *code;
};

#define ROW(group, feature, how, offset, length, text)                                                               \
  __asm__(".text\n990: " text "\n jmp state_end\n"                                                                   \
          ".section .rodata.str1.1,\"aMS\",@progbits,1\n"                                                            \
          "991: .asciz \"" group "\"\n992: .asciz \"" feature "\"\n993: .asciz \"" how "\"\n994: .asciz \"" text      \
          "\"\n"                                                                                                     \
          ".section rows,\"aw\"\n.balign 8\n"                                                                        \
          ".quad 991b, 992b, 993b, 994b, " #offset ", " #length ", 990b\n.text\n");

/* ---- general registers and immediates ---- */
ROW("mov", "base", "S", 0, 0, "movb %al, (%rbx)")
ROW("mov", "base", "S", 0, 0, "movb %ah, 3(%rbx)")
ROW("mov", "base", "S", 0, 0, "movb %ch, 3(%rbx)")
ROW("mov", "base", "S", 0, 0, "movb %dh, 3(%rbx)")
ROW("mov", "base", "S", 0, 0, "movb %bh, 3(%rbp)")
ROW("mov", "base", "S", 0, 0, "movb %sil, 1(%rbx)")
ROW("mov", "base", "S", 0, 0, "movb %spl, 1(%rbx)")
ROW("mov", "base", "S", 0, 0, "movb %r8b, 1(%rbx)")
ROW("mov", "base", "S", 0, 0, "movw %ax, 2(%rbx)")
ROW("mov", "base", "S", 0, 0, "movw %r10w, 2(%rbx)")
ROW("mov", "base", "S", 0, 0, "movl %eax, 4(%rbx)")
ROW("mov", "base", "S", 0, 0, "movl %r14d, 4(%rbx)")
ROW("mov", "base", "S", 0, 0, "movq %rax, 8(%rbx)")
ROW("mov", "base", "S", 0, 0, "movq %r8, 1(%rbx)")
ROW("mov", "base", "S", 0, 0, "movq %rsp, (%rbx)")
ROW("mov", "base", "S", 0, 0, "movb $0x5a, (%rbx)")
ROW("mov", "base", "S", 0, 0, "movw $0x1234, (%rbx)")
ROW("mov", "base", "S", 0, 0, "movl $0x89abcdef, (%rbx)")
ROW("mov", "base", "S", 0, 0, "movq $-2, (%rbx)")
ROW("mov", "base", "S", 0, 0, "movq $0x12345678, 0x1000(%rbx)")
ROW("mov", "base", "S", 0, 0, "movabsb %al, 0x2a0000005000")
ROW("mov", "base", "S", 0, 0, "movabsw %ax, 0x2a0000005002")
ROW("mov", "base", "S", 0, 0, "movabsl %eax, 0x2a0000005004")
ROW("mov", "base", "S", 0, 0, "movabsq %rax, 0x2a0000005008")
ROW("mov", "base", "S", 0, 0, "movntil %eax, (%rbx)")
ROW("mov", "base", "S", 0, 0, "movntiq %r8, (%rbx)")
ROW("mov", "movbe", "S", 0, 0, "movbew %ax, (%rbx)")
ROW("mov", "movbe", "S", 0, 0, "movbel %r8d, (%rbx)")
ROW("mov", "movbe", "S", 0, 0, "movbeq %rdx, (%rbx)")
ROW("mov", "movdiri", "S", 0, 0, "movdiri %rax, (%rbx)")
ROW("mov", "movdir64b", "S", 0, 0, "movdir64b (%rsi), %rbx")
ROW("mov", "clzero", "S", 0, 0, "mov %rbx, %rax; add $17, %rax; clzero")
ROW("mov", "base", "S", 0, 0, "movw %ds, (%rbx)")
ROW("mov", "base", "S", 0, 0, "movw %fs, 2(%rbx,%rcx)")

/* ---- addressing ---- */
ROW("address", "base", "S", 0, 0, "movl %eax, (%r12)")
ROW("address", "base", "S", 0, 0, "movl %eax, (%r13)")
ROW("address", "base", "S", 0, 0, "movl %eax, (%rbp)")
ROW("address", "base", "S", 0, 0, "movl %eax, -4(%rbp)")
ROW("address", "base", "S", 0, 0, "movl %eax, 0x1234(%r12)")
ROW("address", "base", "S", 0, 0, "movl %eax, (%rbx,%rcx)")
ROW("address", "base", "S", 0, 0, "movl %eax, (%rbx,%rcx,2)")
ROW("address", "base", "S", 0, 0, "movl %eax, -8(%rbx,%rcx,4)")
ROW("address", "base", "S", 0, 0, "movl %eax, (%r9,%rcx,8)")
ROW("address", "base", "S", 0, 0, "movl %eax, 0x400(%r13,%rcx,8)")
ROW("address", "base", "S", 0, 0, "movl %eax, (,%r11,8)")
ROW("address", "base", "S", 0, 0, "movl %eax, 0x10(,%r15,2)")
ROW("address", "base", "S", 0, 0, "movl %eax, (%r15,%r15)")
ROW("address", "base", "S", 0, 0, "movq %rbx, (%rbx)")
ROW("address", "base", "S", 0, 0, "movq %r15, (%r15,%r15)")
ROW("address", "base", "S", 0, 0, "mov %rbx, %rsp; movq %rsp, 8(%rsp)")
ROW("address", "base", "S", 0, 0, "mov %rbx, %rsp; movl %eax, -4(%rsp,%rcx,4)")
ROW("address", "base", "Sl", 0, 0, "addr32 movl %eax, 4(%ebx)")
ROW("address", "base", "Sl", 0, 0, "mov $0xffffffff00000000, %r8; add %r8, %rbx; addr32 movl %eax, 4(%ebx,%ecx,2)")
ROW("address", "base", "Sl", 0, 0, "movl %eax, 0x20005010")
ROW("address", "base", "Sg", 0, 0, "movl %eax, %gs:0x100")
ROW("address", "base", "Sg", 0, 0, "movl %eax, %gs:0xf0(%rcx,%rcx,4)")
ROW("address", "base", "S", 0, 0,
    "mov %fs:0, %r8; mov %rbx, %r10; sub %r8, %r10; movl %eax, %fs:(%r10); xor %r8, %r8; xor %r10, %r10")
ROW("address", "base", "S", 0, 0, "movl %eax, %cs:4(%rbx)")
ROW("address", "base", "R", 0, 4, "rcll $3, (%rbx)")
ROW("address", "base", "R", 0x1000, 4, "rcll $3, 0x1000(%rbp)")
ROW("address", "base", "R", 8, 4, "rcll %cl, 8(%r12)")
ROW("address", "base", "R", -8, 4, "rcll -8(%r13)")
ROW("address", "base", "R", 0, 4, "rcll $7, (%r9,%rcx,8)")
ROW("address", "base", "R", 0x10, 8, "rclq $7, 0x10(,%r11,8)")
ROW("address", "base", "R", 0, 8, "rclq $7, (%r15,%r15)")
ROW("address", "base", "R", 0, 8, "shldq $7, %rbx, (%rbx)")
ROW("address", "base", "R", 0, 8, "shldq %cl, %r15, (%r15,%r15)")
ROW("address", "base", "R", 8, 8, "mov %rbx, %rsp; shrdq $9, %rsp, 8(%rsp)")
ROW("address", "base", "Rl", 4, 4, "addr32 rcll $3, 4(%ebx)")
ROW("address", "base", "Rl", 0x10, 4, "rcrl $3, 0x20005210")
ROW("address", "base", "Rg", 0, 4, "rcrl $3, %gs:0x100")
ROW("address", "base", "Rg", -1, 4, "rcrl $3, %gs:0xf0(%rcx,%rcx,2)")

/* ---- crossing pages ---- */
ROW("crossing", "base", "S", 0, 0, "movq %rax, 0xdfd(%rbx)")
ROW("crossing", "base", "S", 0, 0, "movw %ax, 0xdff(%rbx)")
ROW("crossing", "base", "S", 0, 0, "movups %xmm3, 0xdf3(%rbx)")
ROW("crossing", "avx", "S", 0, 0, "vmovups %ymm3, 0xdff(%rbx)")
ROW("crossing", "avx512f", "S", 0, 0, "vmovdqu64 %zmm3, 0xdc9(%rbx)")
ROW("crossing", "base", "R", 0xdfe, 4, "rcll $3, 0xdfe(%rbx)")
ROW("crossing", "base", "R", 0xdfe, 4, "addl %eax, 0xdfe(%rbx)")
ROW("crossing", "base", "A", 0xdfe, 4, "lock addl %eax, 0xdfe(%rbx)")
ROW("crossing", "base", "S", 0, 0, "fldpi; fstpt 0xdfb(%rbx)")
ROW("crossing", "base", "S", 0, 0, "fnsave 0xdd0(%rbx)")
ROW("crossing", "base", "S", 0, 0, "add $0xdff, %rdi; movsq")

/* ---- setcc ---- */
ROW("setcc", "base", "S", 0, 0, "seto (%rbx)")
ROW("setcc", "base", "S", 0, 0, "setno (%rbx)")
ROW("setcc", "base", "S", 0, 0, "setb (%rbx)")
ROW("setcc", "base", "S", 0, 0, "setae (%rbx)")
ROW("setcc", "base", "S", 0, 0, "sete (%rbx)")
ROW("setcc", "base", "S", 0, 0, "setne 1(%r12)")
ROW("setcc", "base", "S", 0, 0, "setbe (%rbx)")
ROW("setcc", "base", "S", 0, 0, "seta (%rbx)")
ROW("setcc", "base", "S", 0, 0, "sets (%rbx)")
ROW("setcc", "base", "S", 0, 0, "setns (%rbx)")
ROW("setcc", "base", "S", 0, 0, "setp (%rbx)")
ROW("setcc", "base", "S", 0, 0, "setnp (%rbx)")
ROW("setcc", "base", "S", 0, 0, "setl (%rbx)")
ROW("setcc", "base", "S", 0, 0, "setge (%rbx)")
ROW("setcc", "base", "S", 0, 0, "setle (%rbx)")
ROW("setcc", "base", "S", 0, 0, "setg (%rbx)")
ROW("setcc", "base", "S", 0, 0, "cmp $7, %rcx; setl (%rbx)")

/* ---- integer read-modify-writes ---- */
#define RMW_WIDTHS(op, how)                                                                                          \
  ROW("rmw", "base", how, 1, 1, op "b %al, 1(%rbx)")                                                                 \
  ROW("rmw", "base", how, 1, 1, op "b %dh, 1(%rbx)")                                                                 \
  ROW("rmw", "base", how, 2, 2, op "w %ax, 2(%rbx)")                                                                 \
  ROW("rmw", "base", how, 4, 4, op "l %r8d, 4(%rbx)")                                                                \
  ROW("rmw", "base", how, 8, 8, op "q %rdx, 8(%rbx)")                                                                \
  ROW("rmw", "base", how, 0, 1, op "b $0x8f, (%rbx)")                                                                \
  ROW("rmw", "base", how, 0, 2, op "w $0x8fff, (%rbx)")                                                              \
  ROW("rmw", "base", how, 0, 4, op "l $-3, (%rbx)")                                                                  \
  ROW("rmw", "base", how, 0, 8, op "q $-0x7fffffff, (%rbx)")
RMW_WIDTHS("add", "R")
RMW_WIDTHS("adc", "R")
RMW_WIDTHS("sub", "R")
RMW_WIDTHS("sbb", "R")
RMW_WIDTHS("and", "R")
RMW_WIDTHS("or", "R")
RMW_WIDTHS("xor", "R")
#define RMW_UNARY(op, how, group)                                                                                    \
  ROW(group, "base", how, 0, 1, op "b (%rbx)")                                                                       \
  ROW(group, "base", how, 2, 2, op "w 2(%rbx)")                                                                      \
  ROW(group, "base", how, 4, 4, op "l 4(%rbx)")                                                                      \
  ROW(group, "base", how, 8, 8, op "q 8(%rbx)")
RMW_UNARY("inc", "R", "rmw")
RMW_UNARY("dec", "R", "rmw")
RMW_UNARY("neg", "R", "rmw")
RMW_UNARY("not", "R", "rmw")
#define RMW_EXCHANGE(prefix, how, how_equal, how_differs, group)                                                     \
  ROW(group, "base", how, 0, 1, prefix "xaddb %al, (%rbx)")                                                          \
  ROW(group, "base", how, 0, 1, prefix "xaddb %ch, (%rbx)")                                                          \
  ROW(group, "base", how, 0, 2, prefix "xaddw %dx, (%rbx)")                                                          \
  ROW(group, "base", how, 0, 4, prefix "xaddl %r8d, (%rbx)")                                                         \
  ROW(group, "base", how, 0, 8, prefix "xaddq %r10, (%rbx)")                                                         \
  ROW(group, "base", how, 0, 8, prefix "xaddq %rbx, (%rbx)")                                                         \
  ROW(group, "base", how_equal, 0, 1, prefix "cmpxchgb %dl, (%rbx)")                                                 \
  ROW(group, "base", how_equal, 0, 1, prefix "cmpxchgb %ch, (%rbx)")                                                 \
  ROW(group, "base", how_equal, 0, 2, prefix "cmpxchgw %dx, (%rbx)")                                                 \
  ROW(group, "base", how_equal, 0, 4, prefix "cmpxchgl %r8d, (%rbx)")                                                \
  ROW(group, "base", how_equal, 0, 8, prefix "cmpxchgq %rdx, (%rbx)")                                                \
  ROW(group, "base", how_differs, 1, 1, prefix "cmpxchgb %dl, 1(%rbx)")                                              \
  ROW(group, "base", how_differs, 2, 2, prefix "cmpxchgw %dx, 2(%rbx)")                                              \
  ROW(group, "base", how_differs, 4, 4, prefix "cmpxchgl %r8d, 4(%rbx)")                                             \
  ROW(group, "base", how_differs, 8, 8, prefix "cmpxchgq %rdx, 8(%rbx)")                                             \
  ROW(group, "base", how_equal, 0, 8, "rol $32, %rax; mov %eax, %edx; rol $32, %rax; mov %rdi, %rbx; " prefix        \
      "cmpxchg8b (%rdi)")                                                                                            \
  ROW(group, "base", how_differs, 8, 8, prefix "cmpxchg8b 8(%rbx)")                                                  \
  ROW(group, "cx16", how_equal, 0, 16, prefix "cmpxchg16b (%rbx)")                                                   \
  ROW(group, "cx16", how_differs, 16, 16, prefix "cmpxchg16b 16(%rdi)")
RMW_EXCHANGE("", "R", "Rp", "N", "exchange")

/* ---- the same, locked ---- */
#define LOCK_WIDTHS(op)                                                                                              \
  ROW("lock", "base", "A", 1, 1, "lock " op "b %al, 1(%rbx)")                                                        \
  ROW("lock", "base", "A", 1, 1, "lock " op "b %dh, 1(%rbx)")                                                        \
  ROW("lock", "base", "A", 2, 2, "lock " op "w %ax, 2(%rbx)")                                                        \
  ROW("lock", "base", "A", 4, 4, "lock " op "l %r8d, 4(%rbx)")                                                       \
  ROW("lock", "base", "A", 8, 8, "lock " op "q %rdx, 8(%rbx)")                                                       \
  ROW("lock", "base", "A", 0, 1, "lock " op "b $0x8f, (%rbx)")                                                       \
  ROW("lock", "base", "A", 0, 2, "lock " op "w $0x8fff, (%rbx)")                                                     \
  ROW("lock", "base", "A", 0, 4, "lock " op "l $-1, (%rbx)")                                                         \
  ROW("lock", "base", "A", 0, 8, "lock " op "q $-0x7fffffff, (%rbx)")
LOCK_WIDTHS("add")
LOCK_WIDTHS("adc")
LOCK_WIDTHS("sub")
LOCK_WIDTHS("sbb")
LOCK_WIDTHS("and")
LOCK_WIDTHS("or")
LOCK_WIDTHS("xor")
RMW_UNARY("lock inc", "A", "lock")
RMW_UNARY("lock dec", "A", "lock")
RMW_UNARY("lock neg", "A", "lock")
RMW_UNARY("lock not", "A", "lock")
RMW_EXCHANGE("lock ", "A", "Ap", "A", "lock exchange")
ROW("lock exchange", "base", "A", 0, 1, "xchgb %al, (%rbx)")
ROW("lock exchange", "base", "A", 0, 1, "xchgb %dh, (%rbx)")
ROW("lock exchange", "base", "A", 0, 2, "xchgw %ax, (%rbx)")
ROW("lock exchange", "base", "A", 0, 4, "xchgl %r8d, (%rbx)")
ROW("lock exchange", "base", "A", 0, 8, "xchgq %r8, (%rbx)")
ROW("lock exchange", "base", "A", 0, 8, "lock xchgq %rbx, (%rbx)")

/* ---- bits: rdx is negative, r10w and r14d too ---- */
#define BITS(op, prefix, how)                                                                                        \
  ROW("bits", "base", how, 0, 2, prefix op "w $21, (%rbx)")                                                          \
  ROW("bits", "base", how, 0, 4, prefix op "l $31, (%rbx)")                                                          \
  ROW("bits", "base", how, 0, 8, prefix op "q $65, (%rbx)")                                                          \
  ROW("bits", "base", how, 0, 2, prefix op "w %cx, (%rbx)")                                                          \
  ROW("bits", "base", how, 2, 2, "mov $-35, %rax; " prefix op "w %ax, -2(%rbx,%rcx,2)")           \
  ROW("bits", "base", how, 8, 4, "mov $67, %eax; " prefix op "l %eax, (%rbx)")                                       \
  ROW("bits", "base", how, -4, 4, "mov $-1, %eax; " prefix op "l %eax, (%rbx)")                                      \
  ROW("bits", "base", how, -16, 8, "mov $-100, %rax; " prefix op "q %rax, (%rbx)")                                   \
  ROW("bits", "base", how, 0x1000, 8, "mov $0x8003, %r8d; " prefix op "q %r8, (%rbx)")
BITS("bts", "", "Rf")
BITS("btr", "", "Rf")
BITS("btc", "", "Rf")
BITS("bts", "lock ", "Af")
BITS("btr", "lock ", "Af")
BITS("btc", "lock ", "Af")

/* ---- shifts ---- */
#define SHIFTS(op)                                                                                                   \
  ROW("shift", "base", "R", 0, 1, op "b (%rbx)")                                                                     \
  ROW("shift", "base", "R", 0, 2, op "w $3, (%rbx)")                                                                 \
  ROW("shift", "base", "R", 0, 4, op "l %cl, (%rbx)")                                                                \
  ROW("shift", "base", "R", 0, 8, op "q $33, (%rbx)")
SHIFTS("rol")
SHIFTS("ror")
SHIFTS("rcl")
SHIFTS("rcr")
SHIFTS("shl")
SHIFTS("shr")
SHIFTS("sar")
ROW("shift", "base", "R", 0, 4, "shldl $3, %eax, (%rbx)")
ROW("shift", "base", "R", 0, 8, "shrdq %cl, %r8, (%rbx)")
ROW("shift", "base", "R", 0, 2, "shldw %cl, %dx, (%rbx)")

/* ---- the stack ---- */
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; push %rax")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; push %rsp")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; push %r12")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; pushw %ax")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; push $-5")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; push $0x12345678")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; pushw $0x1234")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; pushq (%rsi)")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; pushw 6(%rsi,%rcx)")
ROW("stack", "base", "R", -8, 8, "mov %rbx, %rsp; pushq 8(%rsp)")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; pushfq")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; push %fs")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; push %gs")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; call 1f; 1:")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; lea 1f(%rip), %rax; call *%rax; ud2; 1:")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; lea 1f(%rip), %rax; mov %rax, (%rsi); call *(%rsi); ud2; 1:")
ROW("stack", "base", "S", 0, 0, "mov %rbx, %rsp; enter $0x20, $0")
ROW("stack", "base", "R", -32, 32, "mov %rbx, %rsp; enter $0x10, $3")
ROW("stack", "base", "S", 0, 0, "mov %rsi, %rsp; popq (%rbx)")
ROW("stack", "base", "S", 0, 0, "mov %rsi, %rsp; popw 2(%rbx)")
ROW("stack", "base", "R", 16, 8, "mov %rbx, %rsp; popq 8(%rsp)")
ROW("stack", "base", "S", 0, 0, "mov %rsi, %rsp; popq (%r9,%rcx,8)")

/* ---- strings ---- */
ROW("string", "base", "S", 0, 0, "stosb")
ROW("string", "base", "S", 0, 0, "stosw")
ROW("string", "base", "S", 0, 0, "stosl")
ROW("string", "base", "S", 0, 0, "stosq")
ROW("string", "base", "S", 0, 0, "movsb")
ROW("string", "base", "S", 0, 0, "movsw")
ROW("string", "base", "S", 0, 0, "movsl")
ROW("string", "base", "S", 0, 0, "movsq")
ROW("string", "base", "S", 0, 0, "std; movsq; cld")
ROW("string", "base", "S", 0, 0, "std; stosw; cld")
ROW("string", "base", "S", 0, 0, "rep stosb")
ROW("string", "base", "S", 0, 0, "rep stosw")
ROW("string", "base", "S", 0, 0, "rep stosl")
ROW("string", "base", "S", 0, 0, "rep stosq")
ROW("string", "base", "S", 0, 0, "rep movsb")
ROW("string", "base", "S", 0, 0, "rep movsw")
ROW("string", "base", "S", 0, 0, "rep movsl")
ROW("string", "base", "S", 0, 0, "rep movsq")
ROW("string", "base", "S", 0, 0, "repne movsb")
ROW("string", "base", "S", 0, 0, "mov $9000, %ecx; rep movsb")
ROW("string", "base", "S", 0, 0, "mov $3001, %ecx; add $3, %rdi; rep stosl")
ROW("string", "base", "S", 0, 0, "std; rep stosb; cld")
ROW("string", "base", "S", 0, 0, "std; rep stosq; cld")
ROW("string", "base", "S", 0, 0, "std; rep movsb; cld")
ROW("string", "base", "S", 0, 0, "std; rep movsw; cld")
ROW("string", "base", "S", 0, 0, "std; rep movsl; cld")
ROW("string", "base", "S", 0, 0, "std; rep movsq; cld")
ROW("string", "base", "S", 0, 0, "add $0x3000, %rdi; add $0x3800, %rsi; mov $1500, %ecx; std; rep movsq; cld")
ROW("string", "base", "Sl", 0, 0, "addr32 rep stosl")
ROW("string", "base", "Sl", 0, 0, "mov $0xffffffff00000000, %r8; add %r8, %rdi; add %r8, %rcx; addr32 rep stosw")
ROW("string", "base", "Rl", 0, 5, "lea 0x100(%rbx), %rsi; addr32 rep movsb")
ROW("string", "base", "Rg", 0, 40, "mov $0x900, %esi; rep movsq %gs:(%rsi), %es:(%rdi)")
#define OVERLAP(width, distance, count, bytes)                                                                       \
  ROW("overlap", "base", "R", distance, bytes,                                                                       \
      "mov %rbx, %rsi; lea " #distance "(%rbx), %rdi; mov $" #count ", %ecx; rep movs" width)                        \
  ROW("overlap", "base", "R", 0x100 - distance, bytes,                                                               \
      "mov $" #count ", %ecx; lea 0x100+" #bytes "-" #bytes "/" #count "(%rbx), %rsi; lea -" #distance               \
      "(%rsi), %rdi; std; rep movs" width "; cld")
OVERLAP("b", 1, 100, 100)
OVERLAP("b", 3, 100, 100)
OVERLAP("b", 99, 100, 100)
OVERLAP("w", 1, 50, 100)
OVERLAP("w", 2, 50, 100)
OVERLAP("w", 5, 50, 100)
OVERLAP("l", 1, 25, 100)
OVERLAP("l", 3, 25, 100)
OVERLAP("l", 4, 25, 100)
OVERLAP("l", 7, 25, 100)
OVERLAP("q", 1, 20, 160)
OVERLAP("q", 5, 20, 160)
OVERLAP("q", 8, 20, 160)
OVERLAP("q", 13, 20, 160)
ROW("overlap", "base", "R", -3, 100, "mov %rbx, %rsi; lea -3(%rbx), %rdi; mov $100, %ecx; rep movsb")
ROW("overlap", "base", "R", 0, 64, "mov %rbx, %rsi; mov %rbx, %rdi; mov $8, %ecx; rep movsq")
ROW("overlap", "base", "R", 1, 9000, "mov %rbx, %rsi; lea 1(%rbx), %rdi; mov $9000, %ecx; rep movsb")
ROW("overlap", "base", "R", 4097, 9000, "mov %rbx, %rsi; lea 4097(%rbx), %rdi; mov $9000, %ecx; rep movsb")

/* ---- x87 ---- */
ROW("x87", "base", "S", 0, 0, "fldpi; fsts (%rbx)")
ROW("x87", "base", "S", 0, 0, "fldpi; fstps 4(%rbx)")
ROW("x87", "base", "S", 0, 0, "fldpi; fstl (%rbx)")
ROW("x87", "base", "S", 0, 0, "fldpi; fstpl 8(%rbx)")
ROW("x87", "base", "S", 0, 0, "fldpi; fldl2e; fstpt (%rbx)")
ROW("x87", "base", "S", 0, 0, "fldl2t; fists (%rbx)")
ROW("x87", "base", "S", 0, 0, "fldl2t; fistl (%rbx)")
ROW("x87", "base", "S", 0, 0, "fldl2t; fistps (%rbx)")
ROW("x87", "base", "S", 0, 0, "fldl2t; fistpl (%rbx)")
ROW("x87", "base", "S", 0, 0, "fldl2t; fistpll (%rbx)")
ROW("x87", "sse3", "S", 0, 0, "fldl2t; fisttps (%rbx)")
ROW("x87", "sse3", "S", 0, 0, "fldl2t; fisttpl (%rbx)")
ROW("x87", "sse3", "S", 0, 0, "fldl2t; fisttpll (%rbx)")
ROW("x87", "base", "S", 0, 0, "fldl2t; fbstp (%rbx)")
ROW("x87", "base", "S", 0, 0, "fnstcw (%rbx)")
ROW("x87", "base", "S", 0, 0, "fldpi; fnstsw (%rbx)")
ROW("x87", "base", "S", 0, 0, "fninit; fnstenv (%rbx)")
ROW("x87", "base", "S", 0, 0, "fninit; fnsave (%rbx)")
ROW("x87", "base", "S", 0, 0, "fninit; data16 fnstenv (%rbx)")
/* with its exception unmasked an inexact result is stored, one that overflows is not: the next instruction tells */
#define X87_UNMASKED(control, text)                                                                                  \
  "movw $" control ", (%rsi); fldcw (%rsi); " text "; movw $0x37f, (%rsi); fnclex; fldcw (%rsi)"
ROW("x87", "base", "S", 0, 0, "fldpi; " X87_UNMASKED("0x35f", "fsts (%rbx)"))
#define X87_HUGE "movw $16000, (%rsi); filds (%rsi); fldpi; fscale; "
ROW("x87", "base", "S", 0, 0, X87_HUGE "fsts (%rbx)")
ROW("x87", "base", "N", 0, 0, X87_HUGE X87_UNMASKED("0x377", "fsts (%rbx)"))
ROW("x87", "base", "N", 0, 0, X87_HUGE X87_UNMASKED("0x37e", "fistpl (%rbx)"))

/* ---- MMX ---- */
ROW("mmx", "base", "S", 0, 0, "movq %rax, %mm1; movq %mm1, (%rbx)")
ROW("mmx", "base", "S", 0, 0, "movq %rax, %mm1; movd %mm1, (%rbx)")
ROW("mmx", "base", "S", 0, 0, "movq %rax, %mm6; movntq %mm6, 8(%rbx)")
ROW("mmx", "base", "S", 0, 0, "movq %rax, %mm6; movq %r8, %mm2; maskmovq %mm2, %mm6")
ROW("mmx", "base", "S", 0, 0, "movq %rax, %mm6; pcmpeqb %mm2, %mm2; maskmovq %mm2, %mm6")

/* ---- SSE ---- */
ROW("sse", "base", "S", 0, 0, "movss %xmm1, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movsd %xmm9, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movd %xmm2, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movq %xmm2, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movaps %xmm3, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movapd %xmm3, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movups %xmm15, 7(%rbx)")
ROW("sse", "base", "S", 0, 0, "movupd %xmm0, 7(%rbx)")
ROW("sse", "base", "S", 0, 0, "movdqa %xmm8, 16(%rbx)")
ROW("sse", "base", "S", 0, 0, "movdqu %xmm8, 17(%rbx)")
ROW("sse", "base", "S", 0, 0, "movntdq %xmm4, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movntps %xmm4, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movntpd %xmm4, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movlps %xmm5, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movhps %xmm5, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movlpd %xmm5, (%rbx)")
ROW("sse", "base", "S", 0, 0, "movhpd %xmm5, (%rbx)")
ROW("sse", "sse4a", "S", 0, 0, "movntss %xmm5, (%rbx)")
ROW("sse", "sse4a", "S", 0, 0, "movntsd %xmm5, (%rbx)")
ROW("sse", "sse4.1", "S", 0, 0, "pextrb $0x1d, %xmm6, (%rbx)")
ROW("sse", "sse4.1", "S", 0, 0, "pextrw $6, %xmm6, (%rbx)")
ROW("sse", "sse4.1", "S", 0, 0, "pextrd $3, %xmm6, (%rbx)")
ROW("sse", "sse4.1", "S", 0, 0, "pextrq $1, %xmm6, (%rbx)")
ROW("sse", "sse4.1", "S", 0, 0, "extractps $2, %xmm6, (%rbx)")
ROW("sse", "base", "S", 0, 0, "maskmovdqu %xmm1, %xmm2")
ROW("sse", "base", "S", 0, 0, "stmxcsr (%rbx)")

/* ---- AVX ---- */
ROW("avx", "avx", "S", 0, 0, "vmovss %xmm1, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmovsd %xmm1, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmovd %xmm1, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmovq %xmm1, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmovaps %xmm9, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmovaps %ymm9, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmovapd %ymm9, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmovups %ymm10, 5(%r12)")
ROW("avx", "avx", "S", 0, 0, "vmovupd %ymm10, 5(%r13)")
ROW("avx", "avx", "S", 0, 0, "vmovdqa %ymm11, 32(%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmovdqu %ymm11, 33(%rbx,%rcx,4)")
ROW("avx", "avx", "S", 0, 0, "vmovntdq %ymm4, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmovntps %ymm4, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmovlps %xmm4, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmovhpd %xmm4, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vextractf128 $1, %ymm5, (%rbx)")
ROW("avx", "avx2", "S", 0, 0, "vextracti128 $0, %ymm5, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vpextrb $7, %xmm5, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vpextrw $7, %xmm5, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vpextrd $2, %xmm5, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vpextrq $1, %xmm5, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vextractps $3, %xmm5, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmaskmovps %ymm1, %ymm2, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmaskmovps %xmm1, %xmm2, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmaskmovpd %ymm3, %ymm4, (%rbx)")
ROW("avx", "avx2", "S", 0, 0, "vpmaskmovd %ymm5, %ymm6, (%rbx)")
ROW("avx", "avx2", "S", 0, 0, "vpmaskmovq %ymm7, %ymm8, 8(%rbx)")
ROW("avx", "avx", "S", 0, 0, "vxorps %xmm2, %xmm2, %xmm2; vmaskmovps %ymm1, %ymm2, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vmaskmovdqu %xmm1, %xmm2")
ROW("avx", "avx", "S", 0, 0, "vzeroupper; vmovups %ymm3, (%rbx)")
ROW("avx", "f16c", "S", 0, 0, "vcvtps2ph $0, %ymm1, (%rbx)")
ROW("avx", "f16c", "S", 0, 0, "vcvtps2ph $0, %xmm1, (%rbx)")
ROW("avx", "avx", "S", 0, 0, "vstmxcsr (%rbx)")

/* ---- AVX-512 ---- */
ROW("avx512", "avx512f", "S", 0, 0, "vmovdqu64 %zmm20, 64(%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "vmovups %zmm31, 1(%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "vmovapd %zmm0, 64(%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "vmovdqa32 %zmm15, 128(%r12)")
ROW("avx512", "avx512f", "S", 0, 0, "vmovntdq %zmm16, (%rbx)")
ROW("avx512", "avx512vl", "S", 0, 0, "vmovdqu32 %xmm17, 16(%rbx)")
ROW("avx512", "avx512vl", "S", 0, 0, "vmovdqu32 %ymm18, 32(%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "vmovss %xmm20, 4(%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "vmovsd %xmm20, 8(%rbx){%k5}")
ROW("avx512", "avx512f", "S", 0, 0, "vmovq %xmm21, 8(%rbx)")
ROW("avx512", "avx512fp16", "S", 0, 0, "vmovsh %xmm21, 2(%rbx)")
ROW("avx512", "avx512fp16", "S", 0, 0, "vmovw %xmm21, 2(%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "vextractf32x4 $3, %zmm19, (%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "vextracti64x4 $1, %zmm19, 1(%rbx)")
ROW("avx512", "avx512dq", "S", 0, 0, "vextracti32x8 $0, %zmm19, (%rbx)")
ROW("avx512", "avx512dq", "S", 0, 0, "vextractf64x2 $2, %zmm19, (%rbx)")
ROW("avx512", "avx512dq", "S", 0, 0, "vpextrq $1, %xmm19, (%rbx)")
ROW("avx512", "avx512bw", "S", 0, 0, "vpextrb $9, %xmm19, (%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "kmovw %k2, (%rbx)")
ROW("avx512", "avx512dq", "S", 0, 0, "kmovb %k2, (%rbx)")
ROW("avx512", "avx512bw", "S", 0, 0, "kmovd %k2, (%rbx)")
ROW("avx512", "avx512bw", "S", 0, 0, "kmovq %k2, (%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "vpmovqd %zmm3, (%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "vpmovusqb %zmm3, 8(%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "vpmovsdw %zmm3, 1(%rbx)")
ROW("avx512", "avx512f", "S", 0, 0, "vcvtps2ph $0, %zmm3, (%rbx)")
#define MASKED(k)                                                                                                    \
  ROW("masked", "avx512f", "S", 0, 0, "vmovdqu32 %zmm20, 64(%rbx){%" k "}")                                          \
  ROW("masked", "avx512f", "S", 0, 0, "vmovdqu64 %zmm20, 1(%rbx){%" k "}")                                           \
  ROW("masked", "avx512bw", "S", 0, 0, "vmovdqu8 %zmm7, 3(%rbx){%" k "}")                                            \
  ROW("masked", "avx512bw", "S", 0, 0, "vmovdqu16 %zmm7, 3(%rbx){%" k "}")                                           \
  ROW("masked", "avx512vl", "S", 0, 0, "vmovdqu32 %xmm7, 3(%rbx){%" k "}")                                           \
  ROW("masked", "avx512vl", "S", 0, 0, "vmovupd %ymm27, 3(%rbx){%" k "}")                                            \
  ROW("masked", "avx512f", "S", 0, 0, "vmovaps %zmm7, 64(%rbx){%" k "}")                                             \
  ROW("masked", "avx512f", "S", 0, 0, "vmovss %xmm7, 3(%rbx){%" k "}")                                               \
  ROW("masked", "avx512f", "S", 0, 0, "vextractf32x4 $3, %zmm19, (%rbx){%" k "}")                                    \
  ROW("masked", "avx512f", "S", 0, 0, "vextracti64x4 $1, %zmm19, (%rbx){%" k "}")                                    \
  ROW("masked", "avx512f", "S", 0, 0, "vcvtps2ph $0, %zmm19, (%rbx){%" k "}")                                        \
  ROW("masked", "avx512f", "S", 0, 0, "vpmovqb %zmm2, 3(%rbx){%" k "}")                                              \
  ROW("masked", "avx512f", "S", 0, 0, "vpmovsdb %zmm2, 3(%r12,%rcx,8){%" k "}")                                      \
  ROW("masked", "avx512f", "S", 0, 0, "vpmovusdw %zmm2, (%r15,%r15){%" k "}")                                        \
  ROW("masked", "avx512bw", "S", 0, 0, "vpmovwb %zmm2, 0xdf1(%rbx){%" k "}")                                         \
  ROW("compress", "avx512f", "S", 0, 0, "vpcompressd %zmm2, (%rbx){%" k "}")                                         \
  ROW("compress", "avx512f", "S", 0, 0, "vcompresspd %zmm22, 8(%rbx){%" k "}")                                       \
  ROW("compress", "avx512vl", "S", 0, 0, "vcompressps %ymm22, 4(%rbx){%" k "}")                                      \
  ROW("compress", "avx512vbmi2", "S", 0, 0, "vpcompressb %zmm2, (%rbx){%" k "}")                                     \
  ROW("compress", "avx512vbmi2", "S", 0, 0, "vpcompressw %zmm2, 5(%rbx){%" k "}")                                    \
  ROW("scatter", "avx512f", "Sm", 0, 0, "vpscatterdd %zmm2, (%rbx,%zmm29,4){%" k "}")                                \
  ROW("scatter", "avx512f", "Sm", 0, 0, "vpscatterdq %zmm2, 8(%rbx,%ymm29,8){%" k "}")                               \
  ROW("scatter", "avx512f", "Sm", 0, 0, "vpscatterqd %ymm2, 8(%rbx,%zmm30,4){%" k "}")                               \
  ROW("scatter", "avx512f", "Sm", 0, 0, "vpscatterqq %zmm2, (%rbx,%zmm30,8){%" k "}")                                \
  ROW("scatter", "avx512f", "Sm", 0, 0, "vscatterdps %zmm12, (%r12,%zmm29,1){%" k "}")                               \
  ROW("scatter", "avx512f", "Sm", 0, 0, "vscatterqpd %zmm12, 8(%r12,%zmm30,2){%" k "}")                              \
  ROW("scatter", "avx512vl", "Sm", 0, 0, "vpscatterqd %xmm2, (%rbx,%xmm30,4){%" k "}")
MASKED("k1")
MASKED("k2")
MASKED("k3")
MASKED("k4")
MASKED("k5")
MASKED("k6")

/* ---- processor state ---- */
ROW("state", "fxsr", "S", 0, 0, "fxsave (%rbx)")
ROW("state", "fxsr", "S", 0, 0, "fxsave64 (%rbx)")
ROW("state", "xsave", "X", 0, 0, "mov $7, %eax; xor %edx, %edx; xsave (%rbx)")
ROW("state", "xsave", "X", 0, 0, "mov $-1, %eax; mov $-1, %edx; xsave64 (%rbx)")
ROW("state", "xsave", "X", 0, 0, "mov $2, %eax; xor %edx, %edx; xsave64 (%rbx)")
ROW("state", "xsaveopt", "X", 0, 0, "mov $7, %eax; xor %edx, %edx; xsaveopt64 (%rbx)")
ROW("state", "xsavec", "X", 0, 0, "mov $7, %eax; xor %edx, %edx; xsavec64 (%rbx)")
ROW("state", "xsavec", "X", 0, 0, "mov $-1, %eax; mov $-1, %edx; xsavec (%rbx)")

#endif
