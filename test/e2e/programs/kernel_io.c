/* read() and its relatives into the map. `kernel_io CASE FORM`: rank 0 does the case with the calls of one form (plain,
 * dsm: dsm_read() ..., fortified: __read_chk() ...) and keeps in private memory what the map is to hold then; it checks
 * its own node's map against that. Every process prints one hash: rank 0 of what is to be, the others of what they see.
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static dsm_session *session;
static uint8_t *map, *model;
static size_t size;

/* ---- the forms ---- */

ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room);
ssize_t __pread_chk(int fd, void *buffer, size_t size, off_t offset, size_t room);
ssize_t __pread64_chk(int fd, void *buffer, size_t size, off64_t offset, size_t room);
ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *buffer, size_t size, size_t room, int flags, struct sockaddr *from,
                       socklen_t *length);
size_t __fread_chk(void *buffer, size_t room, size_t size, size_t count, FILE *file);
size_t __fread_unlocked_chk(void *buffer, size_t room, size_t size, size_t count, FILE *file);

static ssize_t fortified_read(int fd, void *buffer, size_t n) {
  return __read_chk(fd, buffer, n, n);
}
static ssize_t fortified_pread(int fd, void *buffer, size_t n, off_t offset) {
  return __pread_chk(fd, buffer, n, offset, n);
}
static ssize_t fortified_pread64(int fd, void *buffer, size_t n, off64_t offset) {
  return __pread64_chk(fd, buffer, n, offset, n);
}
static ssize_t fortified_recv(int fd, void *buffer, size_t n, int flags) {
  return __recv_chk(fd, buffer, n, n, flags);
}
static ssize_t fortified_recvfrom(int fd, void *buffer, size_t n, int flags, struct sockaddr *from,
                                  socklen_t *length) {
  return __recvfrom_chk(fd, buffer, n, n, flags, from, length);
}
static size_t fortified_fread(void *buffer, size_t each, size_t count, FILE *file) {
  return __fread_chk(buffer, each * count, each, count, file);
}
static size_t fortified_fread_unlocked(void *buffer, size_t each, size_t count, FILE *file) {
  return __fread_unlocked_chk(buffer, each * count, each, count, file);
}

struct form {
  const char *name;
  ssize_t (*read)(int, void *, size_t);
  ssize_t (*pread)(int, void *, size_t, off_t);
  ssize_t (*pread64)(int, void *, size_t, off64_t);
  ssize_t (*readv)(int, const struct iovec *, int);
  ssize_t (*recv)(int, void *, size_t, int);
  ssize_t (*recvfrom)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
  ssize_t (*recvmsg)(int, struct msghdr *, int);
  size_t (*fread)(void *, size_t, size_t, FILE *);
  size_t (*unlocked_fread)(void *, size_t, size_t, FILE *);
};
static const struct form forms[] = {
    {"plain", read, pread, pread64, readv, recv, recvfrom, recvmsg, fread, fread_unlocked},
    {"dsm", dsm_read, dsm_pread, dsm_pread, dsm_readv, dsm_recv, dsm_recvfrom, dsm_recvmsg, fread, fread_unlocked},
    {"fortified", fortified_read, fortified_pread, fortified_pread64, readv, fortified_recv, fortified_recvfrom,
     recvmsg, fortified_fread, fortified_fread_unlocked},
};
static struct form call;

/* ---- what is read ---- */

#define FILE_BYTES (3u << 20)
static uint8_t *content;

static void make_content(void) {
  uint64_t state = 88172645463325252ull;
  content = malloc(FILE_BYTES);
  CHECK(content != NULL);
  for (size_t i = 0; i < FILE_BYTES; i++) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    content[i] = (uint8_t)(state >> 24);
  }
}

/* An unnamed file with the content, at its start. */
static int content_file(void) {
  int fd = memfd_create("content", 0);
  CHECK(fd >= 0 && write(fd, content, FILE_BYTES) == FILE_BYTES && lseek(fd, 0, SEEK_SET) == 0);
  return fd;
}

static void expect_bytes(size_t offset, size_t from, size_t count) {
  memcpy(model + offset, content + from, count);
}

static void check_map(void) {
  for (size_t i = 0; i < size; i++) {
    if (map[i] == model[i]) continue;
    fprintf(stderr, "byte %zu of the map is %d, not %d\n", i, map[i], model[i]);
    exit(1);
  }
}

