/* dsm_open: joins a session and maps it. */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/config.h"
#include "api/join.h"
#include "base/clock.h"
#include "base/descriptor.h"
#include "base/quiet.h"
#include "base/settings.h"
#include "base/size.h"
#include "base/status.h"
#include "burst/burst.h"
#include "pages/copies.h"
#include "pages/release.h"
#include "session/departed_maps.h"
#include "session/handles.h"
#include "session/session.h"
#include "session/sink.h"
#include "trap/altstack.h"
#include "trap/fault.h"
#include "trap/region.h"
#include "trap/signals.h"
#include "trap/tool.h"

static int joined_before(const char *name) {
  return dsm_fail(DSM_BUSY, "this process has joined session \"%s\" already", name);
}

/* Returns what DSM_BURST says. Empty is the default, as for every other flag. */
static int wants_bursts(void) {
  const char *burst = getenv(SETTING_BURST);
  return burst == NULL || strcmp(burst, "0") != 0;
}

/* Fails with DSM_BUSY if this process is in the session, under whatever name of the node: the map of a session has the
 * same address everywhere, so a process cannot be in it twice. */
static int check_first(const dsm_config *config) {
  int status = DSM_OK;
  handles_lock();
  for (const dsm_session *other = handles_open(); status == DSM_OK && other != NULL; other = other->next) {
    if (other->link.pid != getpid() || strcmp(other->link.name, config->session) != 0) continue;
    dsm_config same = *config;
    same.node = other->node;
    /* The socket's name is made of the names of session, node and daemon. */
    struct arbiter_place place;
    status = arbiter_locate(&same, &place);
    const char *path = other->link.channels.path;
    int same_place = strcmp(place.socket, path) == 0;
    /* It may have been found in another run-time directory. */
    for (int i = 0; i < OTHER_DIRECTORIES_MAX; i++) same_place |= strcmp(place.others[i], path) == 0;
    if (status == DSM_OK && same_place) status = joined_before(config->session);
  }
  handles_unlock();
  return status;
}

static int no_addresses(uint64_t size) {
  struct rlimit limit;
  char map[SIZE_TEXT_BYTES], space[SIZE_TEXT_BYTES];
  size_text(size, map);
  if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    return dsm_fail(DSM_NO_MEMORY,
                    "no room for the map of %s in an address space of %s; lift the limit with ulimit -v unlimited", map,
                    size_text(limit.rlim_cur, space));
  return dsm_fail(DSM_NO_MEMORY,
                  "cannot map %s: %s; give a smaller --size, or raise vm.max_map_count if this process has "
                  "many mappings",
                  map, strerror(ENOMEM));
}

