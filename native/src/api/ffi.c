/* Calls for bindings: errors that are not thread-local, a join that does not block a thread of the caller's pool, waits
 * that an interpreter can interrupt, stores after leaving. */
#define _GNU_SOURCE
#include "api/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "link/thread.h"
#include "session/session.h"
#include "trap/region.h"

int dsm_set_processes(dsm_session *session, uint32_t processes) {
  session_count(session, processes);
  return DSM_OK;
}

int dsm_attach_info(const dsm_session *session, struct dsm_attach *attach) {
  int status = session_check(session);
  if (status != DSM_OK) return status;
  memset(attach, 0, sizeof *attach);
  memcpy(attach->socket, session->link.channels.path, sizeof attach->socket);
  memcpy(attach->token, &session->link.channels.token, sizeof attach->token);
  attach->rank = session->link.rank;
  attach->direct_may_end = session->direct_exit.is_on;
  return DSM_OK;
}

static int with_text(int status, char *text, size_t text_size) {
  if (text_size > 0) snprintf(text, text_size, "%s", status == DSM_OK ? "" : dsm_last_error());
  return status;
}

/* The state of one dsm_open_start(): a copy of the settings, and the pipe for the outcome. */
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
  if (opening->fd >= 0) close(opening->fd);
  free(opening);
  atomic_fetch_sub(&openings, 1);
}

static void *open_thread(void *argument) {
  struct opening *opening = argument;
  struct dsm_opened opened;
  memset(&opened, 0, sizeof opened);
  opened.status = with_text(dsm_open(&opening->config, &opened.session), opened.text, sizeof opened.text);
  /* The struct fits into the empty pipe as a whole. If the program has closed the pipe, leave the session again. */
  if (write(opening->fd, &opened, sizeof opened) != sizeof opened && opened.status == DSM_OK) dsm_close(opened.session);
  free_opening(opening);
  return NULL;
}

int dsm_open_start(const dsm_config *config, int *fd) {
  if (config == NULL || fd == NULL) return dsm_fail(DSM_INVALID, "dsm_open_start: an argument is NULL");
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
  const char **texts[] = {&opening->config.session, &opening->config.node,  &opening->config.daemon,
                          &opening->config.binary,  &opening->config.order, &opening->config.on_loss};
  int copied = 1;
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
    if (*texts[i] != NULL && (*texts[i] = strdup(*texts[i])) == NULL) copied = 0;
  int error = !copied ? ENOMEM : 0;
  if (error == 0 && pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) error = errno;
  opening->fd = ends[1];
  if (error == 0) error = thread_start(open_thread, opening, 0);
  if (error != 0) {
    free_opening(opening);
    if (ends[0] >= 0) close(ends[0]);
    if (error == EAGAIN)
      return dsm_fail(DSM_LIMIT,
                      "cannot start a thread to join: %s; raise ulimit -u and ulimit -v, or the pids limit of the "
                      "container",
                      strerror(error));
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

struct dsm_interrupts *dsm_interrupt_waits(struct dsm_interrupts *interrupts) {
  return interrupts_replace(interrupts);
}

int dsm_forgive_stores(dsm_session *session) {
  if (session == NULL || session->link.pid != getpid() || atomic_load(&session->link.left))
    return session_check(session);
  dsm_region_await_copy(session->region);
  return DSM_OK;
}