static void pair(int type, int ends[2]) {
  CHECK(socketpair(AF_UNIX, type, 0, ends) == 0);
  int room = 1 << 20;
  setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

/* ---- the cases ---- */

static void file(void) {
  static const size_t sizes[] = {1, 2, 7, 8, 100, 1024, 1025, 4096, 5000, 65536, 65537, 300000};
  int fd = content_file();
  size_t position = 0, offset = 13;
  for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    errno = 77;
    CHECK(call.read(fd, map + offset, sizes[i]) == (ssize_t)sizes[i]);
    CHECK(errno == 77);
    expect_bytes(offset, position, sizes[i]);
    position += sizes[i];
    offset += sizes[i] + 11;
    CHECK(lseek(fd, 0, SEEK_CUR) == (off_t)position);
  }
  CHECK(call.pread(fd, map + 4090, 20, 1000) == 20);
  expect_bytes(4090, 1000, 20);
  CHECK(call.pread64(fd, map + 8000, 200000, 70000) == 200000);
  expect_bytes(8000, 70000, 200000);
  CHECK(lseek(fd, 0, SEEK_CUR) == (off_t)position);

  /* To the end of the file, and at it. */
  CHECK(call.pread(fd, map + 300000, 1000, FILE_BYTES - 10) == 10);
  expect_bytes(300000, FILE_BYTES - 10, 10);
  CHECK(call.pread(fd, map + 400000, 200000, FILE_BYTES - 100000) == 100000);
  expect_bytes(400000, FILE_BYTES - 100000, 100000);
  CHECK(call.pread(fd, map + 300000, 1000, FILE_BYTES) == 0);
  CHECK(call.read(fd, map, 0) == 0);

  uint8_t private[3][100];
  struct iovec buffers[] = {{private[0], 100}, {map + 700000, 3}, {private[1], 50},  {map + 700010, 70000},
                            {map + 800000, 0}, {private[2], 100}, {map + 790000, 9}};
  CHECK(lseek(fd, 5, SEEK_SET) == 5);
  CHECK(call.readv(fd, buffers, 7) == 100 + 3 + 50 + 70000 + 100 + 9);
  CHECK(memcmp(private[0], content + 5, 100) == 0 && memcmp(private[1], content + 108, 50) == 0);
  CHECK(memcmp(private[2], content + 70158, 100) == 0);
  expect_bytes(700000, 105, 3);
  expect_bytes(700010, 158, 70000);
  expect_bytes(790000, 70258, 9);
  /* The list itself is in the map. */
  struct iovec *shared = (struct iovec *)(void *)(map + 900000);
  *shared = (struct iovec){map + 900100, 40};
  memcpy(model + 900000, map + 900000, sizeof(*shared));
  CHECK(lseek(fd, 0, SEEK_SET) == 0 && call.readv(fd, shared, 1) == 40);
  expect_bytes(900100, 0, 40);
  close(fd);
}

/* 1 MiB in one call. */
static void big(void) {
  int fd = content_file();
  CHECK(lseek(fd, 77, SEEK_SET) == 77);
  CHECK(call.read(fd, map, 1 << 20) == 1 << 20);
  expect_bytes(0, 77, 1 << 20);
  CHECK(lseek(fd, 0, SEEK_CUR) == 77 + (1 << 20));
  close(fd);
}

static void stream(void) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  CHECK(write(ends[1], content, 5000) == 5000);
  CHECK(call.read(ends[0], map + 100, 3000) == 3000);
  expect_bytes(100, 0, 3000);
  CHECK(call.read(ends[0], map + 10000, 3000) == 2000);
  expect_bytes(10000, 3000, 2000);
  close(ends[1]);
  CHECK(call.read(ends[0], map, 10) == 0);
  close(ends[0]);

  pair(SOCK_STREAM, ends);
  CHECK(send(ends[1], content, 9000, 0) == 9000);
  CHECK(call.recv(ends[0], map + 20001, 10, MSG_PEEK) == 10);
  expect_bytes(20001, 0, 10);
  CHECK(call.recv(ends[0], map + 30001, 4000, 0) == 4000);
  expect_bytes(30001, 0, 4000);
  CHECK(call.recvfrom(ends[0], map + 40001, 2000, 0, NULL, NULL) == 2000);
  expect_bytes(40001, 4000, 2000);
  CHECK(call.read(ends[0], map + 50001, 100000) == 3000);
  expect_bytes(50001, 6000, 3000);
  errno = 0;
  CHECK(call.recv(ends[0], map, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);

  /* MSG_WAITALL, beyond what one step carries, while another process sends. */
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    for (size_t sent = 0; sent < 300000;) {
      ssize_t n = send(ends[1], content + sent, 300000 - sent < 1000 ? 300000 - sent : 1000, 0);
      if (n < 0) _exit(1);
      sent += (size_t)n;
    }
    _exit(0);
  }
  CHECK(call.recv(ends[0], map + 100001, 300000, MSG_WAITALL) == 300000);
  expect_bytes(100001, 0, 300000);
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  close(ends[0]);
  close(ends[1]);
}

