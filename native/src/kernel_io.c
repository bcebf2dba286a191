/* read() and its relatives into the map.
 *
 * The kernel does not trap: asked to write to the map's read-only pages it answers EFAULT. So it is given other buffers
 * for the parts that lie in the map, by one vectored system call that leaves the other parts where they are, and what
 * it put there is then published like any store. Everything that is not in the map goes straight to the real call, for
 * the price of a comparison.
 *
 * All of it may be called in signal handlers, but for dsm_fread: nothing is allocated, no lock is taken. */
#define _GNU_SOURCE
#include "kernel_io.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "capture.h"
#include "next.h"
#include "region.h"

#define BOUNCE_BYTES DSM_STORE_BYTES_MAX /* of the map in one system call, unless a message has to come whole */
#define PARTS_MAX 1024u                  /* the kernel's limit (IOV_MAX) */
#define CONTROL_BYTES_MAX 2048u          /* of control messages read into the map; the kernel cuts off the rest */

/* ---- the real calls ---- */

size_t _IO_sgetn(FILE *file, void *buffer, size_t size); /* fread_unlocked of bytes, in every glibc, without its name */

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

/* What the calls are where libdsm does not stand in front of them: the C library's, or those of a sanitizer or another
 * preloaded library. Until the constructor has run, and in a static program, the system's own (which differ in that a
 * thread waiting in them cannot be cancelled). */
static struct {
  ssize_t (*read)(int, void *, size_t);
  ssize_t (*pread)(int, void *, size_t, off_t);
  ssize_t (*readv)(int, const struct iovec *, int);
  ssize_t (*recv)(int, void *, size_t, int);
  ssize_t (*recvfrom)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
  ssize_t (*recvmsg)(int, struct msghdr *, int);
  ssize_t (*getrandom)(void *, size_t, unsigned);
  size_t (*fread)(void *, size_t, size_t, FILE *);
  size_t (*unlocked_fread)(void *, size_t, size_t, FILE *);
} real = {system_read,    system_pread,     system_readv, system_recv,          system_recvfrom,
          system_recvmsg, system_getrandom, system_fread, system_fread_unlocked};

__attribute__((constructor)) static void find_real_calls(void) {
  dsm_find_next(&real.read, "read");
  dsm_find_next(&real.pread, "pread64");
  dsm_find_next(&real.readv, "readv");
  dsm_find_next(&real.recv, "recv");
  dsm_find_next(&real.recvfrom, "recvfrom");
  dsm_find_next(&real.recvmsg, "recvmsg");
  dsm_find_next(&real.getrandom, "getrandom");
  dsm_find_next(&real.fread, "fread");
  dsm_find_next(&real.unlocked_fread, "fread_unlocked");
}

/* ---- memory to read into ---- */

/* What the kernel is given: parts outside the map are the program's own, for the others there are bytes here. */
struct scratch {
  uint8_t *bytes;
  struct iovec *parts;
  uintptr_t *places; /* where the part belongs in the map, 0 if it is outside */
  size_t bytes_max;
  unsigned parts_max;
  int slot;       /* -1: none */
  void *mapping;  /* NULL: none */
  size_t mapped;
};

/* Enough for most, and on the stack. The alignment is for files opened with O_DIRECT. */
struct small_scratch {
  alignas(512) uint8_t bytes[1024];
  struct iovec parts[4];
  uintptr_t places[4];
};

#define PART_BYTES (sizeof(struct iovec) + sizeof(uintptr_t))
#define SLOTS 16
#define SLOT_BYTES (BOUNCE_BYTES + PARTS_MAX * PART_BYTES)

/* Slots of larger scratch. Each belongs to a thread while that reads, and stays with one that was cancelled there, or
 * jumped out of a signal handler, until it has ended and its slot is needed. */
static uint8_t *slots;
static uint32_t slot_owners[SLOTS]; /* thread ids; 0: free */

