/* read() and its relatives into the map.
 *
 * The kernel does not trap: a write to the read-only pages of the map fails with EFAULT. So one vectored system call
 * reads into scratch buffers for the parts that lie in the map, and directly into the other parts; the bytes in scratch
 * are then published like any store. A call without a buffer in the map goes to the real call, at the cost of a
 * comparison.
 *
 * All functions here may be called in signal handlers: they allocate nothing and take no lock. */
#define _GNU_SOURCE
#include "interpose/kernel_io.h"

#include <errno.h>
#include <stdalign.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "interpose/buffers.h"
#include "interpose/real_calls.h"
#include "trap/region.h"

#define CONTROL_BYTES_MAX 2048u /* of control messages read into the map; the kernel truncates longer ones */

enum kind { KIND_READ, KIND_PREAD, KIND_RECEIVE };

struct call {
  enum kind kind;
  int fd;
  int flags;              /* KIND_RECEIVE */
  off_t offset;           /* KIND_PREAD */
  struct msghdr *message; /* KIND_RECEIVE; its buffers are replaced */
};

static ssize_t perform(const struct call *call, struct iovec *parts, unsigned count, size_t done) {
  off_t offset = call->offset + (off_t)done;
  switch (call->kind) {
    case KIND_READ:
      return count == 1 ? real_reads.read(call->fd, parts->iov_base, parts->iov_len)
                        : real_reads.readv(call->fd, parts, (int)count);
    case KIND_PREAD:
      return count == 1 ? real_reads.pread(call->fd, parts->iov_base, parts->iov_len, offset)
                        : preadv(call->fd, parts, (int)count, offset);
    default:
      call->message->msg_iov = parts;
      call->message->msg_iovlen = count;
      return real_reads.recvmsg(call->fd, call->message, call->flags);
  }
}

/* Returns how many bytes for the map one system call should read, of `inside` requested. *again: further calls read the
 * rest. A file gives all that is requested; a stream may give less; a message loses the bytes that do not fit. */
