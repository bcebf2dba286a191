/* Descriptors of the library are never 0, 1 or 2.
 *
 * A process may be started with standard input, output or error closed. The next descriptor that is opened then gets
 * that number, and what the program or the C library prints would go into the map or to the arbiter. */
#ifndef DSM_DESCRIPTOR_H
#define DSM_DESCRIPTOR_H

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DESCRIPTOR_FIRST 3

/* Takes a descriptor that was just opened with close-on-exec, or -1. Returns it, or in place of 0, 1 or 2 a higher one
 * of the same file; -1 with errno if there is none. Handler-safe. */
static inline int descriptor_above_stdio(int fd) {
  if (__builtin_expect(fd < 0 || fd >= DESCRIPTOR_FIRST, 1)) return fd;
  int moved = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, DESCRIPTOR_FIRST);
  int saved = errno;
  syscall(SYS_close, fd);
  errno = saved;
  return moved;
}

#endif
