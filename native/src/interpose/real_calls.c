#define _GNU_SOURCE
#include "interpose/real_calls.h"

#include <stddef.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/next.h"

static ssize_t system_read(int fd, void *buffer, size_t size) {
  return syscall(SYS_read, fd, buffer, size);
}

static ssize_t system_pread(int fd, void *buffer, size_t size, off_t offset) {
  return syscall(SYS_pread64, fd, buffer, size, offset);
}

static ssize_t system_readv(int fd, const struct iovec *parts, int count) {
  return syscall(SYS_readv, fd, parts, count);
}

static ssize_t system_recv(int fd, void *buffer, size_t size, int flags) {
  return syscall(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);
}

static ssize_t system_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *address,
                               socklen_t *length) {
  return syscall(SYS_recvfrom, fd, buffer, size, flags, address, length);
}

static ssize_t system_recvmsg(int fd, struct msghdr *message, int flags) {
  return syscall(SYS_recvmsg, fd, message, flags);
}

static ssize_t system_getrandom(void *buffer, size_t size, unsigned flags) {
  return syscall(SYS_getrandom, buffer, size, flags);
}

static size_t system_fread_unlocked(void *buffer, size_t size, size_t count, FILE *file) {
  return size == 0 ? 0 : _IO_sgetn(file, buffer, size * count) / size;
}

static size_t system_fread(void *buffer, size_t size, size_t count, FILE *file) {
  flockfile(file);
  size_t got = system_fread_unlocked(buffer, size, count, file);
  funlockfile(file);
  return got;
}

struct real_calls real_reads = {system_read,    system_pread,     system_readv, system_recv,          system_recvfrom,
                                system_recvmsg, system_getrandom, system_fread, system_fread_unlocked};

__attribute__((constructor)) static void find_real_calls(void) {
  dsm_find_next(&real_reads.read, "read");
  dsm_find_next(&real_reads.pread, "pread64");
  dsm_find_next(&real_reads.readv, "readv");
  dsm_find_next(&real_reads.recv, "recv");
  dsm_find_next(&real_reads.recvfrom, "recvfrom");
  dsm_find_next(&real_reads.recvmsg, "recvmsg");
  dsm_find_next(&real_reads.getrandom, "getrandom");
  dsm_find_next(&real_reads.fread, "fread");
  dsm_find_next(&real_reads.unlocked_fread, "fread_unlocked");
}