static size_t bytes_at_once(const struct call *call, size_t inside, bool *again) {
  struct stat status;
  int type;
  socklen_t length = sizeof(type);
  *again = false;
  if (inside <= BOUNCE_BYTES) return inside;
  if (syscall(SYS_fstat, call->fd, &status) != 0) return BOUNCE_BYTES;
  *again = S_ISREG(status.st_mode) || S_ISBLK(status.st_mode);
  bool whole = S_ISSOCK(status.st_mode) &&
               (getsockopt(call->fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_STREAM ||
                (call->kind == KIND_RECEIVE && (call->flags & MSG_WAITALL) != 0));
  return whole ? inside : BOUNCE_BYTES;
}

/* Makes the call with buffers of which `inside` bytes are in the map, divided into that many parts. */
static ssize_t read_into_map(const struct call *call, const struct iovec *buffers, size_t count, size_t inside,
                             size_t parts_needed) {
  struct small_scratch small;
  struct scratch scratch;
  bool again;
  int saved_errno = errno;
  size_t bytes = bytes_at_once(call, inside, &again), done = 0;
  if (parts_needed > PARTS_MAX) {
    if (call->kind == KIND_RECEIVE) {
      errno = EMSGSIZE; /* the error of the kernel for too many buffers */
      return -1;
    }
    parts_needed = PARTS_MAX; /* a short read */
  }
  if (scratch_claim(&scratch, &small, bytes, (unsigned)parts_needed) != 0) return -1;
  ssize_t result = 0;
  for (;;) {
    size_t total;
    unsigned parts = buffers_divide(&scratch, buffers, count, done, &total);
    if (parts == 0 && done > 0) break;
    ssize_t got = perform(call, scratch.parts, parts, done);
    if (got < 0) {
      result = done > 0 ? (ssize_t)done : -1;
      break;
    }
    if (buffers_publish(&scratch, parts, (size_t)got) != 0) {
      result = -1;
      break;
    }
    done += (size_t)got;
    result = call->kind == KIND_RECEIVE ? got : (ssize_t)done; /* with MSG_TRUNC `got` is the message's length */
    if (!again || (size_t)got < total) break;
  }
  scratch_release(&scratch);
  if (result >= 0) errno = saved_errno;
  return result;
}

ssize_t dsm_read(int fd, void *buffer, size_t size) {
  if (__builtin_expect(!dsm_regions_near(buffer, size), 1)) return real_reads.read(fd, buffer, size);
  struct iovec all = {buffer, size};
  size_t inside, parts;
  buffers_survey(&all, 1, &inside, &parts);
  if (inside == 0) return real_reads.read(fd, buffer, size);
  return read_into_map(&(struct call){.kind = KIND_READ, .fd = fd}, &all, 1, inside, parts);
}

ssize_t dsm_pread(int fd, void *buffer, size_t size, int64_t offset) {
  if (__builtin_expect(!dsm_regions_near(buffer, size), 1)) return real_reads.pread(fd, buffer, size, offset);
  struct iovec all = {buffer, size};
  size_t inside, parts;
  buffers_survey(&all, 1, &inside, &parts);
  if (inside == 0) return real_reads.pread(fd, buffer, size, offset);
  return read_into_map(&(struct call){.kind = KIND_PREAD, .fd = fd, .offset = offset}, &all, 1, inside, parts);
}

/* Returns whether this process has had a map: if not, lists of buffers need no check. */
static bool any_map(void) {
  return __builtin_expect(__atomic_load_n(&dsm_regions_high, __ATOMIC_RELAXED) != 0, 0);
}

ssize_t dsm_readv(int fd, const struct iovec *buffers, int count) {
  size_t inside, parts;
  if (!any_map() || count < 0 || !buffers_survey(buffers, (size_t)count, &inside, &parts) || inside == 0) {
    return real_reads.readv(fd, buffers, count);
  }
  return read_into_map(&(struct call){.kind = KIND_READ, .fd = fd}, buffers, (size_t)count, inside, parts);
}

/* Makes recvmsg into *message: some of its buffers are in the map, but not the struct itself. */
static ssize_t receive(int fd, struct msghdr *message, int flags, size_t inside, size_t parts) {
  struct msghdr own = *message;
  struct sockaddr_storage name;
  alignas(16) uint8_t control[CONTROL_BYTES_MAX];
  bool name_inside = in_map(message->msg_name, message->msg_namelen);
  bool control_inside = in_map(message->msg_control, message->msg_controllen);
  if (name_inside) {
    own.msg_name = &name;
    if (own.msg_namelen > sizeof(name)) own.msg_namelen = sizeof(name);
  }
  if (control_inside) {
    own.msg_control = control;
    if (own.msg_controllen > sizeof(control)) own.msg_controllen = sizeof(control);
  }
  ssize_t got = read_into_map(&(struct call){.kind = KIND_RECEIVE, .fd = fd, .flags = flags, .message = &own},
                              message->msg_iov, message->msg_iovlen, inside, parts);
  if (got < 0) return got;
  size_t name_length = own.msg_namelen < message->msg_namelen ? own.msg_namelen : message->msg_namelen;
  if ((name_inside && dsm_region_write((uintptr_t)message->msg_name, &name, name_length) != 0) ||
      (control_inside && dsm_region_write((uintptr_t)message->msg_control, control, own.msg_controllen) != 0)) {
    errno = EIO;
    return -1;
  }
  message->msg_namelen = own.msg_namelen;
  message->msg_controllen = own.msg_controllen;
  message->msg_flags = own.msg_flags;
  return got;
}

ssize_t dsm_recvmsg(int fd, struct msghdr *message, int flags) {
  struct msghdr given;
  size_t inside, parts;
  if (!any_map() || stack_in_map() || !buffers_fetch(&given, message, sizeof(given)) ||
      !buffers_survey(given.msg_iov, given.msg_iovlen, &inside, &parts) ||
      (inside == 0 && !in_map(given.msg_name, given.msg_namelen) && !in_map(given.msg_control, given.msg_controllen) &&
       !in_map(message, sizeof(*message)))) {
    return real_reads.recvmsg(fd, message, flags);
  }
  ssize_t got = receive(fd, &given, flags, inside, parts);
  if (got >= 0) { /* if they are in the map, these stores are captured */
    message->msg_namelen = given.msg_namelen;
    message->msg_controllen = given.msg_controllen;
    message->msg_flags = given.msg_flags;
  }
  return got;
}

ssize_t dsm_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *address, unsigned *length) {
  socklen_t given = 0;
  if (__builtin_expect(!dsm_regions_near(buffer, size) && !dsm_regions_near(length, sizeof(*length)), 1) &&
      !dsm_regions_near(address, sizeof(struct sockaddr_storage))) {
    return real_reads.recvfrom(fd, buffer, size, flags, address, length);
  }
  struct iovec all = {buffer, size};
  size_t inside, parts;
  buffers_survey(&all, 1, &inside, &parts);
  if (stack_in_map() || (address != NULL && !buffers_fetch(&given, length, sizeof(given))) ||
      (inside == 0 && !in_map(address, given) && !(address != NULL && in_map(length, sizeof(given))))) {
    return real_reads.recvfrom(fd, buffer, size, flags, address, length);
  }
  struct msghdr message = {.msg_name = address, .msg_namelen = given, .msg_iov = &all, .msg_iovlen = 1};
  ssize_t got = receive(fd, &message, flags, inside, parts);
  if (got >= 0 && address != NULL) *length = message.msg_namelen;
  return got;
}

ssize_t dsm_recv(int fd, void *buffer, size_t size, int flags) {
  if (__builtin_expect(!dsm_regions_near(buffer, size), 1)) return real_reads.recv(fd, buffer, size, flags);
  return dsm_recvfrom(fd, buffer, size, flags, NULL, NULL);
}

ssize_t dsm_getrandom(void *buffer, size_t size, unsigned flags) {
  if (__builtin_expect(!in_map(buffer, size), 1)) return real_reads.getrandom(buffer, size, flags);
  struct iovec all = {buffer, size};
  struct small_scratch small;
  struct scratch scratch;
  int saved_errno = errno;
  size_t done = 0;
  if (scratch_claim(&scratch, &small, size < BOUNCE_BYTES ? size : BOUNCE_BYTES, 3) != 0) return -1;
  ssize_t result = 0;
  while (done < size && result >= 0) {
    size_t total;
    if (buffers_divide(&scratch, &all, 1, done, &total) == 0) break;
    ssize_t got = real_reads.getrandom(scratch.parts->iov_base, scratch.parts->iov_len, flags);
    if (got < 0) break;
    if (buffers_publish(&scratch, 1, (size_t)got) != 0) result = -1;
    done += (size_t)got;
    if ((size_t)got < scratch.parts->iov_len) break;
  }
  scratch_release(&scratch);
  if (result < 0 || done == 0) return -1;
  errno = saved_errno;
  return (ssize_t)done;
}
