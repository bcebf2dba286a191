#define _GNU_SOURCE
#include "api/join.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "session/names.h"
#include "base/clock.h"
#include "base/status.h"
#include "link/arbiter_link.h"
#include "link/thread.h"

/* The pause between two attempts to join while the arbiter of an ended session exits. */
#define RETRY_PAUSE_NS 2000000
#define DESCRIPTORS_AFTER_JOIN 4
/* How long the arbiter may take to say what a process that has no more time has waited for. */
#define EXPLANATION_TIMEOUT_MS 1000

/* Sends HELLO and waits for the session to start. Returns a status; DSM_ENDED: try again, the next session will
 * follow. */
static int say_hello(int fd, const dsm_config *config, long long deadline, struct reply *reply) {
  struct {
    struct wire_header header;
    struct wire_process_hello body;
  } hello;
  memset(&hello, 0, sizeof hello);
  hello.header.size = sizeof hello;
  hello.header.kind = WIRE_HELLO;
  hello.header.magic = WIRE_MAGIC;
  hello.header.body_length = sizeof hello.body;
  hello.header.version = WIRE_VERSION;
  hello.body.pid = (uint32_t)getpid();
  hello.body.processes = config->processes;
  hello.body.size = config->size;
  hello.body.wished_rank = (uint32_t)(config->rank + 1);
  hello.body.order = (uint8_t)order_number(config->order);
  /* A thread waits for the end of direct mode, so direct mode needs one. */
  hello.body.no_direct = !config->direct ? 1 : thread_can_start() ? 0 : 2;
  hello.body.elastic = config->elastic != 0;
  hello.body.on_loss = (uint8_t)on_loss_number(config->on_loss);
  memcpy(hello.body.session, config->session, strlen(config->session));
  /* An arbiter that is exiting does not answer: the next attempt finds, or starts, its successor. */
  if (channel_send(fd, &hello, sizeof hello) != 0) return DSM_ENDED;
  long long left = deadline - now_ms();
  int answered = link_await_answer(fd, left > 0 ? (int)left : 0);
  if (answered < 0) return dsm_fail(DSM_TIMEOUT, "joining session \"%s\" was interrupted", config->session);
  int is_late = answered == 0;
  if (is_late) {
    /* Asks what it has waited for. The answer may be that all have joined just now. */
    struct wire_header cancel = {.size = sizeof cancel, .kind = WIRE_SEM_CANCEL};
    if (channel_send(fd, &cancel, sizeof cancel) != 0 || link_await_answer(fd, EXPLANATION_TIMEOUT_MS) <= 0)
      return dsm_fail(DSM_TIMEOUT, "the other processes of session \"%s\" did not join in %u ms", config->session,
                      config->join_timeout_ms);
  }
  if (channel_receive(fd, reply) != 0)
    return errno == EPROTO ? dsm_fail(DSM_PROTOCOL, "the arbiter's answer is no dsm frame") : DSM_ENDED;
  if (is_late && reply->header.kind == WIRE_REPLY && reply->header.status == DSM_TIMEOUT)
    return dsm_fail(DSM_TIMEOUT, "session \"%s\": %s in %u ms", config->session, (const char *)reply->body,
                    config->join_timeout_ms);
  if ((reply->header.kind == WIRE_FAIL || reply->header.kind == WIRE_REPLY) && reply->header.status != DSM_OK)
    return dsm_fail(reply->header.status, "%s", (const char *)reply->body);
  if (reply->header.kind != WIRE_REPLY || reply->header.body_length != sizeof(struct wire_joined))
    return dsm_fail(DSM_PROTOCOL, "the arbiter's answer is not the one expected");
  return DSM_OK;
}

/* Returns whether maps may lie at this address: src/core/base/addresses.ts. */
static int is_place_of_map(uint64_t base) {
  uint64_t wide = base - WIRE_ADDRESS_FIRST, narrow = base - WIRE_ADDRESS_NARROW_FIRST;
  return (wide % WIRE_ADDRESS_STRIDE == 0 && wide / WIRE_ADDRESS_STRIDE < WIRE_ADDRESS_SLOTS) ||
         (narrow % WIRE_ADDRESS_NARROW_STRIDE == 0 && narrow / WIRE_ADDRESS_NARROW_STRIDE < WIRE_ADDRESS_NARROW_SLOTS);
}

/* Validates the JOINED reply. Its map must lie in an address range of maps, where it covers no other memory of ours. */
static int joined_is_sound(const dsm_config *config, const struct wire_joined *joined, uint32_t rank) {
  static const char place[] = "/dev/shm/dsm-";
  size_t length = strnlen(joined->map_path, sizeof joined->map_path);
  return is_place_of_map(joined->base) && joined->size > 0 && joined->size <= DSM_SIZE_MAX &&
         joined->size % PAGE_BYTES == 0 && (config->size == 0 || joined->size == config->size) &&
         joined->processes >= 1 && joined->processes <= DSM_PROCESSES_MAX && joined->elastic <= 1 &&
         (config->processes == 0 || joined->elastic || joined->processes == config->processes) &&
         rank < (joined->elastic ? DSM_PROCESSES_MAX : joined->processes) && order_is_known(joined->order) &&
         joined->direct <= 1 && length > sizeof place - 1 && length < sizeof joined->map_path &&
         memcmp(joined->map_path, place, sizeof place - 1) == 0 &&
         memchr(joined->map_path + sizeof place - 1, '/', length - (sizeof place - 1)) == NULL;
}

/* Checks that the descriptors are available that a session needs when it starts: the connection for stores, the map,
 * and under release the memory of holes. A process without them must not join: the session would lose a process. */
static int check_descriptors(void) {
  int spare[DESCRIPTORS_AFTER_JOIN];
  int count = 0;
  while (count < DESCRIPTORS_AFTER_JOIN && (spare[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) count++;
  int error = errno;
  for (int i = 0; i < count; i++) close(spare[i]);
  return count == DESCRIPTORS_AFTER_JOIN ? DSM_OK
                                         : dsm_fail(DSM_LIMIT, "no file descriptors to join with: %s", strerror(error));
}

int join_session(const dsm_config *config, struct arbiter_place *place, int *fd, struct reply *reply) {
  long long deadline = now_ms() + config->join_timeout_ms;
  for (;;) {
    int status = arbiter_connect(config, place, fd);
    if (status == DSM_OK) {
      status = check_descriptors();
      if (status == DSM_OK) status = say_hello(*fd, config, deadline, reply);
      if (status == DSM_OK &&
          !joined_is_sound(config, (const struct wire_joined *)reply->body, reply->header.related_rank))
        status =
            dsm_fail(DSM_PROTOCOL, "invalid JOINED reply from the arbiter (check that both use the same dsm version)");
      if (status == DSM_OK) return DSM_OK;
      close(*fd);
      *fd = -1;
    }
    if (status != DSM_ENDED) return status;
    if (now_ms() >= deadline)
      return dsm_fail(DSM_TIMEOUT, "session \"%s\" kept ending while this process joined; gave up after %u ms",
                      config->session, config->join_timeout_ms);
    struct timespec pause = {.tv_nsec = RETRY_PAUSE_NS};
    nanosleep(&pause, NULL);
  }
}
