/* Calls of the C library that write a result to memory of the program while all signals are blocked, or through the
 * kernel: pthread_create(&map->thread, ...). If that memory is in the map, the wrapper passes other memory to the real
 * call and stores the result itself, where the store is captured.
 *
 * Also here: the two calls that set a signal mask from memory that the program may have filled in, and those for thread
 * attributes, which hold a mask in kernel form (signal_mask.c).
 *
 * Only in libdsm.so: the real calls are found by dlsym(RTLD_NEXT), which a static program does not have. */
#define _GNU_SOURCE
#include <errno.h>
#include <mqueue.h>
#include <pthread.h>
#include <string.h>
#include <threads.h>
#include <time.h>
#include <ucontext.h>

#include "base/next.h"
#include "interpose/notify_threads.h"
#include "trap/altstack.h"
#include "trap/region.h"
#include "trap/signals.h"

#define EXPORT __attribute__((weak, visibility("default")))

extern void *dlopen_2_2_5(const char *name, int flags) __attribute__((weak));
__asm__(".symver dlopen_2_2_5, dlopen@GLIBC_2.2.5");

/* Before glibc 2.34 some calls are in libraries of their own, which may have been loaded after this one. */
static void find_late(void *pointer, const char *name, const char *library) {
  void *found = NULL;
  memcpy(&found, pointer, sizeof(found));
  if (found != NULL) return;
  dsm_find_next(pointer, name);
  memcpy(&found, pointer, sizeof(found));
  if (found != NULL || dlopen_2_2_5 == NULL || dlsym_2_2_5 == NULL) return;
  void *handle = dlopen_2_2_5(library, RTLD_LAZY | RTLD_NOLOAD);
  if (handle != NULL && (found = dlsym_2_2_5(handle, name)) != NULL) memcpy(pointer, &found, sizeof(found));
}

static struct {
  int (*pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  int (*thrd_create)(thrd_t *, thrd_start_t, void *);
  int (*posix_spawn)(pid_t *, const char *, const void *, const void *, char *const[], char *const[]);
  int (*posix_spawnp)(pid_t *, const char *, const void *, const void *, char *const[], char *const[]);
  int (*timer_create)(clockid_t, struct sigevent *, timer_t *);
  int (*mq_notify)(mqd_t, const struct sigevent *);
  int (*setsigmask)(pthread_attr_t *, const sigset_t *);
  int (*getsigmask)(const pthread_attr_t *, sigset_t *);
} real;

/* Read by assembly. */
int (*dsm_real_setcontext)(const ucontext_t *) __attribute__((visibility("hidden")));
int (*dsm_real_swapcontext)(ucontext_t *, const ucontext_t *) __attribute__((visibility("hidden")));

static void find_real_calls(void) {
  find_late(&real.pthread_create, "pthread_create", "libpthread.so.0");
  find_late(&real.thrd_create, "thrd_create", "libpthread.so.0");
  find_late(&real.posix_spawn, "posix_spawn", "libc.so.6");
  find_late(&real.posix_spawnp, "posix_spawnp", "libc.so.6");
  find_late(&real.timer_create, "timer_create", "librt.so.1");
  find_late(&real.mq_notify, "mq_notify", "librt.so.1");
  find_late(&real.setsigmask, "pthread_attr_setsigmask_np", "libc.so.6");
  find_late(&real.getsigmask, "pthread_attr_getsigmask_np", "libc.so.6");
  find_late(&dsm_real_setcontext, "setcontext", "libc.so.6");
  find_late(&dsm_real_swapcontext, "swapcontext", "libc.so.6");
}

__attribute__((constructor)) static void find_at_start(void) {
  find_real_calls();
}

/* ---- results ---- */

EXPORT int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes, void *(*run)(void *),
                          void *restrict argument) {
  if (__builtin_expect(real.pthread_create == NULL, 0)) find_real_calls();
  if (real.pthread_create == NULL) return ENOSYS;
  if (!dsm_regions_near(thread, sizeof(*thread))) return real.pthread_create(thread, attributes, run, argument);
  pthread_t made;
  int error = real.pthread_create(&made, attributes, run, argument);
  if (error == 0) *thread = made;
  return error;
}

EXPORT int thrd_create(thrd_t *thread, thrd_start_t run, void *argument) {
  if (__builtin_expect(real.thrd_create == NULL, 0)) find_real_calls();
  if (real.thrd_create == NULL) return thrd_error;
  if (!dsm_regions_near(thread, sizeof(*thread))) return real.thrd_create(thread, run, argument);
  thrd_t made;
  int result = real.thrd_create(&made, run, argument);
  if (result == thrd_success) *thread = made;
  return result;
}

/* Passes posix_spawn_file_actions_t and posix_spawnattr_t on unchanged. */
int posix_spawn(pid_t *restrict pid, const char *restrict path, const void *restrict actions,
                const void *restrict attributes, char *const arguments[restrict], char *const environment[restrict]);
int posix_spawnp(pid_t *restrict pid, const char *restrict file, const void *restrict actions,
                 const void *restrict attributes, char *const arguments[restrict], char *const environment[restrict]);

EXPORT int posix_spawn(pid_t *restrict pid, const char *restrict path, const void *restrict actions,
                       const void *restrict attributes, char *const arguments[restrict],
                       char *const environment[restrict]) {
  if (__builtin_expect(real.posix_spawn == NULL, 0)) find_real_calls();
  if (real.posix_spawn == NULL) return ENOSYS;
  pid_t child, *landing = dsm_regions_near(pid, sizeof(*pid)) ? &child : pid;
  int error = real.posix_spawn(landing, path, actions, attributes, arguments, environment);
  if (error == 0 && landing == &child) *pid = child;
  return error;
}

