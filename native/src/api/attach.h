/* Calls for bindings beside dsm.h: the TypeScript client opens channels of its own, and reads errors across threads; Python
 * interrupts waits, and has arrays over maps of sessions that it has left. */
#ifndef DSM_ATTACH_H
#define DSM_ATTACH_H

#include <dsm/dsm.h>
#include "link/interrupts.h"

#pragma GCC visibility push(default)

struct dsm_attach {
  char socket[108]; /* path of the arbiter's Unix socket */
  uint8_t token[8]; /* body of the ATTACH frame */
  uint32_t rank;
  uint32_t direct_may_end; /* 1: it is in direct mode, or was, which may end: ask dsm_is_direct() each time */
};

/* Records the number of processes in an elastic session, which the client got from a barrier on a channel of its
 * own. */
int dsm_set_processes(dsm_session *session, uint32_t processes);

int dsm_attach_info(const dsm_session *session, struct dsm_attach *attach);

/* The record that is read from the descriptor of dsm_open_start(). */
struct dsm_opened {
  int32_t status;
  uint32_t reserved;
  dsm_session *session; /* NULL unless status is DSM_OK */
  char text[496]; /* the reason of a failure, zero-terminated */
};

/* Starts dsm_open() on a thread of its own: joins may wait long, and for each other in any order, so they must not
 * share the few threads of a pool. Returns at once with a status; on DSM_OK *fd is a non-blocking pipe that delivers
 * one struct dsm_opened when the call has returned, and then end of file. The caller closes it. At most
 * DSM_SESSIONS_MAX at once. */
int dsm_open_start(const dsm_config *config, int *fd);

/* dsm_close(), with the reason of a failure copied to `text` (zero-terminated): the call may run on a thread whose
 * dsm_last_error() the caller cannot read. */
int dsm_close_text(dsm_session *session, char *text, size_t text_size);
int dsm_hole_fill_text(dsm_session *session, int hole, char *text, size_t text_size);

/* Sets what ends waits of this thread early: barriers, semaphores, locks, sleeping and joining; NULL: only their
 * timeouts. A wait that is ended gives DSM_TIMEOUT, or what it got meanwhile. Returns what was set before. The struct
 * must exist until it is replaced. */
struct dsm_interrupts *dsm_interrupt_waits(struct dsm_interrupts *interrupts);

/* Lets stores to the map go on after dsm_close() has left the session: they change the copy in this process only, and
 * the first one prints a message. Otherwise a store ends the process. Returns a status. */
int dsm_forgive_stores(dsm_session *session);

/* ---- locks and semaphores for the client's promise forms (ffi_sync.c) ----
 *
 * A promise form first asks for what needs no request and does not wait: DSM_AGAIN, nothing was done, and the client sends a
 * request on its channel. The answer to that request says which cell the node uses, `cell`. */
int dsm_lock_at_once(dsm_session *session, const char *name);
int dsm_unlock_at_once(dsm_session *session, const char *name);
int dsm_lock_granted(dsm_session *session, const char *name, uint64_t cell);
int dsm_sem_wait_at_once(dsm_session *session, const char *name);
int dsm_sem_post_at_once(dsm_session *session, const char *name);
int dsm_sem_granted(dsm_session *session, const char *name, uint64_t cell);

/* The same for objects in the map. DSM_BUSY: this thread has the mutex. DSM_NOT_OWNER: it does not. */
int dsm_mutex_lock_at_once(dsm_mutex *mutex);
int dsm_mutex_unlock_at_once(dsm_mutex *mutex);
int dsm_mutex_granted(dsm_mutex *mutex, uint64_t cell);
int dsm_semaphore_wait_at_once(dsm_semaphore *semaphore);
int dsm_semaphore_post_at_once(dsm_semaphore *semaphore);
int dsm_semaphore_granted(dsm_semaphore *semaphore, uint64_t cell);

/* What this process keeps of the thread that has a mutex or writes under a reader-writer lock. dsm_object_check(): DSM_BUSY if
 * it is the calling thread. dsm_object_own(): it is the calling thread from now on. dsm_object_disown(): no longer;
 * DSM_NOT_OWNER: it was another. */
int dsm_object_check(void *object);
int dsm_object_own(void *object);
int dsm_object_disown(void *object);

#pragma GCC visibility pop

#endif