static int claim_slot(void) {
  uint8_t *all = __atomic_load_n(&slots, __ATOMIC_ACQUIRE);
  if (all == NULL) {
    void *fresh = mmap(NULL, SLOTS * SLOT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1, 0);
    if (fresh == MAP_FAILED) return -1;
    if (!__atomic_compare_exchange_n(&slots, &all, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      munmap(fresh, SLOTS * SLOT_BYTES);
    }
  }
  uint32_t self = (uint32_t)dsm_syscall(SYS_gettid, 0, 0, 0, 0);
  for (int i = 0; i < SLOTS; i++) {
    uint32_t none = 0;
    if (__atomic_compare_exchange_n(&slot_owners[i], &none, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return i;
  }
  for (int i = 0; i < SLOTS; i++) {
    uint32_t owner = __atomic_load_n(&slot_owners[i], __ATOMIC_RELAXED);
    if (owner != 0 && owner != self && dsm_syscall(SYS_tgkill, getpid(), owner, 0, 0) == -ESRCH &&
        __atomic_compare_exchange_n(&slot_owners[i], &owner, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      return i;
    }
  }
  return -1;
}

/* Room for that many bytes and parts. 0, or -1 with errno. */
static int scratch_claim(struct scratch *s, struct small_scratch *small, size_t bytes, unsigned parts) {
  *s = (struct scratch){.bytes = small->bytes, .parts = small->parts, .places = small->places,
                        .bytes_max = sizeof(small->bytes), .parts_max = 4, .slot = -1};
  if (bytes <= s->bytes_max && parts <= s->parts_max) return 0;
  s->parts_max = PARTS_MAX;
  if (bytes <= BOUNCE_BYTES && (s->slot = claim_slot()) >= 0) {
    s->bytes = slots + (size_t)s->slot * SLOT_BYTES;
    s->bytes_max = BOUNCE_BYTES;
  } else {
    /* Only what arrives costs memory. */
    s->bytes_max = (bytes + 15) & ~(size_t)15;
    s->mapped = s->bytes_max + PARTS_MAX * PART_BYTES;
    s->mapping = mmap(NULL, s->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->mapping == MAP_FAILED) return -1;
    s->bytes = s->mapping;
  }
  s->parts = (struct iovec *)(void *)(s->bytes + s->bytes_max);
  s->places = (uintptr_t *)(void *)(s->parts + PARTS_MAX);
  return 0;
}

static void scratch_release(struct scratch *s) {
  if (s->slot >= 0) __atomic_store_n(&slot_owners[s->slot], 0, __ATOMIC_RELEASE);
  if (s->mapping != NULL) munmap(s->mapping, s->mapped);
}

/* ---- dividing the program's buffers ---- */

/* Copies from memory that may not be there; the kernel, given the same address, says so better. */
static bool fetch(void *to, const void *from, size_t size) {
  struct dsm_guard guard;
  return dsm_guarded_copy_run(to, from, size, &guard) == 0;
}

/* The caller's stack lies in the map, and with it what is kept here meanwhile. Then the kernel has the call as it is: in
 * direct mode it can write there. */
static bool stack_in_map(void) {
  uintptr_t start;
  const void *here = __builtin_frame_address(0);
  return dsm_regions_near(here, 1) && dsm_region_part((uintptr_t)here, 1, &start) > 0;
}

static bool in_map(const void *address, size_t size) {
  uintptr_t start;
  return dsm_regions_near(address, size) && !stack_in_map() && dsm_region_part((uintptr_t)address, size, &start) > 0;
}

/* How much of the buffers is in the map, and into how many parts its edges divide them. False: the kernel will say. */
static bool survey(const struct iovec *buffers, size_t count, size_t *inside, size_t *parts) {
  *inside = *parts = 0;
  if (count > PARTS_MAX || stack_in_map()) return false;
  for (size_t i = 0; i < count; i++) {
    struct iovec buffer;
    if (!fetch(&buffer, buffers + i, sizeof(buffer))) return false;
    uintptr_t at = (uintptr_t)buffer.iov_base, end = at + buffer.iov_len, start;
    ++*parts;
    while (dsm_regions_near((void *)at, end - at)) {
      size_t length = dsm_region_part(at, end - at, &start);
      if (length == 0) break;
      *inside += length;
      *parts += 2;
      at = start + length;
    }
  }
  return true;
}

/* Fills in the parts for the buffers, from byte `skip` of them on. Returns how many; *total is their length. */
static unsigned divide(struct scratch *s, const struct iovec *buffers, size_t count, size_t skip, size_t *total) {
  unsigned parts = 0;
  size_t used = 0;
  *total = 0;
  for (size_t i = 0; i < count; i++) {
    struct iovec buffer;
    if (!fetch(&buffer, buffers + i, sizeof(buffer))) break;
    size_t skipped = skip < buffer.iov_len ? skip : buffer.iov_len;
    uintptr_t at = (uintptr_t)buffer.iov_base + skipped, end = at + (buffer.iov_len - skipped);
    skip -= skipped;
    while (at < end) {
      if (parts == s->parts_max) return parts;
      uintptr_t start;
      size_t inside = dsm_region_part(at, end - at, &start), length = start - at;
      s->places[parts] = 0;
      s->parts[parts].iov_base = (void *)at;
      if (inside > 0 && start == at) {
        length = inside < s->bytes_max - used ? inside : s->bytes_max - used;
        if (length == 0) return parts;
        s->places[parts] = at;
        s->parts[parts].iov_base = s->bytes + used;
        used += length;
      }
      s->parts[parts++].iov_len = length;
      *total += length;
      at += length;
    }
  }
  return parts;
}

/* Publishes the first `size` bytes of what the parts got. 0, or -1 with errno EIO. */
static int publish(const struct scratch *s, unsigned parts, size_t size) {
  for (unsigned i = 0; i < parts && size > 0; i++) {
    size_t length = s->parts[i].iov_len < size ? s->parts[i].iov_len : size;
    if (s->places[i] != 0 && dsm_region_write(s->places[i], s->parts[i].iov_base, length) != 0) {
      errno = EIO;
      return -1;
    }
    size -= length;
  }
  return 0;
}

/* ---- reading ---- */

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
      return count == 1 ? real.read(call->fd, parts->iov_base, parts->iov_len)
                        : real.readv(call->fd, parts, (int)count);
    case KIND_PREAD:
      return count == 1 ? real.pread(call->fd, parts->iov_base, parts->iov_len, offset)
                        : preadv(call->fd, parts, (int)count, offset);
    default:
      call->message->msg_iov = parts;
      call->message->msg_iovlen = count;
      return real.recvmsg(call->fd, call->message, call->flags);
  }
}

/* How many bytes for the map one system call is to bring, where `inside` are wanted. *again: more calls are to bring
 * the rest. A file gives all it is asked for; streams may give less; a message would lose what it has no room for. */
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

/* The call into buffers of which `inside` bytes are in the map, in so many parts. */
static ssize_t read_into_map(const struct call *call, const struct iovec *buffers, size_t count, size_t inside,
                             size_t parts_needed) {
  struct small_scratch small;
  struct scratch scratch;
  bool again;
  int saved_errno = errno;
  size_t bytes = bytes_at_once(call, inside, &again), done = 0;
  if (parts_needed > PARTS_MAX) {
    if (call->kind == KIND_RECEIVE) {
      errno = EMSGSIZE; /* what the kernel says to too many buffers */
      return -1;
    }
    parts_needed = PARTS_MAX; /* a short read */
  }
  if (scratch_claim(&scratch, &small, bytes, (unsigned)parts_needed) != 0) return -1;
  ssize_t result = 0;
  for (;;) {
    size_t total;
    unsigned parts = divide(&scratch, buffers, count, done, &total);
    if (parts == 0 && done > 0) break;
    ssize_t got = perform(call, scratch.parts, parts, done);
    if (got < 0) {
      result = done > 0 ? (ssize_t)done : -1;
      break;
    }
    if (publish(&scratch, parts, (size_t)got) != 0) {
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
  if (__builtin_expect(!dsm_regions_near(buffer, size), 1)) return real.read(fd, buffer, size);
  struct iovec all = {buffer, size};
  size_t inside, parts;
  survey(&all, 1, &inside, &parts);
  if (inside == 0) return real.read(fd, buffer, size);
  return read_into_map(&(struct call){.kind = KIND_READ, .fd = fd}, &all, 1, inside, parts);
}

ssize_t dsm_pread(int fd, void *buffer, size_t size, int64_t offset) {
  if (__builtin_expect(!dsm_regions_near(buffer, size), 1)) return real.pread(fd, buffer, size, offset);
  struct iovec all = {buffer, size};
  size_t inside, parts;
  survey(&all, 1, &inside, &parts);
  if (inside == 0) return real.pread(fd, buffer, size, offset);
  return read_into_map(&(struct call){.kind = KIND_PREAD, .fd = fd, .offset = offset}, &all, 1, inside, parts);
}

/* Whether there has been a map: only then are lists of buffers looked at. */
static bool any_map(void) {
  return __builtin_expect(__atomic_load_n(&dsm_regions_high, __ATOMIC_RELAXED) != 0, 0);
}

ssize_t dsm_readv(int fd, const struct iovec *buffers, int count) {
  size_t inside, parts;
  if (!any_map() || count < 0 || !survey(buffers, (size_t)count, &inside, &parts) || inside == 0) {
    return real.readv(fd, buffers, count);
  }
  return read_into_map(&(struct call){.kind = KIND_READ, .fd = fd}, buffers, (size_t)count, inside, parts);
}

/* recvmsg into *message, of which something is in the map but not the struct itself. */
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
  if (!any_map() || stack_in_map() || !fetch(&given, message, sizeof(given)) ||
      !survey(given.msg_iov, given.msg_iovlen, &inside, &parts) ||
      (inside == 0 && !in_map(given.msg_name, given.msg_namelen) && !in_map(given.msg_control, given.msg_controllen) &&
       !in_map(message, sizeof(*message)))) {
    return real.recvmsg(fd, message, flags);
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
    return real.recvfrom(fd, buffer, size, flags, address, length);
  }
  struct iovec all = {buffer, size};
  size_t inside, parts;
  survey(&all, 1, &inside, &parts);
  if (stack_in_map() || (address != NULL && !fetch(&given, length, sizeof(given))) ||
      (inside == 0 && !in_map(address, given) && !(address != NULL && in_map(length, sizeof(given))))) {
    return real.recvfrom(fd, buffer, size, flags, address, length);
  }
  struct msghdr message = {.msg_name = address, .msg_namelen = given, .msg_iov = &all, .msg_iovlen = 1};
  ssize_t got = receive(fd, &message, flags, inside, parts);
  if (got >= 0 && address != NULL) *length = message.msg_namelen;
  return got;
}

ssize_t dsm_recv(int fd, void *buffer, size_t size, int flags) {
  if (__builtin_expect(!dsm_regions_near(buffer, size), 1)) return real.recv(fd, buffer, size, flags);
  return dsm_recvfrom(fd, buffer, size, flags, NULL, NULL);
}

ssize_t dsm_getrandom(void *buffer, size_t size, unsigned flags) {
  if (__builtin_expect(!in_map(buffer, size), 1)) return real.getrandom(buffer, size, flags);
  struct iovec all = {buffer, size};
  struct small_scratch small;
  struct scratch scratch;
  int saved_errno = errno;
  size_t done = 0;
  if (scratch_claim(&scratch, &small, size < BOUNCE_BYTES ? size : BOUNCE_BYTES, 3) != 0) return -1;
  ssize_t result = 0;
  while (done < size && result >= 0) {
    size_t total;
    if (divide(&scratch, &all, 1, done, &total) == 0) break;
    ssize_t got = real.getrandom(scratch.parts->iov_base, scratch.parts->iov_len, flags);
    if (got < 0) break;
    if (publish(&scratch, 1, (size_t)got) != 0) result = -1;
    done += (size_t)got;
    if ((size_t)got < scratch.parts->iov_len) break;
  }
  scratch_release(&scratch);
  if (result < 0 || done == 0) return -1;
  errno = saved_errno;
  return (ssize_t)done;
}

/* ---- stdio ---- */

/* Reads bytes, some of them into the map, from a locked file. */
static size_t read_file(uint8_t *buffer, size_t size, FILE *file) {
  struct iovec all = {buffer, size};
  struct small_scratch small;
  struct scratch scratch;
  size_t done = 0;
  if (scratch_claim(&scratch, &small, size < BOUNCE_BYTES ? size : BOUNCE_BYTES, 3) != 0) {
    file->_flags |= _IO_ERR_SEEN;
    return 0;
  }
  while (done < size) {
    size_t total;
    if (divide(&scratch, &all, 1, done, &total) == 0) break;
    size_t got = _IO_sgetn(file, scratch.parts->iov_base, scratch.parts->iov_len);
    if (publish(&scratch, 1, got) != 0) {
      file->_flags |= _IO_ERR_SEEN;
      break;
    }
    done += got;
    if (got < scratch.parts->iov_len) break;
  }
  scratch_release(&scratch);
  return done;
}

size_t dsm_fread_unlocked(void *buffer, size_t size, size_t count, FILE *file) {
  size_t bytes;
  if (__builtin_expect(__builtin_mul_overflow(size, count, &bytes) || !in_map(buffer, bytes), 1)) {
    return real.unlocked_fread(buffer, size, count, file);
  }
  int cancellable;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable); /* a cancelled thread would leave the file locked */
  size_t got = read_file(buffer, bytes, file);
  pthread_setcancelstate(cancellable, NULL);
  return got == bytes ? count : got / size;
}

size_t dsm_fread(void *buffer, size_t size, size_t count, FILE *file) {
  size_t bytes;
  if (__builtin_expect(__builtin_mul_overflow(size, count, &bytes) || !in_map(buffer, bytes), 1)) {
    return real.fread(buffer, size, count, file);
  }
  int cancellable;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
  flockfile(file);
  size_t got = dsm_fread_unlocked(buffer, size, count, file);
  funlockfile(file);
  pthread_setcancelstate(cancellable, NULL);
  return got;
}
