#define _GNU_SOURCE
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "altstack.h"
#include "attach.h"
#include "clock.h"
#include "signals.h"
#include "spawn.h"
#include "status.h"
#include "tool.h"

#define DEFAULT_DAEMON "127.0.0.1:4200"
/* Between two attempts to join while an ended session's arbiter goes away. */
#define RETRY_PAUSE_NS 2000000
#define DESCRIPTORS_AFTER_JOIN 4
/* Maps of sessions this process has left, for which a store still gets a message of its own. With the open ones they
 * fill the table of regions. */
#define LEFT_REGIONS_MAX 32

static pthread_mutex_t sessions_lock = PTHREAD_MUTEX_INITIALIZER;
static dsm_session *sessions;

/* Ranges that hold private copies of maps left behind. The newest LEFT_REGIONS_MAX have a region. */
static struct left {
  uintptr_t base;
  uint64_t size;
  int region; /* -1: none any more */
  struct left *next;
} *left_maps;

/* Handles of sessions this process has left, oldest first: DSM_LEFT_MAX of them, which answer DSM_LEFT. Older ones are
 * spare, and become those of new sessions. None is freed: a thread that leaves session_end() may still look at it. */
static dsm_session *left_oldest, *left_newest, *spare;
static unsigned left_count;

/* A handle, all zero, or NULL: no memory. */
static dsm_session *take_handle(void) {
  pthread_mutex_lock(&sessions_lock);
  dsm_session *session = spare;
  if (session != NULL)
    spare = session->next;
  pthread_mutex_unlock(&sessions_lock);
  if (session == NULL)
    return calloc(1, sizeof *session);
  memset(session, 0, sizeof *session);
  return session;
}

/* Of a session that did not come to be. */
static void give_handle(dsm_session *session) {
  pthread_mutex_lock(&sessions_lock);
  session->next = spare;
  spare = session;
  pthread_mutex_unlock(&sessions_lock);
}

/* Of a session that was left, and of which nothing else remains. */
static void keep_handle(dsm_session *session) {
  dsm_session *oldest = NULL;
  pthread_mutex_lock(&sessions_lock);
  session->next = NULL;
  if (left_newest != NULL)
    left_newest->next = session;
  else
    left_oldest = session;
  left_newest = session;
  if (++left_count > DSM_LEFT_MAX) {
    oldest = left_oldest;
    left_oldest = oldest->next;
    left_count--;
  }
  pthread_mutex_unlock(&sessions_lock);
  if (oldest != NULL)
    give_handle(oldest);
}

/* ---- The sink: what the fault handlers call. All of it handler-safe. ---- */

/* Not write(): that is a point where a cancelled thread would end, in the middle of a store. */
static void say(const char *text, size_t length) {
  syscall(SYS_write, STDERR_FILENO, text, length);
}

static void say_gone(const dsm_session *session) {
  char text[160];
  char *at = stpcpy(text, "dsm: the arbiter of session \"");
  at = stpcpy(at, session->name);
  at = stpcpy(at, "\" is gone: a store cannot be shared any more\n");
  say(text, (size_t)(at - text));
}

/* Reads the answer to what was sent on a claimed channel and gives the channel back. 0, or -1: the arbiter is gone. */
static int finish_request(dsm_session *session, int slot, int sent, struct reply *reply) {
  struct channel_pool *pool = &session->channels;
  int fd = pool->slots[slot].fd;
  int failed = sent != 0 || channel_answer(pool, slot, reply) != 0 || reply->header.kind != WIRE_REPLY;
  if (failed) {
    atomic_store(&session->dead, 1);
    if (fd >= 0)
      channel_break(pool, slot);
  }
  channel_release(pool, slot);
  return failed ? -1 : 0;
}

int session_publish(dsm_session *session, const struct dsm_run *runs, uint32_t count) {
  struct channel_pool *pool = &session->channels;
  int slot = channel_claim(pool, CHANNEL_STORE);
  struct channel_writer writer;
  writer.fd = channel_descriptor(pool, slot);
  writer.length = 0;
  writer.failed = writer.fd < 0;
  struct wire_header header;
  memset(&header, 0, sizeof header);
  if (count == 1) {
    header.kind = WIRE_STORE;
    header.offset = runs[0].offset;
    header.length = runs[0].length;
    header.size = (uint32_t)sizeof header + padded(runs[0].length);
    writer_add(&writer, &header, sizeof header);
    writer_add(&writer, runs[0].bytes, runs[0].length);
    writer_pad(&writer, runs[0].length);
  } else {
    header.kind = WIRE_PUBLISH;
    for (uint32_t i = 0; i < count; i++)
      header.length += 8 + padded(runs[i].length);
    header.size = (uint32_t)sizeof header + header.length;
    writer_add(&writer, &header, sizeof header);
    for (uint32_t i = 0; i < count; i++) {
      uint64_t run = runs[i].offset | (uint64_t)runs[i].length << 40;
      writer_add(&writer, &run, sizeof run);
      writer_add(&writer, runs[i].bytes, runs[i].length);
      writer_pad(&writer, runs[i].length);
    }
  }
  struct reply reply;
  return finish_request(session, slot, writer_flush(&writer), &reply) == 0 && reply.header.op == DSM_OK ? 0 : -1;
}

/* Says it once. A reader of stderr that does not read must not hold up a store: then nothing is said. */
static void advise(dsm_session *session) {
  struct advice_figures figures;
  char text[400];
  struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
  if (advice_due(&session->advice, now_ns(), &figures) && syscall(SYS_poll, &out, 1, 0) == 1 &&
      (out.revents & POLLOUT) != 0)
    say(text, advice_text(text, sizeof text, session->rank, &figures));
}