static void datagram(void) {
  int ends[2];
  pair(SOCK_DGRAM, ends);
  for (int i = 0; i < 6; i++) CHECK(send(ends[1], content + 1000 * i, 1000, 0) == 1000);
  CHECK(call.recv(ends[0], map + 1, 300, 0) == 300); /* cut off; the next call gets the next message */
  expect_bytes(1, 0, 300);
  CHECK(call.recv(ends[0], map + 5000, 300, MSG_TRUNC) == 1000); /* as long as the message was */
  expect_bytes(5000, 1000, 300);
  CHECK(call.recv(ends[0], map + 10000, 4000, 0) == 1000);
  expect_bytes(10000, 2000, 1000);
  CHECK(call.read(ends[0], map + 15000, 999) == 999);
  expect_bytes(15000, 3000, 999);

  struct iovec parts[] = {{map + 20000, 10}, {map + 21000, 20}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  CHECK(call.recvmsg(ends[0], &message, 0) == 30 && (message.msg_flags & MSG_TRUNC) != 0);
  expect_bytes(20000, 4000, 10);
  expect_bytes(21000, 4010, 20);
  message.msg_flags = 0;
  parts[1].iov_len = 5000;
  CHECK(call.recvmsg(ends[0], &message, 0) == 1000 && message.msg_flags == 0);
  expect_bytes(20000, 5000, 10);
  expect_bytes(21000, 5010, 990);

  /* A message longer than one step carries comes whole. */
  CHECK(send(ends[1], content, 150000, 0) == 150000);
  CHECK(call.recv(ends[0], map + 100000, 400000, 0) == 150000);
  expect_bytes(100000, 0, 150000);
  CHECK(send(ends[1], content + 7, 150000, 0) == 150000);
  CHECK(call.read(ends[0], map + 300000, 140000) == 140000);
  expect_bytes(300000, 7, 140000);
  CHECK(call.recv(ends[0], map, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
  close(ends[0]);
  close(ends[1]);
}

/* Buffers here and there; the sender's name, control messages and the struct itself in the map. */
static void messages(void) {
  int receiver = socket(AF_UNIX, SOCK_DGRAM, 0), sender = socket(AF_UNIX, SOCK_DGRAM, 0);
  struct sockaddr_un name = {.sun_family = AF_UNIX}, to = name;
  socklen_t length = sizeof(sa_family_t) + 1 + 20, to_length = sizeof(to);
  snprintf(name.sun_path + 1, 21, "dsm-test-%011d", (int)getpid());
  CHECK(bind(sender, (struct sockaddr *)&name, length) == 0);
  CHECK(bind(receiver, (struct sockaddr *)&to, sizeof(sa_family_t)) == 0);
  CHECK(getsockname(receiver, (struct sockaddr *)&to, &to_length) == 0);
  CHECK(connect(sender, (struct sockaddr *)&to, to_length) == 0);
  for (int i = 0; i < 4; i++) CHECK(send(sender, content, 600, 0) == 600);

  uint8_t private[200];
  struct iovec parts[] = {{map + 100, 100}, {private, 200}, {map + 4000, 200}, {map + 9000, 500}};
  struct sockaddr_un from;
  struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = parts, .msg_iovlen = 4};
  CHECK(call.recvmsg(receiver, &message, 0) == 600);
  expect_bytes(100, 0, 100);
  expect_bytes(4000, 300, 200);
  expect_bytes(9000, 500, 100);
  CHECK(memcmp(private, content + 100, 200) == 0);
  CHECK(message.msg_namelen == length && memcmp(&from, &name, length) == 0);

  /* recvfrom(): name and its length in the map too, and then nothing but the length. */
  socklen_t *shared_length = (socklen_t *)(void *)(map + 12000);
  *shared_length = sizeof(from);
  CHECK(call.recvfrom(receiver, map + 13000, 600, 0, (struct sockaddr *)(void *)(map + 14000), shared_length) == 600);
  expect_bytes(13000, 0, 600);
  memcpy(model + 14000, &name, length);
  memcpy(model + 12000, &length, sizeof(length));
  CHECK(*shared_length == length);
  *shared_length = sizeof(from);
  memset(&from, 0, sizeof(from));
  CHECK(call.recvfrom(receiver, private, 200, 0, (struct sockaddr *)&from, shared_length) == 200);
  CHECK(*shared_length == length && memcmp(&from, &name, length) == 0 && memcmp(private, content, 200) == 0);

  /* recvmsg() with everything in the map. */
  struct iovec *shared_parts = (struct iovec *)(void *)(map + 16000);
  struct msghdr *shared = (struct msghdr *)(void *)(map + 16100);
  shared_parts[0] = (struct iovec){map + 17000, 250};
  shared_parts[1] = (struct iovec){map + 18000, 350};
  *shared = (struct msghdr){
      .msg_name = map + 19000, .msg_namelen = sizeof(from), .msg_iov = shared_parts, .msg_iovlen = 2};
  struct msghdr after = *shared;
  after.msg_namelen = length;
  memcpy(model + 16000, shared_parts, 2 * sizeof(*shared_parts));
  memcpy(model + 16100, &after, sizeof(after));
  memcpy(model + 19000, &name, length);
  expect_bytes(17000, 0, 250);
  expect_bytes(18000, 250, 350);
  CHECK(call.recvmsg(receiver, shared, 0) == 600);

  /* A file descriptor comes through control bytes in the map. */
  union {
    struct cmsghdr header;
    uint8_t bytes[CMSG_SPACE(sizeof(int))];
  } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
  memcpy(CMSG_DATA(&control.header), &sender, sizeof(int));
  struct iovec one = {content, 5};
  struct msghdr sent = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
  CHECK(sendmsg(sender, &sent, 0) == 5);
  struct iovec into = {map + 20000, 5};
  message = (struct msghdr){.msg_iov = &into, .msg_iovlen = 1, .msg_control = map + 21000, .msg_controllen = 4000};
  CHECK(call.recvmsg(receiver, &message, 0) == 5 && (message.msg_flags & MSG_CTRUNC) == 0);
  expect_bytes(20000, 0, 5);
  struct cmsghdr *got = CMSG_FIRSTHDR(&message);
  CHECK(got != NULL && got->cmsg_type == SCM_RIGHTS && got->cmsg_len == CMSG_LEN(sizeof(int)));
  memcpy(model + 21000, map + 21000, message.msg_controllen); /* the number is the kernel's choice */
  int passed;
  memcpy(&passed, CMSG_DATA(got), sizeof(int));
  CHECK(passed != sender && fcntl(passed, F_GETFD) >= 0);
  close(passed);
  close(receiver);
  close(sender);
}

static void stdio(void) {
  int fd = content_file();
  FILE *in = fdopen(fd, "rb");
  CHECK(in != NULL);
  CHECK(fgetc(in) == content[0]);
  CHECK(call.fread(map, 1, 10, in) == 10); /* from the buffer */
  expect_bytes(0, 1, 10);
  CHECK(call.fread(map + 100, 8, 1000, in) == 1000); /* past it */
  expect_bytes(100, 11, 8000);
  CHECK(ftell(in) == 8011 && fgetc(in) == content[8011]);
  CHECK(call.unlocked_fread(map + 10000, 1, 200000, in) == 200000);
  expect_bytes(10000, 8012, 200000);
  CHECK(ungetc('u', in) == 'u');
  CHECK(call.fread(map + 300000, 3, 5, in) == 5);
  model[300000] = 'u';
  expect_bytes(300001, 208012, 14);
  CHECK(call.fread(map, 0, 5, in) == 0 && call.fread(map, 5, 0, in) == 0);
  CHECK(fseek(in, -25, SEEK_END) == 0);
  CHECK(call.fread(map + 400000, 10, 20, in) == 2 && feof(in) && !ferror(in)); /* 2 whole ones and a half */
  expect_bytes(400000, FILE_BYTES - 25, 25);
  CHECK(call.fread(map, 1, 1, in) == 0);
  fclose(in);

  in = fopen("/", "r"); /* opens, but cannot be read */
  CHECK(in != NULL && call.fread(map, 1, 9, in) == 0 && ferror(in) && errno == EISDIR);
  fclose(in);

  int ends[2];
  CHECK(pipe(ends) == 0 && write(ends[1], content, 3000) == 3000);
  close(ends[1]);
  in = fdopen(ends[0], "r");
  setvbuf(in, NULL, _IONBF, 0);
  CHECK(call.fread(map + 500000, 1000, 5, in) == 3 && feof(in));
  expect_bytes(500000, 0, 3000);
  fclose(in);
}

/* Several threads read from one FILE: each fread() gets consecutive bytes. */
static FILE *common;
#define RECORD 3000u
#define RECORDS 100u

static void *take_records(void *argument) {
  for (unsigned i = 0; i < RECORDS / 4; i++) {
    uint8_t *to = map + ((uintptr_t)argument * (RECORDS / 4) + i) * RECORD;
    if (call.fread(to, RECORD, 1, common) != 1) abort();
  }
  return NULL;
}

static void threads(void) {
  pthread_t all[4];
  common = fdopen(content_file(), "rb");
  for (size_t i = 0; i < 4; i++) CHECK(pthread_create(&all[i], NULL, take_records, (void *)i) == 0);
  for (size_t i = 0; i < 4; i++) pthread_join(all[i], NULL);
  fclose(common);
  uint8_t seen[RECORDS] = {0};
  for (unsigned i = 0; i < RECORDS; i++) {
    unsigned record = 0;
    while (record < RECORDS && memcmp(map + i * RECORD, content + record * RECORD, RECORD) != 0) record++;
    CHECK(record < RECORDS && seen[record]++ == 0);
    expect_bytes(i * RECORD, record * RECORD, RECORD);
  }
}

static void randomness(void) {
  static const uint8_t zeros[64];
  CHECK(getrandom(map + 10, 40, 0) == 40 && memcmp(map + 10, zeros, 40) != 0);
  CHECK(map[9] == 0 && map[50] == 0);
  CHECK(getrandom(map + 4096, 200000, 0) == 200000 && memcmp(map + 4096 + 200000 - 64, zeros, 64) != 0);
  CHECK(getrandom(map, 1, 0xffff0000) == -1 && errno == EINVAL);
  memcpy(model, map, size);
}

/* Private memory, of all places there. */
static uint8_t *map_private(uint8_t *place, size_t bytes) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  CHECK(mmap(place, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) == place);
  return place;
}

/* Buffers that begin before the map or end behind it. */
static void edge(void) {
  uint8_t *before = map_private(map - 8192, 8192), *behind = map_private(map + size, 8192);
  int fd = content_file();
  CHECK(call.read(fd, map - 100, 300) == 300);
  CHECK(memcmp(map - 100, content, 100) == 0);
  expect_bytes(0, 100, 200);
  CHECK(call.pread(fd, map + size - 70000, 78000, 50) == 78000);
  expect_bytes(size - 70000, 50, 70000);
  CHECK(memcmp(behind, content + 70050, 8000) == 0);
  /* All of the map and both sides. */
  CHECK(call.pread(fd, before, 8192 + size + 8192, 1) == (ssize_t)(8192 + size + 8192));
  expect_bytes(0, 1 + 8192, size);
  CHECK(memcmp(before, content + 1, 8192) == 0 && memcmp(behind, content + 1 + 8192 + size, 8192) == 0);

  FILE *in = fdopen(fd, "rb");
  CHECK(fseek(in, 0, SEEK_SET) == 0);
  CHECK(call.fread(map - 5000, 1, 15000, in) == 15000);
  CHECK(memcmp(map - 5000, content, 5000) == 0);
  expect_bytes(0, 5000, 10000);
  CHECK(call.fread(map + size - 10, 5, 4, in) == 4);
  expect_bytes(size - 10, 15000, 10);
  CHECK(memcmp(behind, content + 15010, 10) == 0);
  fclose(in);

  int ends[2];
  pair(SOCK_DGRAM, ends);
  CHECK(send(ends[1], content, 1000, 0) == 1000 && call.recv(ends[0], map + size - 600, 2000, 0) == 1000);
  expect_bytes(size - 600, 0, 600);
  CHECK(memcmp(behind, content + 600, 400) == 0);
  CHECK(send(ends[1], content, 1000, 0) == 1000 && send(ends[1], content + 1, 9, 0) == 9);

  /* Behind the edge is nothing: what the kernel says when a part of a buffer is not there. */
  CHECK(munmap(behind, 8192) == 0 && munmap(before, 8192) == 0);
  fd = content_file();
  CHECK(call.pread(fd, map + size - 100, 300, 3) == 100);
  expect_bytes(size - 100, 3, 100);
  CHECK(call.pread(fd, map - 100, 300, 0) == -1 && errno == EFAULT);
  CHECK(call.recv(ends[0], map - 100, 300, 0) == -1 && errno == EFAULT);
  CHECK(getrandom(map - 100, 300, 0) == -1 && errno == EFAULT);
  close(fd);
  close(ends[0]);
  close(ends[1]);
}

static void hole(void) {
  int fd = content_file(), id;
  /* From the middle of a page to the middle of another, so with edges. */
  CHECK_OK(dsm_hole_dig(session, map + 5000, 100000, &id));
  CHECK(call.read(fd, map + 4000, 150000) == 150000);
  expect_bytes(4000, 0, 150000);
  check_map();
  CHECK_OK(dsm_barrier_wait(session)); /* the others look: only what is outside the hole is there */
  CHECK_OK(dsm_barrier_wait(session));
  CHECK(call.pread(fd, map + 20000, 10, 500) == 10); /* an opened page; and the edge's again */
  expect_bytes(20000, 500, 10);
  CHECK(call.pread(fd, map + 104990, 20, 900) == 20);
  expect_bytes(104990, 900, 20);
  CHECK_OK(dsm_hole_fill(session, id));
  close(fd);
}

static void hole_seen_by_others(void) {
  CHECK_OK(dsm_barrier_wait(session));
  make_content();
  CHECK(memcmp(map + 4000, content, 1000) == 0);
  CHECK(memcmp(map + 105000, content + 101000, 49000) == 0);
  for (size_t i = 5000; i < 105000; i++) CHECK(map[i] == 0);
  CHECK_OK(dsm_barrier_wait(session));
}

static void errors(void) {
  int fd = content_file(), ends[2];
#define FAILS(expression, reason) CHECK((errno = 0, (expression) == -1 && errno == (reason)))
  struct iovec parts[] = {{map, 10}, {(void *)16, 10}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 1};
  FAILS(call.read(-1, map, 10), EBADF);
  FAILS(call.read(-1, map, 100000), EBADF);
  FAILS(call.pread(-1, map, 10, 0), EBADF);
  FAILS(call.readv(-1, parts, 1), EBADF);
  FAILS(call.recv(-1, map, 10, 0), EBADF);
  FAILS(call.recv(fd, map, 10, 0), ENOTSOCK);
  FAILS(call.recvmsg(-1, &message, 0), EBADF);
  FAILS(call.pread(fd, map, 10, -1), EINVAL);
  int written = open("/dev/null", O_WRONLY);
  FAILS(call.read(written, map, 10), EBADF);
  close(written);
  int directory = open("/", O_RDONLY);
  FAILS(call.read(directory, map, 10), EISDIR);
  close(directory);

  /* Unmapped addresses, in data and in lists. */
  FAILS(call.read(fd, (void *)16, 10), EFAULT);
  FAILS(call.read(fd, (void *)(uintptr_t)-16, 64), EFAULT);
  FAILS(call.readv(fd, (struct iovec *)16, 1), EFAULT);
  FAILS(call.readv(fd, parts + 1, 1), EFAULT);
  FAILS(call.readv(fd, parts, -1), EINVAL);
  FAILS(call.readv(fd, parts, 1025), EINVAL);
  pair(SOCK_DGRAM, ends);
  CHECK(send(ends[1], content, 10, 0) == 10);
  FAILS(call.recvmsg(ends[0], (struct msghdr *)16, 0), EFAULT);
  CHECK(call.recvmsg(ends[0], &message, 0) == 10);
  expect_bytes(0, 0, 10);
  CHECK(lseek(fd, 0, SEEK_SET) == 0 && call.readv(fd, parts, 2) == 10); /* the second is bad: what came before counts */

  /* More parts than the kernel takes, as buffers cross the map's edge: a message is refused, a file is read short. */
  struct iovec many[1024];
  uint8_t *behind = map_private(map + size, 4096);
  for (int i = 0; i < 1024; i++) many[i] = (struct iovec){map + size - 1, 2};
  CHECK(lseek(fd, 0, SEEK_SET) == 0 && call.readv(fd, many, 1024) == 1024);
  model[size - 1] = content[1022];
  CHECK(behind[0] == content[1023]);
  message = (struct msghdr){.msg_iov = many, .msg_iovlen = 1024};
  FAILS(call.recvmsg(ends[0], &message, 0), EMSGSIZE);
  CHECK(munmap(behind, 4096) == 0);
  close(ends[0]);
  close(ends[1]);

  /* A forked child has no map. */
  pid_t child = fork();
  if (child == 0) _exit(call.read(fd, map, 10) == -1 && errno == EFAULT ? 7 : 1);
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
  close(fd);
}

/* ---- a waiting call, interrupted, restarted, cancelled ---- */

static volatile sig_atomic_t alarms;
static int feed[2];

static void on_alarm(int signo) {
  (void)signo;
  int saved = errno;
  alarms++;
  /* The handler reads into the map itself. */
  int fd = *(volatile int *)&feed[0];
  uint8_t byte;
  if (fd >= 0 && call.read(fd, map + 50, 1) == 1 && write(feed[1], (byte = 9, &byte), 1) < 0) abort();
  errno = saved;
}

static void *read_forever(void *argument) {
  call.read(*(int *)argument, map, 5000);
  return NULL;
}

static void signals(void) {
  int ends[2];
  CHECK(pipe(ends) == 0 && pipe(feed) == 0 && write(feed[1], "x", 1) == 1);
  struct sigaction action = {.sa_handler = on_alarm};
  CHECK(sigaction(SIGALRM, &action, NULL) == 0);
  struct itimerval often = {.it_interval = {.tv_usec = 20000}, .it_value = {.tv_usec = 20000}}, never = {0};
  CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
  FAILS(call.read(ends[0], map, 100), EINTR);
  FAILS(call.read(ends[0], map, 5000), EINTR);
  /* Under a shower of signals nothing is lost or doubled. */
  int fd = content_file();
  for (int i = 0; i < 100; i++) {
    CHECK(call.read(fd, map + 100 + 5000 * i, 5000) == 5000);
    expect_bytes(100 + 5000 * (size_t)i, 5000 * (size_t)i, 5000);
  }
  close(fd);
  CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
  CHECK(alarms >= 2);
  model[50] = map[50];
  CHECK(model[50] == 'x' || model[50] == 9);

  /* Cancelled while they wait, often enough to need every slot more than once; the calls work as before then. */
  for (int i = 0; i < 40; i++) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, read_forever, &ends[0]) == 0);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
  }
  CHECK(write(ends[1], content, 4000) == 4000);
  CHECK(call.read(ends[0], map + 60000, 5000) == 4000);
  expect_bytes(60000, 0, 4000);
}

