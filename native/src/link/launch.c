/* Starts a process.
 *
 * launch() uses the system call clone with CLONE_VM and CLONE_VFORK and a separate stack, as glibc's posix_spawn()
 * does: the memory of a large process is not copied, and memory limits do not count it twice. It does not use libc's
 * vfork() and clone(), which sanitizers interpose. AddressSanitizer's vfork() remembers one return address per thread,
 * which a second vfork() in the child overwrites, so that the parent goes on in the child's code; ThreadSanitizer's
 * clone() resets in the child state that it shares with the parent. For the same reason the child makes system calls
 * only: it calls no other function of libc, and does not use the thread-local storage of the parent's thread.
 *
 *   this process --clone--> middle --clone--> the program
 *                             |
 *                             exits at once, so that init adopts the program
 *
 * The middle process has no exit signal. Such a child raises no SIGCHLD, is not returned by the program's wait() and
 * waitpid(-1), and is not reaped automatically where the program ignores SIGCHLD; only __WALL, used here, finds it.
 *
 * A process that adopts orphans itself (process 1 of a container, or a subreaper) would get the program back as a
 * child, and later what the program has started. A missing exit signal does not help there, since execve() sets it to
 * SIGCHLD. Such a process gets a child that stays, without an exit signal, and adopts them in its place (reaper.c):
 *
 *   this process --clone--> copy --clone with CLONE_PARENT--> reaper --clone--> the program
 *                             |
 *                             exits at once
 *
 * The copy has memory of its own, which the reaper takes over. It is not the reaper itself because the kernel writes to
 * the memory of a thread that has registered restartable sequences, and the reaper unmaps that; a child that shares its
 * parent's memory is not registered. A thread of this process reaps the reaper. Where memory does not suffice for a copy,
 * and under valgrind, such a process starts the program directly, and the thread reaps that, if wait() does not. */
#define _GNU_SOURCE
#include "link/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link/reaper.h"
#include "link/thread.h"
#include "trap/syscall.h"
#include "trap/tool.h"

#define CHILD_STACK_BYTES (32u << 10)
#define COLLECTOR_STACK_BYTES (256u << 10) /* as session/direct_exit.c's: glibc puts thread-local variables there */
#define REAPER_BYTES 4096u /* of the struct reaper: a page */
#define SIGNALS 64
_Static_assert(sizeof(struct reaper) % 8 == 0 && sizeof(struct reaper) < REAPER_BYTES / 2, "struct shared follows it");

extern char **environ;

struct program {
  const char *path;
  char *const *arguments;
  char *const *environment;
  int output;
  uint8_t *inner_stack; /* its end, where the middle or the reaper starts the program */
  uint8_t *reaper_stack; /* its end */
  struct reaper *reaper;
  int self; /* the process id of this process */
  struct shared *shared;
};

/* What this process shares with its copy. */
struct shared {
  _Atomic int32_t reaper_id;
  _Atomic uint32_t copy_lives; /* the kernel clears it when the copy executes no code any more */
};

/* The kernel's struct sigaction; all zero means SIG_DFL. */
struct kernel_sigaction {
  uint64_t handler, flags, restorer, mask;
};

/* Calls clone(flags, stack), and exit(run(program)) in the child. Returns the id of the child, or a negative errno. */
long dsm_launch_clone(long flags, uint8_t *stack_end, int (*run)(const struct program *),
                      const struct program *program);
__asm__(".pushsection .text\n"
        ".type dsm_launch_clone, @function\n"
        ".hidden dsm_launch_clone\n"
        ".globl dsm_launch_clone\n"
        "dsm_launch_clone:\n"
        "  .cfi_startproc\n"
        "  mov %rdx, %r9\n"
        "  mov %rcx, %r8\n"
        "  mov $56, %eax\n"
        "  syscall\n"
        "  test %eax, %eax\n"
        "  jz 1f\n"
        "  ret\n"
        "1:\n"
        "  .cfi_undefined rip\n"
        "  xor %ebp, %ebp\n"
        "  mov %r8, %rdi\n"
        "  call *%r9\n"
        "  mov %eax, %edi\n"
        "  mov $231, %eax\n"
        "  syscall\n"
        "  hlt\n"
        "  .cfi_endproc\n"
        ".size dsm_launch_clone, . - dsm_launch_clone\n"
        ".popsection\n");
_Static_assert(SYS_clone == 56 && SYS_exit_group == 231, "the numbers above");