/* What lies in no hole. 0, or -1: the arbiter is gone. */
static int share(dsm_session *session, const struct dsm_run *runs, uint32_t count) {
  if (count == 1 && advice_note(&session->advice, runs[0].offset, runs[0].length))
    advise(session);
  if (session->ring.header != NULL) {
    int queued = ring_store(session, runs, count);
    if (queued != 0)
      return queued > 0 ? 0 : -1;
  }
  return session_publish(session, runs, count);
}

static int sink_fault(void *context, uintptr_t address, int atomic) {
  int opened = hole_fault(context, address, atomic);
  if (opened < 0)
    say_gone(context);
  return opened;
}

/* A store into a hole that finds no page, and nothing else, is not the arbiter's fault. */
static void say_no_page(void) {
  static const char text[] = "dsm: no memory for a page of a hole, or no room for one more mapping: the store cannot be kept\n";
  say(text, sizeof text - 1);
}

static int sink_store(void *context, const struct dsm_run *runs, uint32_t count) {
  dsm_session *session = context;
  int result = 0;
  if (atomic_load_explicit(&session->holes.count, memory_order_acquire) > 0) {
    struct hole_store store = {.runs = runs, .count = count};
    while (store.count > 0 && result >= 0) {
      struct dsm_run rest[32];
      int left = hole_store(session, &store, rest, 32);
      if (left < 0) {
        say_no_page();
        return -1;
      }
      if (left > 0)
        result = share(session, rest, (uint32_t)left);
    }
  } else {
    result = share(session, runs, count);
  }
  if (result < 0)
    say_gone(session);
  return result;
}

static int sink_atomic(void *context, enum dsm_atomic_op op, uint32_t width, uint64_t offset, const void *operand,
                       const void *compare, void *old) {
  dsm_session *session = context;
  if (hole_release(session) != 0) {
    say_gone(session);
    return -1;
  }
  if (atomic_load_explicit(&session->holes.count, memory_order_acquire) > 0) {
    int done = hole_atomic(session, op, width, offset, operand, compare, old);
    if (done == 1)
      return 0;
    if (done == -2)
      say_no_page();
    if (done == -1) {
      static const char text[] = "dsm: an atomic operation across the edge of a hole is not possible\n";
      say(text, sizeof text - 1);
    }
    if (done < 0)
      return -1;
  }
  struct {
    struct wire_header header;
    uint8_t operand[16];
    uint8_t compare[16];
  } frame;
  memset(&frame, 0, sizeof frame);
  frame.header.size = sizeof frame;
  frame.header.kind = WIRE_ATOMIC;
  frame.header.op = (uint8_t)op;
  frame.header.offset = offset;
  frame.header.length = width;
  if (operand != NULL)
    memcpy(frame.operand, operand, width);
  if (compare != NULL)
    memcpy(frame.compare, compare, width);
  struct channel_pool *pool = &session->channels;
  int slot = channel_claim(pool, CHANNEL_STORE);
  int fd = channel_descriptor(pool, slot);
  int sent = fd < 0 ? -1 : channel_send(fd, &frame, sizeof frame);
  struct reply reply;
  if (finish_request(session, slot, sent, &reply) != 0 || reply.header.op != DSM_OK || reply.header.length != 16 ||
      /* Pages that other threads have opened meanwhile lack what others published before this operation. */
      hole_release(session) != 0) {
    say_gone(session);
    return -1;
  }
  memcpy(old, reply.body, width);
  return 0;
}

static const struct dsm_sink sink = {.fault = sink_fault, .store = sink_store, .atomic = sink_atomic};

/* ---- Requests of the ordinary calls ---- */

int session_check(const dsm_session *session) {
  if (session == NULL)
    return dsm_fail(DSM_INVALID, "the session is NULL");
  if (session->pid != getpid())
    return dsm_fail(DSM_FORKED, "this process was forked after joining; the session belongs to its parent");
  if (atomic_load(&session->left))
    return dsm_fail(DSM_LEFT, "this process has left session \"%s\"", session->name);
  if (atomic_load(&session->dead))
    return session_gone(session);
  return DSM_OK;
}

int session_gone(const dsm_session *session) {
  if (atomic_load(&session->left))
    return dsm_fail(DSM_LEFT, "this process has left session \"%s\"", session->name);
  return dsm_fail(DSM_UNREACHABLE, "the arbiter of session \"%s\" is gone", session->name);
}

int session_may_trap(const void *bytes, size_t size) {
  uintptr_t from = (uintptr_t)bytes;
  int may = 0;
  if (!dsm_regions_near(bytes, size))
    return 0;
  pthread_mutex_lock(&sessions_lock);
  for (const dsm_session *session = sessions; session != NULL; session = session->next)
    may |= from < session->base + session->size && from + size > session->base && session->pid == getpid() &&
           (!session->direct || session->elastic);
  pthread_mutex_unlock(&sessions_lock);
  return may;
}

/* A call may block signals, and has the kernel write to its variables: it cannot run on pages that trap. */
static int check_stack(void) {
  const char *here = __builtin_frame_address(0);
  return session_may_trap(here, 1)
             ? dsm_fail(DSM_INVALID, "this thread's stack lies in the map, where no call of dsm can run; call from another")
             : DSM_OK;
}

