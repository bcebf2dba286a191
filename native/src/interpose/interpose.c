/* The calls of kernel_io.h under their standard names: with libdsm linked or preloaded, read() into the map just works.
 * Weak, so that with libdsm.a a program keeps its own function of such a name, and so that they do not clash with those
 * of the C library in a static program. */
#undef _FORTIFY_SOURCE
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "interpose/kernel_io.h"

#define EXPORT __attribute__((weak, visibility("default")))

/* glibc's function that terminates a program that overflows a buffer. */
_Noreturn void __chk_fail(void);

EXPORT ssize_t read(int fd, void *buffer, size_t size) {
  return dsm_read(fd, buffer, size);
}

EXPORT ssize_t pread(int fd, void *buffer, size_t size, off_t offset) {
  return dsm_pread(fd, buffer, size, offset);
}

EXPORT ssize_t pread64(int fd, void *buffer, size_t size, off64_t offset) {
  return dsm_pread(fd, buffer, size, offset);
}

EXPORT ssize_t readv(int fd, const struct iovec *buffers, int count) {
  return dsm_readv(fd, buffers, count);
}

EXPORT ssize_t recv(int fd, void *buffer, size_t size, int flags) {
  return dsm_recv(fd, buffer, size, flags);
}

EXPORT ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *address, socklen_t *length) {
  return dsm_recvfrom(fd, buffer, size, flags, address, length);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
  return dsm_recvmsg(fd, message, flags);
}

EXPORT ssize_t getrandom(void *buffer, size_t size, unsigned flags) {
  return dsm_getrandom(buffer, size, flags);
}

/* In parentheses, because these names may also be macros. */
EXPORT size_t(fread)(void *buffer, size_t size, size_t count, FILE *file) {
  return dsm_fread(buffer, size, count, file);
}

EXPORT size_t(fread_unlocked)(void *buffer, size_t size, size_t count, FILE *file) {
  return dsm_fread_unlocked(buffer, size, count, file);
}

/* ---- the variants that -D_FORTIFY_SOURCE calls; `room` is the known size of the buffer ---- */

EXPORT ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room) {
  if (size > room) __chk_fail();
  return dsm_read(fd, buffer, size);
}

EXPORT ssize_t __pread_chk(int fd, void *buffer, size_t size, off_t offset, size_t room) {
  if (size > room) __chk_fail();
  return dsm_pread(fd, buffer, size, offset);
}

EXPORT ssize_t __pread64_chk(int fd, void *buffer, size_t size, off64_t offset, size_t room) {
  if (size > room) __chk_fail();
  return dsm_pread(fd, buffer, size, offset);
}

EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags) {
  if (size > room) __chk_fail();
  return dsm_recv(fd, buffer, size, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buffer, size_t size, size_t room, int flags, struct sockaddr *address,
                              socklen_t *length) {
  if (size > room) __chk_fail();
  return dsm_recvfrom(fd, buffer, size, flags, address, length);
}

EXPORT size_t __fread_chk(void *buffer, size_t room, size_t size, size_t count, FILE *file) {
  size_t bytes;
  if (__builtin_mul_overflow(size, count, &bytes) || bytes > room) __chk_fail();
  return dsm_fread(buffer, size, count, file);
}

EXPORT size_t __fread_unlocked_chk(void *buffer, size_t room, size_t size, size_t count, FILE *file) {
  size_t bytes;
  if (__builtin_mul_overflow(size, count, &bytes) || bytes > room) __chk_fail();
  return dsm_fread_unlocked(buffer, size, count, file);
}
