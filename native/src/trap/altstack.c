#include "trap/altstack.h"

#include <cpuid.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trap/syscall.h"
#include "trap/region.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

#define PAGE_BYTES 4096u
/* The minimum size that the kernel accepts, whatever the size of a frame. */
#define KERNEL_MIN_BYTES 2048u
/* The size of a frame without the registers that XSAVE saves. */
#define FRAME_BYTES 1280u
/* The most that a handler of dsm uses (fault_state.h), with room for the handler of the program that it calls. */
#define HANDLER_BYTES 4096u

struct altstack {
  uint32_t owner; /* thread id; 0: never used */
  int32_t process; /* of the thread: a forked child does not touch the stacks of its parent, and may run on one */
  uint8_t *bytes; /* above a guard page; NULL: none yet */
  size_t size;
  stack_t program; /* the stack that the program has set; SS_DISABLE: none */
};

static const stack_t nothing = {.ss_flags = SS_DISABLE};
static struct altstack stacks[DSM_ALTSTACKS_MAX];
static uint32_t stacks_used; /* those before it have, or had, an owner */

/* Makes the system call. Returns 0, or a negative error number. */
static long system_sigaltstack(const stack_t *wanted, stack_t *before) {
  return dsm_syscall(SYS_sigaltstack, (long)wanted, (long)before, 0, 0);
}

/* Returns the size of the largest frame that the kernel may make. */
static size_t frame_bytes(void) {
  size_t bytes = getauxval(AT_MINSIGSTKSZ); /* since Linux 5.14 */
  unsigned a, b, c, d;
  if (bytes == 0 && __get_cpuid_count(0xd, 0, &a, &b, &c, &d)) bytes = b + FRAME_BYTES;
  return bytes < KERNEL_MIN_BYTES ? KERNEL_MIN_BYTES : bytes;
}

/* Returns the size needed for two frames: dsm_guarded_copy may fault inside the handler. */
static size_t bytes_needed(void) {
  return 2 * (frame_bytes() + HANDLER_BYTES);
}

static bool is_none(const stack_t *stack) {
  return stack->ss_size == 0 || ((unsigned)stack->ss_flags & SS_DISABLE) != 0;
}

/* Returns whether the frame of a signal and dsm's handlers fit on the stack. A stack in a map is not fit, even if the
 * session was left, or is in direct mode, which may end. */
static bool is_fit(const stack_t *stack) {
  return stack->ss_size >= bytes_needed() && !dsm_regions_near(stack->ss_sp, stack->ss_size);
}

/* ---- the library's stacks ---- */

static bool has_ended(int32_t process, uint32_t thread) {
  return dsm_syscall(SYS_tgkill, process, thread, 0, 0) == -ESRCH;
}

static uint32_t entries_used(void) {
  uint32_t used = __atomic_load_n(&stacks_used, __ATOMIC_ACQUIRE);
  return used < DSM_ALTSTACKS_MAX ? used : DSM_ALTSTACKS_MAX;
}

/* Returns the entry of the calling thread, or NULL. */
static struct altstack *own_entry(int32_t process, uint32_t self) {
  for (uint32_t i = 0, used = entries_used(); i < used; i++) {
    if (__atomic_load_n(&stacks[i].owner, __ATOMIC_RELAXED) == self && stacks[i].process == process) return &stacks[i];
  }
  return NULL;
}

/* Returns an entry for the calling thread: its own, one of a thread that has ended, or a new one; NULL if there is
 * none. */
