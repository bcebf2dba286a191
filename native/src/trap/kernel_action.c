#define _GNU_SOURCE
#include "trap/kernel_action.h"

#include <errno.h>
#include <string.h>

/* Debuggers know a signal frame by this name, unwinders by these very bytes. */
__asm__(".pushsection .text\n"
        ".type __restore_rt, @function\n"
        ".hidden __restore_rt\n"
        ".globl __restore_rt\n"
        "  nop\n"
        "__restore_rt:\n"
        "  .byte 0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05\n"
        ".size __restore_rt, . - __restore_rt\n"
        ".popsection\n");

static void to_kernel(const struct sigaction *from, struct dsm_kernel_action *to) {
  memcpy(&to->handler, &from->sa_handler, sizeof(to->handler));
  to->flags = (unsigned)from->sa_flags | SA_RESTORER;
  to->restorer = (uintptr_t)dsm_restore_frame;
  memcpy(&to->mask, &from->sa_mask, sizeof(to->mask));
}

static void from_kernel(const struct dsm_kernel_action *from, struct sigaction *to) {
  memset(to, 0, sizeof(*to));
  memcpy(&to->sa_handler, &from->handler, sizeof(from->handler));
  to->sa_flags = (int)(from->flags & ~(uint64_t)SA_RESTORER);
  memcpy(&to->sa_mask, &from->mask, sizeof(from->mask));
}

int dsm_system_sigaction(int signo, const struct sigaction *action, struct sigaction *old) {
  struct dsm_kernel_action new, was;
  if (action != NULL) to_kernel(action, &new);
  long result = dsm_kernel_action(signo, action != NULL ? &new : NULL, old != NULL ? &was : NULL);
  if (result < 0) {
    errno = (int)-result;
    return -1;
  }
  if (old != NULL) from_kernel(&was, old);
  return 0;
}