static long child_of(int (*run)(const struct program *), uint8_t *stack_end, const struct program *program) {
  return dsm_launch_clone(CLONE_VM | CLONE_VFORK, stack_end, run, program);
}

/* Writes "failed WHAT ERRNO"; WHAT has at most 8 letters. */
static void report(int output, const char *what, int error) {
  char line[32] = "failed ", digits[12];
  size_t length = 7, count = 0;
  for (; *what != 0; what++) line[length++] = *what;
  line[length++] = ' ';
  do {
    digits[count++] = (char)('0' + error % 10);
    error /= 10;
  } while (error > 0);
  while (count > 0) line[length++] = digits[--count];
  line[length++] = '\n';
  dsm_syscall(SYS_write, output, (long)line, (long)length, 0);
}

/* Closes the listed descriptors where close_range() is missing (before Linux 5.9). */
static void close_listed(void) {
  struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
  };
  /* Read the list once: while descriptors are being closed, further reads would skip some. 16 KiB hold 600 names. */
  _Alignas(8) uint8_t entries[16384];
  int closed;
  int folder = (int)dsm_syscall(SYS_open, (long)"/proc/self/fd", O_RDONLY | O_DIRECTORY, 0, 0);
  do {
    closed = 0;
    if (folder < 0 || dsm_syscall(SYS_lseek, folder, 0, SEEK_SET, 0) < 0) break;
    long length = dsm_syscall(SYS_getdents64, folder, (long)entries, sizeof entries, 0);
    for (long at = 0; at < length;) {
      const struct entry *entry = (const struct entry *)(const void *)(entries + at);
      int fd = 0;
      for (const char *digit = entry->name; *digit >= '0' && *digit <= '9'; digit++) fd = fd * 10 + (*digit - '0');
      if (fd > 2 && fd != folder) closed += dsm_syscall(SYS_close, fd, 0, 0, 0) == 0;
      at += entry->size;
    }
  } while (closed > 0);
  dsm_syscall(SYS_close, folder, 0, 0, 0);
}

/* All signals are blocked here, and until execve() this is the parent's memory. */
static int run_program(const struct program *program) {
  int output = program->output;
  struct kernel_sigaction by_default;
  memset(&by_default, 0, sizeof by_default);
  /* Reset all actions: handlers are code of the parent, and ignored signals would stay ignored. SIGKILL and SIGSTOP
   * fail. */
  for (int signo = 1; signo <= SIGNALS; signo++)
    dsm_syscall(SYS_rt_sigaction, signo, (long)&by_default, 0, DSM_SIGSET_BYTES);
  dsm_syscall(SYS_setsid, 0, 0, 0, 0);
  dsm_syscall(SYS_umask, 077, 0, 0, 0);
  /* The descriptor table of this process is a copy. `output` may be one of 0, 1, 2. No further descriptor is needed:
   * the parent may be at its limit. */
  long error = 0;
  if (output <= 2) {
    error = dsm_syscall(SYS_fcntl, output, F_DUPFD, 3, 0);
    output = error >= 0 ? (int)error : output;
  }
  for (int fd = 0; fd <= 2 && error >= 0; fd++) dsm_syscall(SYS_close, fd, 0, 0, 0);
  /* Takes the lowest free descriptor, 0; then 1 and 2. */
  if (error >= 0) error = dsm_syscall(SYS_open, (long)"/dev/null", O_RDWR, 0, 0);
  if (error >= 0) error = dsm_syscall(SYS_dup2, output, 1, 0, 0);
  if (error >= 0) error = dsm_syscall(SYS_dup2, 0, 2, 0, 0);
  if (error >= 0) error = dsm_syscall(SYS_chdir, (long)"/", 0, 0, 0);
  if (error >= 0) {
    output = 1;
    if (dsm_syscall(SYS_close_range, 3, ~0u, 0, 0) < 0) close_listed();
    uint64_t none = 0;
    dsm_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, DSM_SIGSET_BYTES);
    error = dsm_syscall(SYS_execve, (long)program->path, (long)program->arguments, (long)program->environment, 0);
  }
  report(output, "RUN", (int)-error);
  return 127;
}

static int run_middle(const struct program *program) {
  long child = child_of(run_program, program->inner_stack, program);
  if (child < 0) report(program->output, "START", (int)-child);
  return 0;
}

