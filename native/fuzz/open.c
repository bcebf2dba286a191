/* A process opens a session, uses it and leaves, and whatever its arbiter answers is made up: dsm_open succeeds only with
 * an answer that can be a welcome, each call comes back with a status of its own, and neither memory nor descriptors are left. */
#include <fcntl.h>
#include <pthread.h>
#include <sanitizer/lsan_interface.h>
#include <string.h>
#include <unistd.h>

#include "arbiter.h"
#include "fuzz.h"

enum { SIZE = 16 * 4096 };

static struct arbiter arbiter = {.base = 0x2a0000000000, .size = SIZE};
static dsm_config config;
static char folder[] = "/tmp/dsm-fuzz-XXXXXX";

/* The answers of the input under way, one behind the other: kind, op, how long the text is, whether the size is right,
 * and the body; what the arbiter would answer where they are all used up. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const uint8_t *next_byte, *end_byte;
static int welcomed; /* an answer to HELLO was a welcome to a session */

static uint8_t take(void) { return next_byte < end_byte ? *next_byte++ : 0; }

static int answer(int fd, const struct wire_header *request, const uint8_t *request_body) {
  (void)request_body;
  uint8_t frame[sizeof(struct wire_header) + REPLY_BODY_MAX + 64] = {0};
  struct wire_header header = {.kind = WIRE_REPLY, .tag = request->tag};
  uint8_t *body = frame + sizeof header;
  pthread_mutex_lock(&lock);
  uint8_t how = take();
  size_t sent = 0;
  int closes = 0;
  if (request->kind == WIRE_PUBLISH && request->op == 1) {
    pthread_mutex_unlock(&lock);
    return 0;
  }
  if ((how & 0x80) == 0) { /* as it should be, with changes */
    if (request->kind == WIRE_HELLO) {
      struct wire_joined joined = {.base = arbiter.base, .size = SIZE, .processes = 1, .order = 1 + (how & 1)};
      joined.direct = how >> 1 & 1;
      memcpy(joined.map_path, arbiter.path, strlen(arbiter.path));
      memset(joined.node_name, 'n', how & 4 ? 64 : 1);
      for (unsigned changes = how >> 3 & 3; changes > 0; changes--) {
        unsigned at = take() | (take() & 1u) << 8;
        ((uint8_t *)&joined)[at % sizeof joined] = take();
      }
      memcpy(body, &joined, sizeof joined);
      header.length = sizeof joined;
    } else {
      header.length = request->kind == WIRE_ATOMIC ? 16 : 0;
      header.offset = how & 1 ? SIZE / 2 : 0;
    }
  } else {
    static const uint8_t kinds[] = {WIRE_REPLY, WIRE_FAIL, WIRE_WELCOME, WIRE_STORE};
    header.kind = kinds[how & 3];
    header.op = take();
    header.length = take() | (take() & 1u) << 8;
    for (unsigned i = 0; i < header.length && i < REPLY_BODY_MAX; i++) body[i] = take();
  }
  header.size = (uint32_t)(sizeof header + ((header.length + 7) & ~7u));
  sent = header.size;
  if ((how & 0x40) != 0) {
    header.size += take();
    header.length += take();
    closes = 1;
  }
  if (request->kind == WIRE_HELLO) {
    /* A connection that dsm_open gave up may be answered only now: that does not unsay a welcome. */
    welcomed |= header.kind == WIRE_REPLY && header.op == DSM_OK && header.length == sizeof(struct wire_joined) &&
               header.size == sent;
  }
  if ((how & 0x20) != 0) {
    sent = sent * take() / 256;
    closes = 1;
  }
  pthread_mutex_unlock(&lock);
  memcpy(frame, &header, sizeof header);
  return channel_send(fd, frame, sent) != 0 || closes ? -1 : 0;
}

