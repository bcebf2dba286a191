/* The reaper stands between a process that adopts orphans (process 1 of a container, or a subreaper) and the arbiter that
 * it starts: without it the arbiter, and what that starts, would be children of the program, returned by its waitpid(-1).
 *
 * A child that has no exit signal is not: but execve() sets the exit signal to SIGCHLD, so the reaper executes no
 * program. It is a copy of the process that it serves, and unmaps all memory but the code below and its own struct, so
 * that it holds none of the program's for as long as it lives, which may be a minute longer than the session. Its code
 * therefore uses no stack, no thread-local storage and no other function. */
#define _GNU_SOURCE
#include "link/reaper.h"

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "trap/syscall.h"

#define PAGE 4096ull
/* The end of the addresses that mmap() gives without being asked for more. */
#define ADDRESSES_END 0x7ffffffff000ull

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* Linux 5.3 */
#endif

/* Unmaps the three ranges; then, until there is no child: reaps those that have ended, and waits for the next end. */
__attribute__((noreturn)) void dsm_reaper_run(struct reaper *reaper);
extern const uint8_t dsm_reaper_run_end[] __attribute__((visibility("hidden")));
__asm__(".pushsection .text\n"
        ".type dsm_reaper_run, @function\n"
        ".hidden dsm_reaper_run\n"
        ".globl dsm_reaper_run\n"
        "dsm_reaper_run:\n"
        "  .cfi_startproc\n"
        "  .cfi_undefined rip\n"
        "  mov %rdi, %rbx\n"
        "  xor %r12d, %r12d\n"
        "1:\n"
        "  mov (%rbx,%r12), %rdi\n"
        "  mov 8(%rbx,%r12), %rsi\n"
        "  mov $11, %eax\n" /* munmap(start, length) */
        "  syscall\n"
        "  add $16, %r12\n"
        "  cmp $48, %r12\n"
        "  jne 1b\n"
        "2:\n"
        "  mov $61, %eax\n" /* wait4(-1, NULL, WNOHANG | __WALL, NULL) */
        "  mov $-1, %rdi\n"
        "  xor %esi, %esi\n"
        "  mov $0x40000001, %edx\n"
        "  xor %r10d, %r10d\n"
        "  syscall\n"
        "  test %rax, %rax\n"
        "  jg 2b\n"
        "  js 3f\n"
        "  mov $7, %eax\n" /* poll(polled, 2, -1) */
        "  lea 48(%rbx), %rdi\n"
        "  mov $2, %esi\n"
        "  mov $-1, %edx\n"
        "  syscall\n"
        "  cmpw $0, 54(%rbx)\n"
        "  jne 3f\n"
        "  xor %eax, %eax\n" /* read(polled[1].fd, signal_info, 128) */
        "  mov 56(%rbx), %edi\n"
        "  lea 64(%rbx), %rsi\n"
        "  mov $128, %edx\n"
        "  syscall\n"
        "  jmp 2b\n"
        "3:\n"
        "  mov $231, %eax\n" /* exit_group(0) */
        "  xor %edi, %edi\n"
        "  syscall\n"
        "  hlt\n"
        "  .cfi_endproc\n"
        ".size dsm_reaper_run, . - dsm_reaper_run\n"
        ".hidden dsm_reaper_run_end\n"
        ".globl dsm_reaper_run_end\n"
        "dsm_reaper_run_end:\n"
        ".popsection\n");
_Static_assert(SYS_munmap == 11 && SYS_wait4 == 61 && SYS_poll == 7 && SYS_read == 0 && SYS_exit_group == 231 &&
                   (WNOHANG | __WALL) == 0x40000001,
               "the numbers above");
_Static_assert(offsetof(struct reaper, polled) == 48 && offsetof(struct reaper, polled[0].revents) == 54 &&
                   offsetof(struct reaper, polled[1].fd) == 56 && offsetof(struct reaper, signal_info) == 64,
               "the offsets above");

void reaper_become(struct reaper *reaper, uint64_t size, int parent) {
  /* The handler, or SIG_IGN, is the program's: children must be reaped here. */
  uint64_t by_default[4] = {0};
  dsm_syscall(SYS_rt_sigaction, SIGCHLD, (long)by_default, 0, DSM_SIGSET_BYTES);
  dsm_syscall(SYS_prctl, PR_SET_NAME, (long)"dsm-reaper", 0, 0);
  uint64_t child_ended = 1ull << (SIGCHLD - 1);
  /* Before Linux 5.3 the end of the process that it serves is not seen; -1 is ignored by poll(). */
  long served = dsm_syscall(SYS_pidfd_open, parent, 0, 0, 0);
  reaper->polled[0].fd = served < 0 ? -1 : (int32_t)served;
  reaper->polled[1].fd = (int32_t)dsm_syscall(SYS_signalfd4, -1, (long)&child_ended, DSM_SIGSET_BYTES, 0);
  reaper->polled[0].events = reaper->polled[1].events = POLLIN;
  uint64_t code = (uint64_t)(uintptr_t)dsm_reaper_run & ~(PAGE - 1);
  uint64_t code_end = ((uint64_t)(uintptr_t)dsm_reaper_run_end + PAGE - 1) & ~(PAGE - 1);
  uint64_t own = (uint64_t)(uintptr_t)reaper, own_end = own + size;
  int is_below = own < code;
  uint64_t first = is_below ? own : code, first_end = is_below ? own_end : code_end;
  uint64_t second = is_below ? code : own, second_end = is_below ? code_end : own_end;
  reaper->unmapped[0].start = 0;
  reaper->unmapped[0].length = first;
  reaper->unmapped[1].start = first_end;
  reaper->unmapped[1].length = second - first_end;
  reaper->unmapped[2].start = second_end;
  reaper->unmapped[2].length = ADDRESSES_END - second_end;
  dsm_reaper_run(reaper);
}