static struct altstack *take_entry(void) {
  int32_t process = getpid();
  uint32_t self = (uint32_t)dsm_syscall(SYS_gettid, 0, 0, 0, 0);
  struct altstack *own = own_entry(process, self);
  if (own != NULL) return own;
  for (uint32_t i = 0, used = entries_used(); i < used; i++) {
    uint32_t owner = __atomic_load_n(&stacks[i].owner, __ATOMIC_RELAXED);
    if (owner != 0 && stacks[i].process == process && has_ended(process, owner) &&
        __atomic_compare_exchange_n(&stacks[i].owner, &owner, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      stacks[i].program = nothing;
      return &stacks[i];
    }
  }
  uint32_t next = __atomic_fetch_add(&stacks_used, 1, __ATOMIC_ACQ_REL);
  if (next >= DSM_ALTSTACKS_MAX) {
    __atomic_store_n(&stacks_used, DSM_ALTSTACKS_MAX, __ATOMIC_RELEASE);
    return NULL;
  }
  stacks[next].process = process;
  stacks[next].program = nothing;
  __atomic_store_n(&stacks[next].owner, self, __ATOMIC_RELEASE);
  return &stacks[next];
}

/* Maps a stack of this size for the entry. False: out of memory. The previous stack of the entry stays mapped. */
static bool map_stack(struct altstack *stack, size_t bytes) {
  size_t size = bytes < DSM_ALTSTACK_BYTES ? DSM_ALTSTACK_BYTES : (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
  uint8_t *made = mmap(NULL, size + PAGE_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (made == MAP_FAILED) return false;
  mprotect(made, PAGE_BYTES, PROT_NONE);
  stack->bytes = made + PAGE_BYTES;
  stack->size = size;
  return true;
}

/* Returns an entry with a stack for the calling thread, or NULL. */
static struct altstack *take(void) {
  struct altstack *stack = take_entry();
  return stack != NULL && (stack->bytes != NULL || map_stack(stack, 0)) ? stack : NULL;
}

/* Returns the entry whose stack the kernel uses now, or NULL. Compares addresses, so in a forked child it finds the
 * entry of the parent, too. */
static struct altstack *entry_of(const stack_t *now) {
  if (is_none(now)) return NULL;
  for (uint32_t i = 0, used = entries_used(); i < used; i++) {
    if (stacks[i].bytes != NULL && stacks[i].bytes == now->ss_sp) return &stacks[i];
  }
  return NULL;
}

static stack_t as_stack(const struct altstack *stack, int flags) {
  return (stack_t){.ss_sp = stack->bytes, .ss_size = stack->size, .ss_flags = flags};
}

void dsm_altstack_ensure(void) {
  stack_t now;
  if (system_sigaltstack(NULL, &now) != 0 || (now.ss_flags & SS_ONSTACK) != 0 || (!is_none(&now) && is_fit(&now)))
    return;
  struct altstack *stack = take();
  if (stack == NULL) return;
  stack_t wanted = as_stack(stack, 0);
  if (system_sigaltstack(&wanted, NULL) == 0) stack->program = is_none(&now) ? nothing : now;
}

void dsm_altstack_offer(ucontext_t *context) {
  if (__builtin_expect(!is_none(&context->uc_stack), 1)) return;
  struct altstack *stack = take();
  if (stack != NULL) context->uc_stack = as_stack(stack, 0);
}

/* ---- the stacks as the program sees them ---- */

/* Returns the stack that the program believes is set, while the kernel uses one of the library's stacks. */
static stack_t seen(const struct altstack *stack, const stack_t *now) {
  stack_t program = stack->program;
  if (!is_none(&program)) program.ss_flags |= now->ss_flags & SS_ONSTACK;
  return program;
}

/* Uses one of the library's stacks instead of the stack of the program, which is not fit. Returns 0, or a negative
 * error number. */
static long stand_in(const stack_t *wanted, const stack_t *now, struct altstack *ours) {
  if (ours != NULL && (now->ss_flags & SS_ONSTACK) != 0) { /* the kernel has it already, and takes no other now */
    ours->program = *wanted;
    return 0;
  }
  struct altstack *stack = take();
  if (stack == NULL) return -ENOMEM;
  struct altstack smaller = *stack;
  bool grows = wanted->ss_size > stack->size;
  if (grows && !map_stack(stack, wanted->ss_size)) return -ENOMEM;
  stack_t used = as_stack(stack, wanted->ss_flags & (int)SS_AUTODISARM);
  long error = system_sigaltstack(&used, NULL);
  if (error == 0) stack->program = *wanted;
  if (error == 0 && grows) munmap(smaller.bytes - PAGE_BYTES, smaller.size + PAGE_BYTES);
  return error;
}

/* Handles SS_DISABLE of the program: a thread that has one of the library's stacks keeps it. */
static long stand_down(const stack_t *now, struct altstack *ours) {
  struct altstack *stack = ours != NULL ? ours : own_entry(getpid(), (uint32_t)dsm_syscall(SYS_gettid, 0, 0, 0, 0));
  stack_t used = stack != NULL ? as_stack(stack, 0) : nothing;
  long error = ours != NULL && (now->ss_flags & SS_ONSTACK) != 0 ? 0 : system_sigaltstack(&used, NULL);
  if (error == 0 && stack != NULL) stack->program = nothing;
  return error;
}

static long set(const stack_t *wanted, const stack_t *now, struct altstack *ours, const stack_t *program) {
  unsigned mode = (unsigned)wanted->ss_flags & ~SS_AUTODISARM;
  if ((program->ss_flags & SS_ONSTACK) != 0) return -EPERM;
  if (mode == SS_DISABLE) return stand_down(now, ours);
  if (mode != SS_ONSTACK && mode != 0) return -EINVAL;
  if (wanted->ss_size < KERNEL_MIN_BYTES) return -ENOMEM;
  stack_t shown = *wanted;
  shown.ss_flags &= (int)SS_AUTODISARM;
  return is_fit(wanted) ? system_sigaltstack(wanted, NULL) : stand_in(&shown, now, ours);
}

int dsm_altstack_set(const stack_t *given, stack_t *before) {
  stack_t now;
  long error = system_sigaltstack(NULL, &now);
  if (error == 0) {
    struct altstack *ours = entry_of(&now);
    stack_t program = ours != NULL ? seen(ours, &now) : now;
    stack_t wanted = given != NULL ? *given : nothing; /* it may be *before */
    if (given != NULL) error = set(&wanted, &now, ours, &program);
    if (error == 0 && before != NULL) *before = program;
  }
  if (error == 0) return 0;
  errno = (int)-error;
  return -1;
}