/* After leaving, the map is read-only memory. */
static void after_leaving(void) {
  int fd = content_file();
  FAILS(call.read(fd, map, 10), EFAULT);
  FAILS(call.pread(fd, map, 100000, 0), EFAULT);
  close(fd);
}

static const struct {
  const char *name;
  void (*run)(void);
} cases[] = {
    {"file", file},       {"big", big},         {"stream", stream},         {"datagram", datagram},
    {"messages", messages}, {"stdio", stdio},   {"threads", threads},       {"randomness", randomness},
    {"edge", edge},       {"hole", hole},       {"errors", errors},         {"signals", signals},
};

int main(int count, char **arguments) {
  CHECK(count == 3);
  for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
    if (strcmp(arguments[2], forms[i].name) == 0) call = forms[i];
  CHECK(call.name != NULL);
  CHECK_OK(dsm_open(NULL, &session));
  map = dsm_address(session);
  size = dsm_size(session);
  if (dsm_rank(session) == 0) {
    model = calloc(1, size);
    make_content();
    int known = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
      if (strcmp(arguments[1], cases[i].name) == 0) known = 1, cases[i].run();
    CHECK(known);
    check_map();
  } else if (strcmp(arguments[1], "hole") == 0) {
    hole_seen_by_others();
  }
  CHECK_OK(dsm_barrier_wait(session));
  uint64_t hash = 0xcbf29ce484222325ull;
  const uint8_t *bytes = dsm_rank(session) == 0 ? model : map;
  for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3ull;
  printf("%016llx\n", (unsigned long long)hash);
  CHECK_OK(dsm_close(session));
  if (dsm_rank(session) == 0) after_leaving();
  return 0;
}