/* Maps the cells, which begin at `offset` of the map's file. Returns 0, or -1 with errno. */
static int map_cells(dsm_session *session, const char *path, uint64_t offset) {
  /* That of the map may be read-only. */
  int fd = descriptor_above_stdio(open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (fd < 0) return -1;
  int result = cells_open(&session->cells, &session->link, fd, offset);
  int saved = errno;
  close(fd);
  errno = saved;
  return result;
}

static int map_session(dsm_session *session, const char *path) {
  /* Create now what the end of direct mode will need, so that nothing can fail then. */
  int direct_may_end = session->link.direct && session->link.elastic;
  int has_ring = session->order != ORDER_SEQUENTIAL;
  int queues = has_ring && (!session->link.direct || direct_may_end);
  int access = session->link.direct || queues ? O_RDWR : O_RDONLY;
  session->link.map_fd = descriptor_above_stdio(open(path, access | O_CLOEXEC | O_NOFOLLOW));
  struct stat st;
  if (session->link.map_fd < 0 || syscall(SYS_fstat, session->link.map_fd, &st) != 0)
    return session->link.map_fd < 0 && errno == ENOENT
               ? dsm_fail(
                     DSM_SYSTEM,
                     "the map of node \"%s\" is not in this process's /dev/shm; share /dev/shm with the node's other "
                     "processes, or set DSM_NODE to another name",
                     session->node)
               : dsm_fail(dsm_status_of(errno, DSM_SYSTEM), "cannot open the map %s: %s", path, strerror(errno));
  uint64_t cells = link_marks_end(session->link.size);
  if (has_ring) cells += WIRE_RING_HEADER_SIZE + WIRE_RING_SIZE;
  uint64_t least = cells + WIRE_CELLS_SIZE;
  if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0 || (uint64_t)st.st_size < least)
    return dsm_fail(DSM_PROTOCOL, "the map %s is not the session's", path);
  departed_maps_clear(session->link.base, session->link.size);
  void *place = (void *)session->link.base;
  int protection = session->link.direct ? PROT_READ | PROT_WRITE : PROT_READ;
  void *got = mmap(place, session->link.size, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, session->link.map_fd, 0);
  if (got != place) {
    if (got != MAP_FAILED) munmap(got, session->link.size);
    /* Two threads may have come here at once. */
    for (const dsm_session *other = handles_open(); other != NULL; other = other->next)
      if (other->link.base == session->link.base && strcmp(other->link.name, session->link.name) == 0)
        return joined_before(session->link.name);
    if (tool_is_thread_sanitizer() && (uintptr_t)place < WIRE_ADDRESS_NARROW_FIRST)
      return dsm_fail(
          DSM_SYSTEM,
          "ThreadSanitizer allows no memory at %p, where the map of this session is; a daemon gives its first "
          "%u sessions another address",
          place, WIRE_ADDRESS_NARROW_SLOTS);
    if (got == MAP_FAILED && errno == ENOMEM) return no_addresses(session->link.size);
    return dsm_fail(dsm_status_of(got == MAP_FAILED ? errno : 0, DSM_SYSTEM),
                    "the address %p of the map is taken in this process: %s", place,
                    got == MAP_FAILED ? strerror(errno) : "something is there");
  }
  if (dsm_capture_init() != 0) {
    int saved = errno;
    munmap(place, session->link.size);
    return dsm_fail(DSM_SYSTEM, "cannot install the fault handlers: %s", strerror(saved));
  }
  if ((!session->link.direct || direct_may_end) && tool_is_valgrind() && !tool_keeps_registers()) {
    munmap(place, session->link.size);
    return dsm_fail(DSM_SYSTEM,
                    "start valgrind with " TOOL_VALGRIND_OPTIONS
                    ", without which dsm cannot see stores; or have all processes on one node (direct mode)");
  }
  if (wants_bursts()) dsm_burst_init();
  dsm_run_record_opened();
  madvise(place, session->link.size, MADV_DONTFORK);
  if (session->order == ORDER_RELEASE && (!session->link.direct || direct_may_end)) {
    int status = release_prepare(&session->pages);
    if (status != DSM_OK) {
      munmap(place, session->link.size);
      return status;
    }
  }
  if (queues) {
    int status = ring_open(&session->ring, &session->link, path);
    if (status != DSM_OK) {
      munmap(place, session->link.size);
      return status;
    }
    if (session->order == ORDER_RELEASE) session->pages.ring = &session->ring;
  }
  /* A session that is not in direct mode can do without: each operation is a request then. */
  if (map_cells(session, path, cells) != 0 && session->link.direct) {
    int saved = errno;
    ring_close(&session->ring);
    munmap(place, session->link.size);
    return dsm_fail(dsm_status_of(saved, DSM_NO_MEMORY), "cannot map the session's cells: %s", strerror(saved));
  }
  advice_begin(&session->advice, session->order == ORDER_RELEASE || is_quiet(), now_ns());
  session->region = dsm_region_add(session->link.base, session->link.size, &session_sink, session);
  if (session->region < 0) {
    cells_close(&session->cells);
    ring_close(&session->ring);
    munmap(place, session->link.size);
    return dsm_fail(DSM_LIMIT, "this process has too many maps; leave a session first");
  }
  copies_show_open(&session->pages);
  if (direct_may_end) {
    int status = direct_exit_begin(&session->direct_exit, &session->link, &session->pages);
    if (status != DSM_OK) {
      dsm_region_remove(session->region);
      pages_drop(&session->pages);
      cells_close(&session->cells);
      ring_close(&session->ring);
      munmap(place, session->link.size);
    }
    return status;
  }
  return DSM_OK;
}