static int run_reaper(const struct program *program) {
  dsm_syscall(SYS_setsid, 0, 0, 0, 0);
  dsm_syscall(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0);
  long child = child_of(run_program, program->inner_stack, program);
  if (child < 0) {
    report(program->output, "START", (int)-child);
    return 0;
  }
  for (int fd = 0; fd <= 2; fd++) dsm_syscall(SYS_close, fd, 0, 0, 0);
  if (dsm_syscall(SYS_close_range, 3, ~0u, 0, 0) < 0) close_listed();
  /* The copy executes code, and has a stack, that are about to be unmapped. */
  _Atomic uint32_t *copy_lives = &program->shared->copy_lives;
  while (atomic_load(copy_lives) != 0) dsm_syscall(SYS_futex, (long)copy_lives, FUTEX_WAIT, 1, 0);
  reaper_become(program->reaper, REAPER_BYTES, program->self);
}

static int run_copy(const struct program *program) {
  struct shared *shared = program->shared;
  atomic_store(&shared->copy_lives, 1);
  dsm_syscall(SYS_set_tid_address, (long)&shared->copy_lives, 0, 0, 0);
  long reaper = dsm_launch_clone(CLONE_VM | CLONE_PARENT, program->reaper_stack, run_reaper, program);
  if (reaper < 0)
    report(program->output, "START", (int)-reaper);
  else
    atomic_store(&shared->reaper_id, (int32_t)reaper);
  return 0;
}

static void await_child(pid_t child) {
  while (dsm_syscall(SYS_wait4, child, 0, __WALL, 0) == -EINTR) continue;
}

static void *collect(void *child) {
  await_child((pid_t)(intptr_t)child);
  return NULL;
}

static int adopts(void) {
  int subreaper = 0;
  return getpid() == 1 || (prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper);
}

int launch(const char *path, char *const arguments[], char *const environment[], int output) {
  const size_t size = REAPER_BYTES + 3 * CHILD_STACK_BYTES;
  /* Shared with the copy. */
  uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno;
  struct shared *shared = (struct shared *)(void *)(memory + sizeof(struct reaper));
  uint8_t *stacks = memory + REAPER_BYTES;
  struct program program = {.path = path,
                            .arguments = arguments,
                            .environment = environment,
                            .output = output,
                            .inner_stack = stacks + CHILD_STACK_BYTES,
                            .reaper_stack = stacks + 2 * CHILD_STACK_BYTES,
                            .reaper = (struct reaper *)(void *)memory,
                            .self = getpid(),
                            .shared = shared};
  int is_adopter = adopts(), error = 0;
  long child = -ENOMEM, reaped_later = 0;
  /* No handler of this process may run in a child that shares its memory. */
  uint64_t all = ~0ull, before;
  dsm_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&before, DSM_SIGSET_BYTES);
  if (is_adopter && !tool_is_valgrind()) child = dsm_launch_clone(CLONE_VFORK, memory + size, run_copy, &program);
  int is_copy = child > 0;
  if (child == -ENOMEM) child = child_of(is_adopter ? run_program : run_middle, memory + size, &program);
  if (child < 0)
    error = (int)-child;
  else if (is_adopter && !is_copy)
    reaped_later = child;
  else
    await_child((pid_t)child);
  if (is_copy) reaped_later = atomic_load(&shared->reaper_id);
  dsm_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, DSM_SIGSET_BYTES);
  munmap(memory, size);
  /* If no thread can be started, that child stays a zombie of this process after it has ended. */
  if (reaped_later > 0) thread_start(collect, (void *)reaped_later, COLLECTOR_STACK_BYTES);
  return error;
}

static int is_kept(const char *variable) {
  static const char *const dropped[] = {"LD_PRELOAD=", "LD_AUDIT=", "BUN_BE_BUN=", "BUN_OPTIONS=", "DSM_RUN_RECORD="};
  for (size_t i = 0; i < sizeof dropped / sizeof dropped[0]; i++)
    if (strncmp(variable, dropped[i], strlen(dropped[i])) == 0) return 0;
  return 1;
}

char **launch_environment(void) {
  size_t count = 0, kept = 0;
  while (environ != NULL && environ[count] != NULL) count++;
  char **copy = malloc((count + 1) * sizeof *copy);
  if (copy == NULL) return NULL;
  for (size_t i = 0; i < count; i++)
    if (is_kept(environ[i])) copy[kept++] = environ[i];
  copy[kept] = NULL;
  return copy;
}
