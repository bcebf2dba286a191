/* The real functions behind the reading calls that libdsm interposes. */
#ifndef DSM_REAL_CALLS_H
#define DSM_REAL_CALLS_H

#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

size_t _IO_sgetn(FILE *file, void *buffer, size_t size); /* fread_unlocked of bytes, in every glibc, without its name */

/* The functions that the calls would reach without libdsm: those of the C library, a sanitizer or another preloaded
 * library. Until the constructor has run, and in a static program, they are raw system calls (which differ in that a
 * thread waiting in them cannot be cancelled). */
struct real_calls {
  ssize_t (*read)(int, void *, size_t);
  ssize_t (*pread)(int, void *, size_t, off_t);
  ssize_t (*readv)(int, const struct iovec *, int);
  ssize_t (*recv)(int, void *, size_t, int);
  ssize_t (*recvfrom)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
  ssize_t (*recvmsg)(int, struct msghdr *, int);
  ssize_t (*getrandom)(void *, size_t, unsigned);
  size_t (*fread)(void *, size_t, size_t, FILE *);
  size_t (*unlocked_fread)(void *, size_t, size_t, FILE *);
};

#pragma GCC visibility push(hidden)
extern struct real_calls real_reads;
#pragma GCC visibility pop

#endif