/* Joins. A process of `dsm run` that waits for the others of its run says so; in an elastic session it could be others
 * that come. */
static int join_recorded(const dsm_config *config, struct arbiter_place *place, int *fd, struct reply *reply) {
  const char *run_session = getenv(SETTING_SESSION);
  uint64_t wait = 0;
  if (config->processes != 0 && !config->elastic && run_session != NULL && strcmp(config->session, run_session) == 0)
    wait = dsm_run_record_waits(config->processes);
  int status = join_session(config, place, fd, reply);
  dsm_run_record_waited(wait, status == DSM_OK);
  return status;
}

static int open_session(const dsm_config *given, dsm_session **result) {
  if (result == NULL) return dsm_fail(DSM_INVALID, "dsm_open: nowhere to put the session");
  *result = NULL;
  if (session_check_stack() != DSM_OK) return DSM_INVALID;
  dsm_config config;
  int status = DSM_OK;
  if (given != NULL)
    config = *given;
  else
    status = dsm_config_init(&config);
  char node[DSM_NAME_MAX + 1];
  if (status == DSM_OK) status = config_complete(&config, node);
  struct arbiter_place place;
  if (status == DSM_OK) status = arbiter_locate(&config, &place);
  if (status == DSM_OK) status = check_first(&config);
  if (status != DSM_OK) return status;
  handles_watch_forks();

  dsm_session *session = handle_take();
  if (session == NULL) return dsm_fail(DSM_NO_MEMORY, "no memory for a session");
  session->link.map_fd = -1;
  session->region = -1;
  session->link.pid = getpid();
  session->link.main_fd = -1;
  if (channel_pool_init(&session->link.channels) != 0) {
    handle_give(session);
    return dsm_fail(DSM_NO_MEMORY, "no memory for a session");
  }
  pages_init(&session->pages, &session->link);

  struct reply reply;
  status = join_recorded(&config, &place, &session->link.main_fd, &reply);
  const struct wire_joined *joined = (const struct wire_joined *)reply.body;
  if (status == DSM_OK) {
    session->link.rank = reply.header.related_rank;
    session->processes = joined->processes;
    session->link.base = joined->base;
    session->link.size = joined->size;
    pool_init(&session->pool, joined->size);
    session->order = (int)joined->order;
    session->on_loss = (int)joined->on_loss;
    session->link.elastic = joined->elastic == 1;
    session->link.direct = joined->direct == 1;
    memcpy(session->link.name, config.session, strlen(config.session));
    memcpy(session->node, joined->node_name, DSM_NAME_MAX);
    memcpy(session->link.channels.path, place.connected, sizeof place.connected);
    session->link.channels.token = joined->token;
    session->link.channels.rank = (uint16_t)session->link.rank;
    char path[sizeof joined->map_path + 1] = {0};
    memcpy(path, joined->map_path, sizeof joined->map_path);
    /* Stores must not depend on a free descriptor at the time of the store. */
    if (channel_pool_connect(&session->link.channels) != 0)
      status = channel_is_short(errno)
                   ? dsm_fail(DSM_LIMIT, "no further connection to the arbiter: %s", link_shortage(errno))
                   : link_unreachable(&session->link);
    handles_lock();
    unsigned open_sessions = 0;
    for (dsm_session *other = handles_open(); other != NULL; other = other->next) open_sessions++;
    if (status == DSM_OK)
      status = open_sessions < DSM_SESSIONS_MAX
                   ? map_session(session, path)
                   : dsm_fail(DSM_LIMIT, "this process has %u sessions, the limit; leave one first", open_sessions);
    if (status == DSM_OK) handles_add(session);
    handles_unlock();
  }
  if (status != DSM_OK) {
    session_release_resources(session);
    handle_give(session);
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
