/* An open session, as the parts of the library share it. */
#ifndef DSM_SESSION_H
#define DSM_SESSION_H

#include <stdatomic.h>
#include <sys/types.h>

#include "../include/dsm/dsm.h"
#include "advice.h"
#include "channel.h"
#include "hole.h"
#include "region.h"
#include "ring.h"
#include "watch.h"

#define PAGE_BYTES 4096u
#define JOIN_TIMEOUT_MS 300000u
/* How long a started arbiter may take until it listens. */
#define ARBITER_TIMEOUT_MS 30000
/* How long a process that has left waits for the arbiter to close its connection. */
#define ARBITER_END_TIMEOUT_MS 5000

/* Numbers are part of the wire protocol. */
enum session_order { ORDER_ANY = 0, ORDER_SEQUENTIAL = 1, ORDER_RELEASE = 2, ORDER_PIPELINED = 3 };

enum session_on_loss { ON_LOSS_ANY = 0, ON_LOSS_FAIL = 1, ON_LOSS_CONTINUE = 2 };

struct dsm_session {
  char name[DSM_NAME_MAX + 1];
  char node[DSM_NAME_MAX + 1];
  uint32_t rank;
  _Atomic uint32_t processes; /* of an elastic session: when it was counted last */
  uintptr_t base;
  uint64_t size;
  pid_t pid;      /* the process that joined */
  int main_fd;    /* connection whose end is this process's end; with a watch, that alone reads from it */
  int map_fd;     /* the replica's file; read-only but in direct mode, also when that is over, and under pipelined */
  int order;      /* enum session_order */
  int elastic;    /* processes may join while it runs */
  int on_loss;    /* enum session_on_loss */
  atomic_int direct; /* all processes are on this node and share the replica read-write. Changed, once, under the holes'
                        lock; from then on the map is as in any other session */
  int region;     /* index of the region */
  atomic_int left; /* this process has left; the handle stays for a while, so that later calls can be told */
  atomic_int dead; /* the arbiter is gone: nothing can be ordered any more */
  atomic_uint calls; /* under way in any thread; leaving waits for their end */
  struct watch watch;
  struct channel_pool channels;
  struct hole_table holes;
  struct ring ring;
  struct advice advice;
  struct dsm_session *next; /* list of open sessions, of left ones, or of spare handles */
};

#pragma GCC visibility push(hidden)

/* DSM_OK, or DSM_INVALID with the reason. */
int session_check_name(const char *what, const char *name);

/* A barrier had so many processes: an elastic session has. */
void session_count(dsm_session *session, uint64_t processes);

/* DSM_OK if the session may be used by this process now. */
int session_check(const dsm_session *session);

/* Whether a store to some of these bytes may trap: they lie in the map of an open session that is not, or need not stay,
 * in direct mode. */
int session_may_trap(const void *bytes, size_t size);

/* session_check(), and until session_end() the session keeps what the call needs. Only after DSM_OK is there an end. */
int session_begin(dsm_session *session);
void session_end(dsm_session *session);

/* Fails because the connection to the arbiter has ended: it is gone, or this process has left meanwhile. */
int session_gone(const dsm_session *session);

/* One request and its answer on a channel of the pool. `wait` is for barriers and semaphores, which may take long.
 * timeout_ms < 0: no limit; after it the request is taken back with SEM_CANCEL. A status, with its words kept;
 * header->offset is the number that the answer carries. */
int session_request(dsm_session *session, struct wire_header *header, const void *body, size_t body_size, int wait,
                    int timeout_ms);

/* Under release: publishes what this process has written since the last time. A status, with its words kept. */
int release_stores(dsm_session *session);

/* Publishes runs as one entry and waits for its place. 0, or -1: the arbiter is gone. handler-safe. */
int session_publish(dsm_session *session, const struct dsm_run *runs, uint32_t count);

/* A detached thread in which no handler of the program runs, with `stack` bytes (0: as usual). 0, or an error number: ENOSYS
 * where the program has no threads. */
int session_start_thread(void *(*run)(void *), void *argument, size_t stack);
/* Whether it can have one. */
int session_has_threads(void);

/* Maps [offset, offset + length) of the map, again, from the replica. 0, or -1 with errno. handler-safe. */
int session_map_replica(const dsm_session *session, uint64_t offset, uint64_t length);

#pragma GCC visibility pop

#endif
