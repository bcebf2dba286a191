#include "trap/guard.h"

#include <sys/syscall.h>

#include "trap/syscall.h"

/* rdi: to, rsi: from, rdx: length, rcx: guard. rep movsb leaves in rcx what is left to copy, and a fault of its is
 * resumed behind it by dsm_guard_hit(). Returns what is left. */
extern const char dsm_guarded_copy_at[], dsm_guarded_copy_after[];
__asm__(".pushsection .text\n"
        ".type dsm_guarded_copy_run, @function\n"
        ".hidden dsm_guarded_copy_run, dsm_guarded_copy_at, dsm_guarded_copy_after\n"
        ".globl dsm_guarded_copy_run, dsm_guarded_copy_at, dsm_guarded_copy_after\n"
        "dsm_guarded_copy_run:\n"
        "  mov %rcx, %r8\n"
        "  mov %rdx, %rcx\n"
        "dsm_guarded_copy_at:\n"
        "  rep movsb\n"
        "dsm_guarded_copy_after:\n"
        "  mov %rcx, %rax\n"
        "  ret\n"
        ".size dsm_guarded_copy_run, . - dsm_guarded_copy_run\n"
        ".popsection\n");

bool dsm_guard_hit(int signo, const siginfo_t *info, ucontext_t *context) {
  greg_t *regs = context->uc_mcontext.gregs;
  if ((uint64_t)regs[REG_RIP] != (uint64_t)dsm_guarded_copy_at) return false;
  struct dsm_guard *guard = (struct dsm_guard *)regs[REG_R8];
  guard->signo = signo;
  guard->code = info->si_code;
  guard->address = (uint64_t)info->si_addr;
  guard->error = (uint64_t)regs[REG_ERR];
  regs[REG_RIP] = (greg_t)dsm_guarded_copy_after;
  return true;
}

size_t dsm_guarded_copy(void *to, const void *from, size_t length, struct dsm_guard *guard) {
  uint64_t mask = 1ull << (SIGSEGV - 1) | 1ull << (SIGBUS - 1), old;
  guard->signo = 0;
  dsm_syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&mask, (long)&old, DSM_SIGSET_BYTES);
  size_t left = dsm_guarded_copy_run(to, from, length, guard);
  dsm_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, DSM_SIGSET_BYTES);
  return left;
}

enum dsm_outcome dsm_fault_becomes(struct dsm_fault *fault, const struct dsm_guard *guard) {
  fault->info->si_signo = guard->signo;
  fault->info->si_code = guard->code;
  fault->info->si_addr = (void *)guard->address;
  fault->regs[REG_CR2] = (greg_t)guard->address;
  fault->regs[REG_ERR] = (greg_t)guard->error;
  return DSM_OUTCOME_CHAIN;
}