int session_begin(dsm_session *session) {
  if (session == NULL || session->pid != getpid())
    return session_check(session);
  if (check_stack() != DSM_OK)
    return DSM_INVALID;
  /* Counted first and checked then: whoever leaves either finds us counted or is found by us. */
  atomic_fetch_add(&session->calls, 1);
  int status = session_check(session);
  tool_enter();
  if (status != DSM_OK)
    session_end(session);
  return status;
}

void session_end(dsm_session *session) {
  tool_leave();
  if (atomic_fetch_sub(&session->calls, 1) == 1 && atomic_load(&session->left))
    syscall(SYS_futex, &session->calls, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void await_calls(dsm_session *session) {
  unsigned calls;
  while ((calls = atomic_load(&session->calls)) > 0)
    syscall(SYS_futex, &session->calls, FUTEX_WAIT_PRIVATE, calls, NULL, NULL, 0);
}

static const char *shortage(int error) {
  return error == EUSERS ? "the arbiter has all the connections it can have; it needs a higher limit of open files"
                         : strerror(error);
}

/* 1 when an answer can be read, 0 after the time. */
static int await_answer(int fd, int timeout_ms) {
  struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
  long long deadline = now_ms() + timeout_ms;
  for (;;) {
    long long left = deadline - now_ms();
    int ready = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
    if (ready > 0)
      return 1;
    if (ready == 0 && left <= 0)
      return 0;
  }
}

int session_request(dsm_session *session, struct wire_header *header, const void *body, size_t body_size, int wait,
                    int timeout_ms) {
  struct channel_pool *pool = &session->channels;
  int slot = channel_claim(pool, wait ? CHANNEL_WAIT : CHANNEL_SHORT);
  if (slot < 0)
    return dsm_fail(DSM_LIMIT, "%d threads of this process wait already, the limit", CHANNELS_MAX - CHANNELS_RESERVE);
  struct channel_writer writer;
  writer.fd = channel_descriptor(pool, slot);
  if (writer.fd < 0 && channel_is_short(errno)) {
    int error = errno;
    channel_release(pool, slot);
    return dsm_fail(DSM_LIMIT, "no further connection to the arbiter: %s", shortage(error));
  }
  writer.length = 0;
  writer.failed = writer.fd < 0;
  header->size = (uint32_t)(sizeof *header + ((body_size + 7) & ~(size_t)7));
  writer_add(&writer, header, sizeof *header);
  writer_add(&writer, body, body_size);
  writer_pad(&writer, body_size);
  /* Each of them has its place in the order, after those before. */
  tool_release(session);
  int sent = writer_flush(&writer);
  if (sent == 0 && timeout_ms >= 0 && !await_answer(writer.fd, timeout_ms)) {
    struct wire_header cancel = {.size = sizeof cancel, .kind = WIRE_SEM_CANCEL, .tag = header->tag};
    sent = channel_send(writer.fd, &cancel, sizeof cancel);
  }
  struct reply reply;
  if (finish_request(session, slot, sent, &reply) != 0)
    return session_gone(session);
  tool_acquire(session);
  header->offset = reply.header.offset;
  if (reply.header.op == DSM_OK)
    return DSM_OK;
  return dsm_fail(reply.header.op, "%s", (const char *)reply.body);
}

/* ---- Opening ---- */

static const char *const order_names[] = {
    [ORDER_ANY] = "", [ORDER_SEQUENTIAL] = "sequential", [ORDER_RELEASE] = "release", [ORDER_PIPELINED] = "pipelined"};
#define ORDERS ((int)(sizeof order_names / sizeof order_names[0]))

/* The number of an order's name (NULL: any), or -1. */
static int order_number(const char *name) {
  if (name == NULL)
    return ORDER_ANY;
  for (int i = 1; i < ORDERS; i++)
    if (strcmp(order_names[i], name) == 0)
      return i;
  return -1;
}

static const char *const on_loss_names[] = {
    [ON_LOSS_ANY] = "", [ON_LOSS_FAIL] = "fail", [ON_LOSS_CONTINUE] = "continue"};
#define ON_LOSSES ((int)(sizeof on_loss_names / sizeof on_loss_names[0]))

/* The number of an answer to losses (NULL: any), or -1. */
static int on_loss_number(const char *name) {
  if (name == NULL)
    return ON_LOSS_ANY;
  for (int i = 1; i < ON_LOSSES; i++)
    if (strcmp(on_loss_names[i], name) == 0)
      return i;
  return -1;
}

/* Complete settings: what the caller left out, filled in; all of it checked. */
static int complete_config(dsm_config *config, char node[DSM_NAME_MAX + 1]) {
  int status = session_check_name("session", config->session);
  if (status != DSM_OK)
    return status;
  if (config->node == NULL) {
    if (gethostname(node, DSM_NAME_MAX + 1) != 0 || memchr(node, 0, DSM_NAME_MAX + 1) == NULL || node[0] == 0)
      return dsm_fail(DSM_SYSTEM, "this host has no usable name; set DSM_NODE");
    config->node = node;
  }
  status = session_check_name("node", config->node);
  if (status != DSM_OK)
    return status;
  if (config->daemon == NULL)
    config->daemon = DEFAULT_DAEMON;
  const char *colon = strrchr(config->daemon, ':');
  char *end = NULL;
  long port = colon == NULL || colon == config->daemon ? 0 : strtol(colon + 1, &end, 10);
  if (port < 1 || port > 65535 || *end != 0 || strlen(config->daemon) > 280)
    return dsm_fail(DSM_INVALID, "the daemon's address is \"%.100s\"; write host:port", config->daemon);
  if (config->processes > DSM_PROCESSES_MAX)
    return dsm_fail(DSM_INVALID, "processes is %u; the limit is %d", config->processes, DSM_PROCESSES_MAX);
  if (config->size > DSM_SIZE_MAX)
    return dsm_fail(DSM_INVALID, "size %llu is beyond the limit of 4 GiB", (unsigned long long)config->size);
  config->size = (config->size + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
  if (config->rank < -1 || config->rank >= DSM_PROCESSES_MAX)
    return dsm_fail(DSM_INVALID, "rank is %d; use 0 to processes - 1, or -1 for any", config->rank);
  if (order_number(config->order) < 0)
    return dsm_fail(DSM_INVALID, "there is no order \"%.40s\"; choose sequential, release or pipelined", config->order);
  if (on_loss_number(config->on_loss) < 0)
    return dsm_fail(DSM_INVALID, "\"%.40s\" is no answer to a loss; choose fail or continue", config->on_loss);
  if (config->join_timeout_ms == 0)
    config->join_timeout_ms = JOIN_TIMEOUT_MS;
  return DSM_OK;
}

/* Says hello and waits for the session to start. A status; DSM_ENDED: try again, another session will follow. */
static int say_hello(int fd, const dsm_config *config, long long deadline, struct reply *reply) {
  struct {
    struct wire_header header;
    struct wire_process_hello body;
  } hello;
  memset(&hello, 0, sizeof hello);
  hello.header.size = sizeof hello;
  hello.header.kind = WIRE_HELLO;
  hello.header.offset = WIRE_MAGIC;
  hello.header.length = sizeof hello.body;
  hello.header.aux = WIRE_VERSION;
  hello.body.pid = (uint32_t)getpid();
  hello.body.processes = config->processes;
  hello.body.size = config->size;
  hello.body.wished_rank = (uint32_t)(config->rank + 1);
  hello.body.order = (uint8_t)order_number(config->order);
  /* Its end is watched for by a thread. */
  hello.body.no_direct = !config->direct ? 1 : session_has_threads() ? 0 : 2;
  hello.body.elastic = config->elastic != 0;
  hello.body.on_loss = (uint8_t)on_loss_number(config->on_loss);
  memcpy(hello.body.session, config->session, strlen(config->session));
  /* An arbiter that ends just now answers nothing: the next attempt finds, or starts, the one that follows. */
  if (channel_send(fd, &hello, sizeof hello) != 0)
    return DSM_ENDED;
  long long left = deadline - now_ms();
  if (!await_answer(fd, left > 0 ? (int)left : 0))
    return dsm_fail(DSM_TIMEOUT, "the other processes of session \"%s\" did not join in %u ms", config->session,
                    config->join_timeout_ms);
  if (channel_receive(fd, reply) != 0)
    return errno == EPROTO ? dsm_fail(DSM_PROTOCOL, "the arbiter's answer is no dsm frame") : DSM_ENDED;
  if ((reply->header.kind == WIRE_FAIL || reply->header.kind == WIRE_REPLY) && reply->header.op != DSM_OK)
    return dsm_fail(reply->header.op, "%s", (const char *)reply->body);
  if (reply->header.kind != WIRE_REPLY || reply->header.length != sizeof(struct wire_joined))
    return dsm_fail(DSM_PROTOCOL, "the arbiter's answer is not the one expected");
  return DSM_OK;
}

int session_map_replica(const dsm_session *session, uint64_t offset, uint64_t length) {
  void *place = (void *)(session->base + offset);
  int protection = session->direct ? PROT_READ | PROT_WRITE : PROT_READ;
  if (mmap(place, length, protection, MAP_SHARED | MAP_FIXED, session->map_fd, (off_t)offset) == MAP_FAILED)
    return -1;
  /* A forked child has no business here: without the pages even its loads are told so. */
  return madvise(place, length, MADV_DONTFORK);
}

/* Takes the copies of left maps out of the way of a new map. sessions_lock held. */
static void clear_left(uintptr_t base, uint64_t size) {
  for (struct left **at = &left_maps; *at != NULL;) {
    struct left *left = *at;
    if (left->base >= base + size || base >= left->base + left->size) {
      at = &left->next;
      continue;
    }
    if (left->region >= 0)
      dsm_region_remove(left->region);
    munmap((void *)left->base, left->size);
    *at = left->next;
    free(left);
  }
}

/* Whether there are maps at this address: src/core/addresses.ts. */
static int is_place_of_map(uint64_t base) {
  uint64_t wide = base - WIRE_ADDRESS_FIRST, narrow = base - WIRE_ADDRESS_NARROW_FIRST;
  return (wide % WIRE_ADDRESS_STRIDE == 0 && wide / WIRE_ADDRESS_STRIDE < WIRE_ADDRESS_SLOTS) ||
         (narrow % WIRE_ADDRESS_NARROW_STRIDE == 0 && narrow / WIRE_ADDRESS_NARROW_STRIDE < WIRE_ADDRESS_NARROW_SLOTS);
}

/* Whether what the arbiter says of the session can be: its map lies where maps do, and nowhere over anything of ours. */
static int joined_is_sound(const dsm_config *config, const struct wire_joined *joined, uint32_t rank) {
  static const char place[] = "/dev/shm/dsm-";
  size_t length = strnlen(joined->map_path, sizeof joined->map_path);
  return is_place_of_map(joined->base) && joined->size > 0 && joined->size <= DSM_SIZE_MAX && joined->size % PAGE_BYTES == 0 &&
         (config->size == 0 || joined->size == config->size) && joined->processes >= 1 &&
         joined->processes <= DSM_PROCESSES_MAX &&
         joined->elastic <= 1 &&
         (config->processes == 0 || joined->elastic || joined->processes == config->processes) &&
         rank < (joined->elastic ? DSM_PROCESSES_MAX : joined->processes) &&
         joined->order > ORDER_ANY && joined->order < ORDERS && joined->direct <= 1 &&
         length > sizeof place - 1 && length < sizeof joined->map_path &&
         memcmp(joined->map_path, place, sizeof place - 1) == 0 &&
         memchr(joined->map_path + sizeof place - 1, '/', length - (sizeof place - 1)) == NULL;
}

static int map_session(dsm_session *session, const char *path) {
  /* What will be needed when direct mode ends is made now. */
  int changes = session->direct && session->elastic;
  int pipelined = session->order == ORDER_PIPELINED && (!session->direct || changes);
  session->map_fd = open(path, (session->direct || pipelined ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
  struct stat st;
  if (session->map_fd < 0 || syscall(SYS_fstat, session->map_fd, &st) != 0)
    return session->map_fd < 0 && errno == ENOENT
               ? dsm_fail(DSM_SYSTEM,
                          "the map of node \"%s\" is not in this process's /dev/shm; share /dev/shm with the node's other "
                          "processes, or set DSM_NODE to another name",
                          session->node)
               : dsm_fail(dsm_status_of(errno, DSM_SYSTEM), "cannot open the map %s: %s", path, strerror(errno));
  uint64_t least = session->size + session->size / PAGE_BYTES;
  if (pipelined)
    least += WIRE_RING_HEADER_SIZE + WIRE_RING_SIZE;
  if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0 || (uint64_t)st.st_size < least)
    return dsm_fail(DSM_PROTOCOL, "the map %s is not the session's", path);
  clear_left(session->base, session->size);
  void *place = (void *)session->base;
  int protection = session->direct ? PROT_READ | PROT_WRITE : PROT_READ;
  void *got = mmap(place, session->size, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, session->map_fd, 0);
  if (got != place) {
    if (got != MAP_FAILED)
      munmap(got, session->size);
    if (tool_is_thread_sanitizer() && (uintptr_t)place < WIRE_ADDRESS_NARROW_FIRST)
      return dsm_fail(DSM_SYSTEM,
                      "ThreadSanitizer allows no memory at %p, where the map of this session is; a daemon gives its first "
                      "%u sessions another address",
                      place, WIRE_ADDRESS_NARROW_SLOTS);
    return dsm_fail(dsm_status_of(got == MAP_FAILED ? errno : 0, DSM_SYSTEM),
                    "the address %p of the map is taken in this process: %s", place,
                    got == MAP_FAILED ? strerror(errno) : "something is there");
  }
  if (dsm_capture_init() != 0) {
    int saved = errno;
    munmap(place, session->size);
    return dsm_fail(DSM_SYSTEM, "cannot install the fault handlers: %s", strerror(saved));
  }
  if ((!session->direct || changes) && tool_is_valgrind() && !tool_keeps_registers()) {
    munmap(place, session->size);
    return dsm_fail(DSM_SYSTEM,
                    "start valgrind with " TOOL_VALGRIND_OPTIONS
                    ", without which dsm cannot see stores; or have all processes on one node (direct mode)");
  }
  dsm_crash_record_open();
  madvise(place, session->size, MADV_DONTFORK);
  if (session->order == ORDER_RELEASE && (!session->direct || changes)) {
    int status = hole_begin_release(session);
    if (status != DSM_OK) {
      munmap(place, session->size);
      return status;
    }
  }
  if (pipelined) {
    int status = ring_open(session, path);
    if (status != DSM_OK) {
      munmap(place, session->size);
      return status;
    }
  }
  const char *quiet = getenv("DSM_QUIET");
  int silent = session->order == ORDER_RELEASE || (quiet != NULL && quiet[0] != 0);
  advice_begin(&session->advice, silent, now_ns());
  session->region = dsm_region_add(session->base, session->size, &sink, session);
  if (session->region < 0) {
    ring_close(session);
    munmap(place, session->size);
    return dsm_fail(DSM_LIMIT, "this process has too many maps; leave a session first");
  }
  if (changes) {
    int status = watch_begin(session);
    if (status != DSM_OK) {
      dsm_region_remove(session->region);
      hole_drop_all(session);
      ring_close(session);
      munmap(place, session->size);
    }
    return status;
  }
  return DSM_OK;
}

static void close_connections(dsm_session *session) {
  channel_close_all(&session->channels);
  if (session->main_fd >= 0)
    close(session->main_fd);
  session->main_fd = -1;
}

/* In a forked child: the connections are the parent's, and its end must not wait for ours. */
static void after_fork_in_child(void) {
  dsm_actions_in_child();
  for (dsm_session *session = sessions; session != NULL; session = session->next) {
    close_connections(session);
    ring_forked(session);
    /* In a new process namespace the child may have the very process id of its parent. */
    session->pid = -1;
  }
  pthread_mutex_init(&sessions_lock, NULL);
}

static void before_fork(void) {
  pthread_mutex_lock(&sessions_lock);
}

static void after_fork_in_parent(void) {
  pthread_mutex_unlock(&sessions_lock);
}

static void watch_forks(void) {
  static int watching;
  pthread_mutex_lock(&sessions_lock);
  if (!watching)
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  watching = 1;
  pthread_mutex_unlock(&sessions_lock);
}

/* Gives everything back but the handle. */
static void release_resources(dsm_session *session) {
  close_connections(session);
  ring_close(session);
  free(session->channels.slots);
  session->channels.slots = NULL;
  if (session->map_fd >= 0)
    close(session->map_fd);
  session->map_fd = -1;
}

/* Descriptors that a session needs as soon as it has begun: its stores' connection, the map, and under release the
 * memory of holes. Who cannot have them is not to join: the others would lose a process. */
static int check_descriptors(void) {
  int spare[DESCRIPTORS_AFTER_JOIN];
  int count = 0;
  while (count < DESCRIPTORS_AFTER_JOIN && (spare[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
    count++;
  int error = errno;
  for (int i = 0; i < count; i++)
    close(spare[i]);
  return count == DESCRIPTORS_AFTER_JOIN ? DSM_OK
                                         : dsm_fail(DSM_LIMIT, "no file descriptors to join with: %s", strerror(error));
}

/* Joins: a connection to the arbiter and its answer. Tries again while sessions of this name are just ending. */
static int join(const dsm_config *config, const struct arbiter_place *place, int *fd, struct reply *reply) {
  long long deadline = now_ms() + config->join_timeout_ms;
  for (;;) {
    int status = arbiter_connect(config, place, fd);
    if (status == DSM_OK) {
      status = check_descriptors();
      if (status == DSM_OK)
        status = say_hello(*fd, config, deadline, reply);
      if (status == DSM_OK)
        return DSM_OK;
      close(*fd);
      *fd = -1;
    }
    if (status != DSM_ENDED)
      return status;
    if (now_ms() >= deadline)
      return dsm_fail(DSM_TIMEOUT, "session \"%s\" kept ending for %u ms", config->session, config->join_timeout_ms);
    struct timespec pause = {.tv_nsec = RETRY_PAUSE_NS};
    nanosleep(&pause, NULL);
  }
}

static int open_session(const dsm_config *given, dsm_session **result) {
  if (result == NULL)
    return dsm_fail(DSM_INVALID, "dsm_open: nowhere to put the session");
  *result = NULL;
  if (check_stack() != DSM_OK)
    return DSM_INVALID;
  dsm_config config;
  int status = DSM_OK;
  if (given != NULL)
    config = *given;
  else
    status = dsm_config_init(&config);
  char node[DSM_NAME_MAX + 1];
  if (status == DSM_OK)
    status = complete_config(&config, node);
  struct arbiter_place place;
  if (status == DSM_OK)
    status = arbiter_locate(&config, &place);
  if (status != DSM_OK)
    return status;
  watch_forks();

  dsm_session *session = take_handle();
  if (session == NULL)
    return dsm_fail(DSM_NO_MEMORY, "no memory for a session");
  session->map_fd = -1;
  session->region = -1;
  session->pid = getpid();
  session->main_fd = -1;
  if (channel_pool_init(&session->channels) != 0) {
    give_handle(session);
    return dsm_fail(DSM_NO_MEMORY, "no memory for a session");
  }
  hole_table_init(&session->holes);

  struct reply reply;
  status = join(&config, &place, &session->main_fd, &reply);
  const struct wire_joined *joined = (const struct wire_joined *)reply.body;
  if (status == DSM_OK && !joined_is_sound(&config, joined, reply.header.aux))
    status = dsm_fail(DSM_PROTOCOL, "the arbiter describes a session that cannot be");
  if (status == DSM_OK) {
    session->rank = reply.header.aux;
    session->processes = joined->processes;
    session->base = joined->base;
    session->size = joined->size;
    session->order = (int)joined->order;
    session->on_loss = (int)joined->on_loss;
    session->elastic = joined->elastic == 1;
    session->direct = joined->direct == 1;
    memcpy(session->name, config.session, strlen(config.session));
    memcpy(session->node, joined->node_name, DSM_NAME_MAX);
    memcpy(session->channels.path, place.socket, sizeof place.socket);
    session->channels.token = joined->token;
    session->channels.rank = (uint16_t)session->rank;
    char path[sizeof joined->map_path + 1] = {0};
    memcpy(path, joined->map_path, sizeof joined->map_path);
    /* Stores must not depend on a descriptor that is free when they are made. */
    if (channel_pool_connect(&session->channels) != 0)
      status = channel_is_short(errno)
                   ? dsm_fail(DSM_LIMIT, "no further connection to the arbiter: %s", shortage(errno))
                   : dsm_fail(DSM_UNREACHABLE, "the arbiter of session \"%s\" is gone", session->name);
    pthread_mutex_lock(&sessions_lock);
    unsigned open_sessions = 0;
    for (dsm_session *other = sessions; other != NULL; other = other->next)
      open_sessions++;
    if (status == DSM_OK)
      status = open_sessions < DSM_SESSIONS_MAX
                   ? map_session(session, path)
                   : dsm_fail(DSM_LIMIT, "this process has %u sessions, the limit; leave one first", open_sessions);
    if (status == DSM_OK) {
      session->next = sessions;
      sessions = session;
    }
    pthread_mutex_unlock(&sessions_lock);
  }
  if (status != DSM_OK) {
    release_resources(session);
    give_handle(session);
    return status;
  }
  dsm_altstack_ensure();
  *result = session;
  return DSM_OK;
}

int dsm_open(const dsm_config *given, dsm_session **result) {
  tool_enter();
  int status = open_session(given, result);
  tool_leave();
  return status;
}

/* ---- Leaving ---- */

/* A private copy of the map's last state takes its place, sparse where it is zero. 0, or -1 with errno. */
static int keep_copy(const dsm_session *session) {
  uint8_t *copy = mmap(NULL, session->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (copy == MAP_FAILED)
    return -1;
  static const uint8_t zeros[PAGE_BYTES];
  const uint8_t *map = (const uint8_t *)session->base;
  for (uint64_t at = 0; at < session->size; at += PAGE_BYTES)
    if (memcmp(map + at, zeros, PAGE_BYTES) != 0)
      memcpy(copy + at, map + at, PAGE_BYTES);
  mprotect(copy, session->size, PROT_READ);
  if (mremap(copy, session->size, session->size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)session->base) == MAP_FAILED) {
    munmap(copy, session->size);
    return -1;
  }
  return 0;
}

/* Remembers the copy left behind; the oldest lose their region, so that new sessions find room in the table. */
static void remember_left(const dsm_session *session) {
  struct left *left = malloc(sizeof *left);
  if (left == NULL)
    return;
  *left = (struct left){.base = session->base, .size = session->size, .region = session->region, .next = left_maps};
  left_maps = left;
  int count = 0;
  for (; left != NULL; left = left->next) {
    if (left->region < 0 || ++count <= LEFT_REGIONS_MAX)
      continue;
    dsm_region_remove(left->region);
    left->region = -1;
  }
}

/* 0 with the answer, or -1: the arbiter is gone. */
static int send_leave(dsm_session *session, const struct wire_header *leave, struct reply *answer) {
  if (session->watch.on)
    return watch_leave(session, leave, answer);
  return channel_send(session->main_fd, leave, sizeof *leave) != 0 ? -1 : channel_receive(session->main_fd, answer);
}

/* Says that nothing more comes, and waits until the arbiter closes the connection too: at once, or, if this was the last process
 * of the node, when it has put everything in order. A container may end with its last process, and the arbiter with it. */
static void await_farewell(const dsm_session *session) {
  struct pollfd connection = {.fd = session->main_fd, .events = POLLRDHUP};
  long long deadline = now_ms() + ARBITER_END_TIMEOUT_MS;
  if (shutdown(session->main_fd, SHUT_WR) != 0)
    return;
  for (long long left; (left = deadline - now_ms()) > 0;)
    if (poll(&connection, 1, (int)left) > 0)
      return;
}

static int close_session(dsm_session *session) {
  if (session == NULL)
    return dsm_fail(DSM_INVALID, "the session is NULL");
  if (session->pid != getpid())
    return dsm_fail(DSM_FORKED, "this process was forked after joining; the session belongs to its parent");
  if (check_stack() != DSM_OK)
    return DSM_INVALID;
  if (atomic_exchange(&session->left, 1))
    return dsm_fail(DSM_LEFT, "this process has left session \"%s\" before", session->name);
  int released = release_stores(session);
  /* Stores under way are finished, then holes being filled; later calls find the session left. */
  dsm_region_leave(session->region);
  /* Whoever has left writes to the map no more. */
  if (session->watch.on)
    hole_end_direct(session);
  hole_drop_all(session);
  int status = released;
  struct wire_header leave = {.size = sizeof leave, .kind = WIRE_LEAVE};
  struct reply reply;
  if (atomic_load(&session->dead) || send_leave(session, &leave, &reply) != 0)
    status = dsm_fail(DSM_UNREACHABLE, "the arbiter of session \"%s\" is gone", session->name);
  else if (reply.header.kind != WIRE_REPLY || reply.header.op != DSM_OK)
    status = dsm_fail(reply.header.op != 0 ? reply.header.op : DSM_PROTOCOL, "%s", (const char *)reply.body);
  /* The order has answered whatever other threads were waiting for, or their connections have ended. */
  await_calls(session);
  if (keep_copy(session) != 0 && status == DSM_OK)
    status = dsm_fail(DSM_NO_MEMORY, "no memory to keep the map's last state: %s", strerror(errno));

  pthread_mutex_lock(&sessions_lock);
  for (dsm_session **at = &sessions; *at != NULL; at = &(*at)->next)
    if (*at == session) {
      *at = session->next;
      break;
    }
  remember_left(session);
  pthread_mutex_unlock(&sessions_lock);
  if (!atomic_load(&session->dead))
    await_farewell(session);
  watch_stop(session);
  release_resources(session);
  keep_handle(session);
  return status;
}

int dsm_close(dsm_session *session) {
  tool_enter();
  int status = close_session(session);
  tool_leave();
  return status;
}

int dsm_rank(const dsm_session *session) {
  return (int)session->rank;
}

int dsm_processes(const dsm_session *session) {
  return (int)atomic_load(&session->processes);
}

void session_count(dsm_session *session, uint64_t processes) {
  if (session->elastic && processes > 0)
    atomic_store(&session->processes, (uint32_t)processes);
}

void *dsm_address(const dsm_session *session) {
  return (void *)session->base;
}

size_t dsm_size(const dsm_session *session) {
  return session->size;
}

const char *dsm_node(const dsm_session *session) {
  return session->node;
}

const char *dsm_name(const dsm_session *session) {
  return session->name;
}

const char *dsm_order(const dsm_session *session) {
  return order_names[session->order > 0 && session->order < ORDERS ? session->order : ORDER_SEQUENTIAL];
}

const char *dsm_on_loss(const dsm_session *session) {
  return on_loss_names[session->on_loss > 0 && session->on_loss < ON_LOSSES ? session->on_loss : ON_LOSS_FAIL];
}

int dsm_is_direct(const dsm_session *session) {
  return session->direct;
}

/* ---- For the TypeScript client ---- */

int dsm_set_processes(dsm_session *session, uint32_t processes) {
  session_count(session, processes);
  return DSM_OK;
}

int dsm_attach_info(const dsm_session *session, struct dsm_attach *attach) {
  int status = session_check(session);
  if (status != DSM_OK)
    return status;
  memset(attach, 0, sizeof *attach);
  memcpy(attach->socket, session->channels.path, sizeof attach->socket);
  memcpy(attach->token, &session->channels.token, sizeof attach->token);
  attach->rank = session->rank;
  attach->changes = session->watch.on;
  return DSM_OK;
}

static int with_text(int status, char *text, size_t text_size) {
  if (text_size > 0)
    snprintf(text, text_size, "%s", status == DSM_OK ? "" : dsm_last_error());
  return status;
}

/* One dsm_open_start(): the settings, copied, and the pipe that the outcome goes to. */
struct opening {
  dsm_config config;
  int fd;
};
static atomic_int openings;

static void free_opening(struct opening *opening) {
  free((char *)opening->config.session);
  free((char *)opening->config.node);
  free((char *)opening->config.daemon);
  free((char *)opening->config.binary);
  free((char *)opening->config.order);
  free((char *)opening->config.on_loss);
  if (opening->fd >= 0)
    close(opening->fd);
  free(opening);
  atomic_fetch_sub(&openings, 1);
}

static void *open_thread(void *argument) {
  struct opening *opening = argument;
  struct dsm_opened opened;
  memset(&opened, 0, sizeof opened);
  opened.status = with_text(dsm_open(&opening->config, &opened.session), opened.text, sizeof opened.text);
  /* It fits the empty pipe as a whole. If the program cannot read it, the session is nobody's. */
  if (write(opening->fd, &opened, sizeof opened) != sizeof opened && opened.status == DSM_OK)
    dsm_close(opened.session);
  free_opening(opening);
  return NULL;
}

/* pthread_create() by the version every glibc has. Weak: before glibc 2.34 it is in libpthread, which programs that
 * start threads have. */
extern int pthread_create_2_2_5(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                                void *argument) __attribute__((weak));
__asm__(".symver pthread_create_2_2_5, pthread_create@GLIBC_2.2.5");
extern int pthread_attr_setstacksize_2_2_5(pthread_attr_t *attributes, size_t size) __attribute__((weak));
__asm__(".symver pthread_attr_setstacksize_2_2_5, pthread_attr_setstacksize@GLIBC_2.2.5");

int session_has_threads(void) {
  return pthread_create_2_2_5 != NULL;
}

int session_start_thread(void *(*run)(void *), void *argument, size_t stack) {
  pthread_attr_t attributes;
  pthread_t thread;
  uint64_t before;
  const uint64_t most = ~(DSM_SIGNAL_BIT(SIGSEGV) | DSM_SIGNAL_BIT(SIGBUS) | DSM_SIGNAL_BIT(SIGTRAP) |
                          DSM_SIGNAL_BIT(SIGFPE) | DSM_SIGNAL_BIT(SIGILL));
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  if (stack > 0 && pthread_attr_setstacksize_2_2_5 != NULL)
    pthread_attr_setstacksize_2_2_5(&attributes, stack);
  dsm_signals_block(&before);
  dsm_signals_set(most);
  int error = pthread_create_2_2_5 == NULL ? ENOSYS : pthread_create_2_2_5(&thread, &attributes, run, argument);
  dsm_signals_restore(&before);
  pthread_attr_destroy(&attributes);
  return error;
}

int dsm_open_start(const dsm_config *config, int *fd) {
  if (config == NULL || fd == NULL)
    return dsm_fail(DSM_INVALID, "dsm_open_start: an argument is NULL");
  if (atomic_fetch_add(&openings, 1) >= DSM_SESSIONS_MAX) {
    atomic_fetch_sub(&openings, 1);
    return dsm_fail(DSM_LIMIT, "this process joins %d sessions already, the limit", DSM_SESSIONS_MAX);
  }
  struct opening *opening = calloc(1, sizeof *opening);
  int ends[2] = {-1, -1};
  if (opening == NULL) {
    atomic_fetch_sub(&openings, 1);
    return dsm_fail(DSM_NO_MEMORY, "no memory to join");
  }
  opening->fd = -1;
  opening->config = *config;
  const char **texts[] = {&opening->config.session, &opening->config.node, &opening->config.daemon,
                          &opening->config.binary, &opening->config.order, &opening->config.on_loss};
  int copied = 1;
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
    if (*texts[i] != NULL && (*texts[i] = strdup(*texts[i])) == NULL)
      copied = 0;
  int error = !copied ? ENOMEM : 0;
  if (error == 0 && pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
    error = errno;
  opening->fd = ends[1];
  if (error == 0)
    error = session_start_thread(open_thread, opening, 0);
  if (error != 0) {
    free_opening(opening);
    if (ends[0] >= 0)
      close(ends[0]);
    return dsm_fail(dsm_status_of(error, DSM_SYSTEM), "cannot start a thread to join: %s", strerror(error));
  }
  *fd = ends[0];
  return DSM_OK;
}

int dsm_close_text(dsm_session *session, char *text, size_t text_size) {
  return with_text(dsm_close(session), text, text_size);
}

int dsm_hole_fill_text(dsm_session *session, int hole, char *text, size_t text_size) {
  return with_text(dsm_hole_fill(session, hole), text, text_size);
}