static void remove_folder(void) {
  char command[64];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (system(command) != 0) perror(command);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc, (void)argv;
  CHECK(mkdtemp(folder) != NULL && setenv("XDG_RUNTIME_DIR", folder, 1) == 0);
  atexit(remove_folder);
  CHECK(dsm_config_init(&config) == DSM_OK);
  config.session = "fuzz";
  config.node = "n";
  config.daemon = "127.0.0.1:1"; /* never asked */
  config.autostart = 0;
  config.join_timeout_ms = 1; /* an arbiter that ends is tried again for so long */
  arbiter.answer = answer;
  arbiter_start(&arbiter, &config);
  return 0;
}

static int descriptors(void) {
  int count = 0;
  for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

static int is_status(int status) { return status >= DSM_OK && status <= 255; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  pthread_mutex_lock(&lock);
  next_byte = data;
  end_byte = data + size;
  welcomed = 0;
  pthread_mutex_unlock(&lock);
  int before = descriptors();
  dsm_session *session = NULL;
  int status = dsm_open(&config, &session);
  CHECK(is_status(status) && (status == DSM_OK) == (session != NULL));
  if (status == DSM_OK) {
    __lsan_ignore_object(session); /* kept for ever, so that later calls can be told: dsm.h */
    pthread_mutex_lock(&lock);
    CHECK(welcomed);
    pthread_mutex_unlock(&lock);
    CHECK(dsm_size(session) % 4096 == 0 && dsm_size(session) > 0 && dsm_processes(session) > 0);
    CHECK(dsm_rank(session) >= 0 && dsm_rank(session) < dsm_processes(session));
    CHECK(strlen(dsm_node(session)) <= DSM_NAME_MAX);
    int hole;
    void *block = NULL;
    CHECK(is_status(dsm_sem_post(session, "s", 0)));
    CHECK(is_status(dsm_barrier_wait(session)));
    CHECK(is_status(dsm_fence(session)));
    status = dsm_alloc(session, 100, 8, &block);
    CHECK(is_status(status));
    CHECK(status != DSM_OK || (uintptr_t)block - (uintptr_t)dsm_address(session) <= dsm_size(session) - 100);
    if (dsm_hole_dig(session, (char *)dsm_address(session) + 100, 100, &hole) == DSM_OK) {
      CHECK(is_status(dsm_hole_fill(session, hole)));
    }
    status = dsm_pool_alloc(session, 100, 8, &block);
    CHECK(is_status(status));
    if (status == DSM_OK) {
      CHECK((uintptr_t)block - (uintptr_t)dsm_address(session) <= dsm_size(session) - 100);
      CHECK(is_status(dsm_pool_free(session, block, 100, 8)));
    }
    CHECK(is_status(dsm_close(session)));
    CHECK(dsm_sem_post(session, "s", 0) == DSM_LEFT);
  }
  /* The arbiter's threads have their ends of the connections, and close them when they see ours closed. */
  for (unsigned tries = 0; descriptors() > before; tries++) {
    CHECK(tries < 10000);
    usleep(tries < 100 ? 10 : 1000);
  }
  /* The input ends with the call: later reads get bytes that are always there. */
  pthread_mutex_lock(&lock);
  next_byte = end_byte = NULL;
  pthread_mutex_unlock(&lock);
  return 0;
}

void fuzz_seeds(void (*give)(const uint8_t *data, size_t size)) {
  static const uint8_t plain[8] = {0}, release[8] = {1}, direct[8] = {2};
  static const uint8_t long_name[8] = {4, 0, 0, 1}, changed[8] = {8, 24, 0, 9}, refused[8] = {0x81, 4, 3, 0, 'w', 'h', 'y'};
  static const uint8_t refused_later[8] = {0, 0x80, 0x80, 9, 2, 0, 'n', 'o'}, cut[8] = {0x20, 128}, wrong[8] = {0x40, 3, 7};
  /* Failed once: a refusal with the status of success. */
  static const uint8_t refused_well[8] = {0x81, 0, 0, 0};
  const uint8_t *all[] = {plain, release, direct, long_name, changed, refused, refused_later, cut, wrong, refused_well};
  for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++) give(all[i], 8);
}
