#define _GNU_SOURCE
#include "session/handles.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "burst/burst.h"
#include "trap/region.h"
#include "trap/signals.h"

static pthread_mutex_t sessions_lock = PTHREAD_MUTEX_INITIALIZER;
static dsm_session *sessions;

/* Handles of sessions that this process has left, oldest first: DSM_LEFT_MAX of them, for which calls return DSM_LEFT.
 * Older handles are spare and are reused for new sessions. None is freed: a thread that returns from session_end() may
 * still read it. */
static dsm_session *departed_oldest, *departed_newest, *spare;
static unsigned departed_count;
/* The open sessions again, for handle_at(), which takes no lock. */
static _Atomic(dsm_session *) open_table[DSM_SESSIONS_MAX];
static atomic_uint open_table_used; /* no entry from this one on was ever used */

void handles_lock(void) {
  pthread_mutex_lock(&sessions_lock);
}

void handles_unlock(void) {
  pthread_mutex_unlock(&sessions_lock);
}

dsm_session *handles_open(void) {
  return sessions;
}

void handles_add(dsm_session *session) {
  session->next = sessions;
  sessions = session;
  unsigned entry = 0;
  while (entry < DSM_SESSIONS_MAX && atomic_load(&open_table[entry]) != NULL) entry++;
  if (entry == DSM_SESSIONS_MAX) return; /* dsm_open() allows no more than that */
  atomic_store(&open_table[entry], session);
  if (entry >= atomic_load(&open_table_used)) atomic_store(&open_table_used, entry + 1);
}

void handles_remove(const dsm_session *session) {
  for (unsigned entry = 0; entry < DSM_SESSIONS_MAX; entry++)
    if (atomic_load(&open_table[entry]) == session) atomic_store(&open_table[entry], NULL);
  for (dsm_session **at = &sessions; *at != NULL; at = &(*at)->next)
    if (*at == session) {
      *at = session->next;
      break;
    }
}

dsm_session *handle_at(const void *address) {
  unsigned used = atomic_load_explicit(&open_table_used, memory_order_acquire);
  for (unsigned entry = 0; entry < used; entry++) {
    dsm_session *session = atomic_load_explicit(&open_table[entry], memory_order_acquire);
    if (session != NULL && (uintptr_t)address - session->link.base < session->link.size) return session;
  }
  return NULL;
}

static dsm_session *holds(dsm_session *session, uintptr_t address) {
  while (session != NULL && address - session->link.base >= session->link.size) session = session->next;
  return session;
}

dsm_session *handle_of(const void *address) {
  handles_lock();
  dsm_session *session = holds(sessions, (uintptr_t)address);
  if (session == NULL) session = holds(departed_oldest, (uintptr_t)address);
  handles_unlock();
  return session;
}

int session_may_trap(const void *bytes, size_t size) {
  uintptr_t from = (uintptr_t)bytes;
  int may = 0;
  if (!dsm_regions_near(bytes, size)) return 0;
  handles_lock();
  for (const dsm_session *session = sessions; session != NULL; session = session->next)
    may |= from < session->link.base + session->link.size && from + size > session->link.base &&
           session->link.pid == getpid() && (!session->link.direct || session->link.elastic);
  handles_unlock();
  return may;
}

dsm_session *handle_take(void) {
  pthread_mutex_lock(&sessions_lock);
  dsm_session *session = spare;
  if (session != NULL) spare = session->next;
  pthread_mutex_unlock(&sessions_lock);
  if (session == NULL) return calloc(1, sizeof *session);
  memset(session, 0, sizeof *session);
  return session;
}

void handle_give(dsm_session *session) {
  cells_close(&session->cells);
  object_states_close(&session->objects, session->link.size);
  pthread_mutex_lock(&sessions_lock);
  session->next = spare;
  spare = session;
  pthread_mutex_unlock(&sessions_lock);
}

void handle_keep(dsm_session *session) {
  dsm_session *oldest = NULL;
  pthread_mutex_lock(&sessions_lock);
  session->next = NULL;
  if (departed_newest != NULL)
    departed_newest->next = session;
  else
    departed_oldest = session;
  departed_newest = session;
  if (++departed_count > DSM_LEFT_MAX) {
    oldest = departed_oldest;
    departed_oldest = oldest->next;
    departed_count--;
  }
  pthread_mutex_unlock(&sessions_lock);
  if (oldest != NULL) handle_give(oldest);
}

static void close_connections(dsm_session *session) {
  channel_close_all(&session->link.channels);
  if (session->link.main_fd >= 0) close(session->link.main_fd);
  session->link.main_fd = -1;
}

/* Runs in a forked child. The connections belong to the parent, and must end with the parent, not with the child. */
static void after_fork_in_child(void) {
  dsm_actions_in_child();
  dsm_burst_in_child();
  for (dsm_session *session = sessions; session != NULL; session = session->next) {
    close_connections(session);
    ring_forked(&session->ring);
    /* The child does not have them mapped. */
    session->cells.bytes = NULL;
    atomic_store(&session->objects, NULL);
    /* In a new PID namespace the child may have the same process id as its parent. */
    session->link.pid = -1;
  }
  for (dsm_session *session = departed_oldest; session != NULL; session = session->next) {
    session->cells.bytes = NULL;
    atomic_store(&session->objects, NULL);
  }
  pthread_mutex_init(&sessions_lock, NULL);
}

static void before_fork(void) {
  pthread_mutex_lock(&sessions_lock);
}

static void after_fork_in_parent(void) {
  pthread_mutex_unlock(&sessions_lock);
}

void handles_watch_forks(void) {
  static int watching;
  pthread_mutex_lock(&sessions_lock);
  if (!watching) pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  watching = 1;
  pthread_mutex_unlock(&sessions_lock);
}

void session_release_resources(dsm_session *session) {
  close_connections(session);
  ring_close(&session->ring);
  object_states_retire(&session->objects, session->link.size);
  free(session->link.channels.slots);
  session->link.channels.slots = NULL;
  if (session->link.map_fd >= 0) close(session->link.map_fd);
  session->link.map_fd = -1;
}
