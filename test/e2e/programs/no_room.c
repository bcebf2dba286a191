/* Preloaded into "actor": from now on the kernel has no memory for files of ours, as on a machine that ran out of it. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>

extern char *program_invocation_short_name;

long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
  register long d __asm__("r10") = va_arg(list, long);
  register long e __asm__("r8") = va_arg(list, long);
  register long f __asm__("r9") = va_arg(list, long);
  va_end(list);
  long result;
  if (number == SYS_fallocate && strcmp(program_invocation_short_name, "actor") == 0) {
    errno = ENOSPC;
    return -1;
  }
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(d), "r"(e), "r"(f) : "rcx", "r11", "memory");
  if (result >= 0 || result < -4095)
    return result;
  errno = (int)-result;
  return -1;
}
