/* valgrind runs a translation of the program on registers of its own.
 *
 * By default it writes them back before a memory access only as far as a stack trace needs it. The handler of a fault
 * then reads old values, and with them finds another address and other bytes than the store had. The option
 * --vex-iropt-register-updates=allregs-at-mem-access makes it write back all. Whether it was given cannot be asked, but
 * tried: tool_keeps_registers().
 *
 * The instruction pointer may still be that of a jump whose target was translated together with it, which
 * --vex-guest-chase=no forbids. No store is mistaken for another by that, since a jump is none: it is refused, with a
 * message that names the options. */
#define _GNU_SOURCE
#include "tool.h"

#include <sys/mman.h>
#include <unistd.h>

#define REQUEST_RUNNING_ON_VALGRIND 0x1001
#define REQUEST_DISCARD_TRANSLATIONS 0x1002
#define PROBE_NUMBER 0x1000
#define PROBE_ANSWER 0x44

/* valgrind knows these instructions, which together do nothing: its documented way to be asked from within the program.
 * rax points to the request and its arguments, rdx is the answer without valgrind. */
static uint64_t ask(uint64_t request, uint64_t a, uint64_t b) {
  volatile uint64_t arguments[6] = {request, a, b, 0, 0, 0};
  uint64_t answer = 0;
  __asm__ volatile(
      "rolq $3, %%rdi\n\t"
      "rolq $13, %%rdi\n\t"
      "rolq $61, %%rdi\n\t"
      "rolq $51, %%rdi\n\t"
      "xchgq %%rbx, %%rbx"
      : "+d"(answer)
      : "a"(arguments)
      : "cc", "memory");
  return answer;
}

bool tool_is_valgrind(void) {
  return ask(REQUEST_RUNNING_ON_VALGRIND, 0, 0) != 0;
}

void tool_code_changed(const void *start, size_t size) {
  ask(REQUEST_DISCARD_TRANSLATIONS, (uint64_t)start, size);
}

/* rdi: where to store, rsi: a number. Returns what the handler puts into rax. */
uint64_t dsm_probe_run(void *address, uint64_t number);
extern const char dsm_probe_at[], dsm_probe_after[];
__asm__(
    ".pushsection .text\n"
    ".type dsm_probe_run, @function\n"
    ".hidden dsm_probe_run, dsm_probe_at, dsm_probe_after\n"
    ".globl dsm_probe_run, dsm_probe_at, dsm_probe_after\n"
    "dsm_probe_run:\n"
    "  .cfi_startproc\n"
    "  lea 1(%rsi), %rax\n"
    "  lea 2(%rsi), %rcx\n"
    "  lea 3(%rsi), %r10\n"
    "dsm_probe_at:\n"
    "  mov %rax, (%rdi)\n"
    "  mov %rsi, %rax\n" /* what is overwritten soon is not written back without need */
    "  mov %rsi, %rcx\n"
    "  mov %rsi, %r10\n"
    "  ret\n"
    "dsm_probe_after:\n"
    "  ret\n"
    "  .cfi_endproc\n"
    ".size dsm_probe_run, . - dsm_probe_run\n"
    ".popsection\n");

bool tool_probe_hit(ucontext_t *context) {
  greg_t *regs = context->uc_mcontext.gregs;
  uint64_t rip = (uint64_t)regs[REG_RIP], begin = (uint64_t)dsm_probe_run;
  if (rip - begin >= (uint64_t)dsm_probe_after - begin)
    return false;
  bool kept = rip == (uint64_t)dsm_probe_at && regs[REG_RAX] == PROBE_NUMBER + 1 &&
              regs[REG_RCX] == PROBE_NUMBER + 2 && regs[REG_R10] == PROBE_NUMBER + 3;
  regs[REG_RIP] = (greg_t)dsm_probe_after;
  regs[REG_RAX] = kept ? PROBE_ANSWER : 0;
  return true;
}

bool tool_keeps_registers(void) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  void *place = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED)
    return false;
  bool kept = dsm_probe_run(place, PROBE_NUMBER) == PROBE_ANSWER;
  munmap(place, page);
  return kept;
}

__attribute__((noinline)) void dsm_fault_of_program(int signo) {
  __asm__ volatile("" ::"r"(signo) : "memory");
}