EXPORT int posix_spawnp(pid_t *restrict pid, const char *restrict file, const void *restrict actions,
                        const void *restrict attributes, char *const arguments[restrict],
                        char *const environment[restrict]) {
  if (__builtin_expect(real.posix_spawnp == NULL, 0)) find_real_calls();
  if (real.posix_spawnp == NULL) return ENOSYS;
  pid_t child, *landing = dsm_regions_near(pid, sizeof(*pid)) ? &child : pid;
  int error = real.posix_spawnp(landing, file, actions, attributes, arguments, environment);
  if (error == 0 && landing == &child) *pid = child;
  return error;
}

EXPORT int timer_create(clockid_t clock, struct sigevent *restrict event, timer_t *restrict timer) {
  if (__builtin_expect(real.timer_create == NULL, 0)) find_real_calls();
  if (real.timer_create == NULL) {
    errno = ENOSYS;
    return -1;
  }
  struct sigevent opened;
  timer_t made, *landing = dsm_regions_near(timer, sizeof(*timer)) ? &made : timer;
  int result = real.timer_create(clock, dsm_notify_open(event, &opened), landing);
  if (result == 0 && landing == &made) *timer = made;
  return result;
}

EXPORT int mq_notify(mqd_t queue, const struct sigevent *event) {
  if (__builtin_expect(real.mq_notify == NULL, 0)) find_real_calls();
  if (real.mq_notify == NULL) {
    errno = ENOSYS;
    return -1;
  }
  struct sigevent given, opened;
  if (event == NULL) return real.mq_notify(queue, NULL);
  given = *event;
  return real.mq_notify(queue, dsm_notify_open(&given, &opened));
}

/* ---- masks ---- */

int pthread_attr_setsigmask_np(pthread_attr_t *attributes, const sigset_t *mask);
int pthread_attr_getsigmask_np(const pthread_attr_t *attributes, sigset_t *mask);

EXPORT int pthread_attr_setsigmask_np(pthread_attr_t *attributes, const sigset_t *mask) {
  if (real.setsigmask == NULL) return ENOSYS;
  if (mask == NULL || dsm_is_second()) return real.setsigmask(attributes, mask);
  sigset_t in = *mask;
  uint64_t bits;
  memcpy(&bits, &in, sizeof(bits));
  bits = dsm_mask_inward(bits);
  memcpy(&in, &bits, sizeof(bits));
  return real.setsigmask(attributes, &in);
}

/* The real call may also return PTHREAD_ATTR_NO_SIGMASK_NP (-1): there is no mask, and the set has all signals. */
EXPORT int pthread_attr_getsigmask_np(const pthread_attr_t *attributes, sigset_t *mask) {
  if (real.getsigmask == NULL) return ENOSYS;
  sigset_t out;
  int result = real.getsigmask(attributes, &out);
  uint64_t bits;
  memcpy(&bits, &out, sizeof(bits));
  if (result == 0 && !dsm_is_second()) bits = dsm_mask_outward(bits);
  memcpy(&out, &bits, sizeof(bits));
  *mask = out;
  return result;
}

/* Converts the mask to kernel form: getcontext() stores that form, but sigfillset(&context.uc_sigmask) adds SIGSEGV.
 * The calls return into the frame of their caller, so the wrappers jump to the real ones. */
__attribute__((visibility("hidden"), used)) void dsm_context_inward(ucontext_t *context);

void dsm_context_inward(ucontext_t *context) {
  if (dsm_real_setcontext == NULL || dsm_real_swapcontext == NULL) find_real_calls();
  /* A thread that has not stored yet may switch to a stack in the map that another thread has made. */
  if (dsm_regions_near((const void *)context->uc_mcontext.gregs[REG_RSP], 1)) dsm_altstack_ensure();
  uint64_t bits;
  memcpy(&bits, &context->uc_sigmask, sizeof(bits));
  if ((bits & DSM_SIGNAL_BIT(SIGSEGV)) == 0) return;
  bits = dsm_mask_inward(bits);
  memcpy(&context->uc_sigmask, &bits, sizeof(bits));
}

__asm__(".pushsection .text\n"
        ".type setcontext, @function\n"
        ".type swapcontext, @function\n"
        ".weak setcontext, swapcontext\n"
        "setcontext:\n"
        "  .cfi_startproc\n"
        "  endbr64\n"
        "  push %rdi\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  call dsm_context_inward\n"
        "  pop %rdi\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  jmp *dsm_real_setcontext(%rip)\n"
        "  .cfi_endproc\n"
        ".size setcontext, . - setcontext\n"
        "swapcontext:\n"
        "  .cfi_startproc\n"
        "  endbr64\n"
        "  push %rdi\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  push %rsi\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  sub $8, %rsp\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  mov %rsi, %rdi\n"
        "  call dsm_context_inward\n"
        "  add $8, %rsp\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  pop %rsi\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  pop %rdi\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  jmp *dsm_real_swapcontext(%rip)\n"
        "  .cfi_endproc\n"
        ".size swapcontext, . - swapcontext\n"
        ".popsection\n");

/* ---- sanitizers ---- */

/* gcc's AddressSanitizer terminates programs in which another library is loaded before it, such as one preloaded by
 * `dsm run`. That order is safe here: libdsm passes calls on to it. ASAN_OPTIONS and the program's own options override
 * these. */
const char *__asan_default_options(void);

EXPORT const char *__asan_default_options(void) {
  return "verify_asan_link_order=0";
}
