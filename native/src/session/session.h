/* Session: an open session, as the parts of the library share it. */
#ifndef DSM_SESSION_H
#define DSM_SESSION_H

#include <stdatomic.h>
#include <stddef.h>

#include <dsm/dsm.h>
#include "link/arbiter_link.h"
#include "pages/pages.h"
#include "pages/ring.h"
#include "session/advice.h"
#include "session/direct_exit.h"
#include "session/barrier_cell.h"
#include "session/cells.h"
#include "session/object_states.h"
#include "session/pool.h"

/* Numbers are part of the wire protocol. */
enum session_order { ORDER_ANY = 0, ORDER_SEQUENTIAL = 1, ORDER_RELEASE = 2, ORDER_PIPELINED = 3 };

enum session_on_loss { ON_LOSS_ANY = 0, ON_LOSS_FAIL = 1, ON_LOSS_CONTINUE = 2 };

struct dsm_session {
  struct arbiter_link link;
  struct pages pages;
  struct ring ring;
  struct direct_exit direct_exit;
  struct cells cells;
  struct barrier_cell barrier_cell;
  object_states objects;
  struct advice advice;
  struct pool pool;
  char node[DSM_NAME_MAX + 1];
  _Atomic uint32_t processes; /* in an elastic session: the last count */
  int order;                  /* enum session_order */
  int on_loss;                /* enum session_on_loss */
  int region;                 /* index of the region */
  atomic_uint calls;          /* in progress in any thread; leaving waits for their end */
  struct dsm_session *next;   /* list of open sessions, of departed ones, or of spare handles (handles.h) */
};

#pragma GCC visibility push(hidden)

/* Returns DSM_OK if this process may use the session now, else a status, and keeps its reason. */
int session_check(const dsm_session *session);

/* Fails on a stack in the map: calls may block signals, and the kernel writes to their local variables. */
int session_check_stack(void);

/* Checks like session_check(), and keeps the session's resources until session_end(), which is called only after
 * DSM_OK. */
int session_begin(dsm_session *session);
void session_end(dsm_session *session);

/* Keeps the session's resources without a check, until session_let_go(). */
void session_keep(dsm_session *session);
void session_let_go(dsm_session *session);

/* Waits until no call is in progress. */
void session_await_calls(dsm_session *session);

/* Records the number of processes in a barrier, which changes in an elastic session. */
void session_count(dsm_session *session, uint64_t processes);

#pragma GCC visibility pop

#endif
