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

/* Numbers are part of the wire protocol. */
enum session_order { ORDER_ANY = 0, ORDER_SEQUENTIAL = 1, ORDER_RELEASE = 2, ORDER_PIPELINED = 3 };

enum session_on_loss { ON_LOSS_ANY = 0, ON_LOSS_FAIL = 1, ON_LOSS_CONTINUE = 2 };

struct dsm_session {
  struct arbiter_link link;
  struct pages pages;
  struct ring ring;
  struct direct_exit direct_exit;
  struct advice advice;
  char node[DSM_NAME_MAX + 1];
  _Atomic uint32_t processes; /* of an elastic session: when it was counted last */
  int order;                  /* enum session_order */
  int on_loss;                /* enum session_on_loss */
  int region;                 /* index of the region */
  atomic_uint calls;          /* under way in any thread; leaving waits for their end */
  struct dsm_session *next;   /* list of open sessions, of departed ones, or of spare handles (handles.h) */
};

#pragma GCC visibility push(hidden)

/* Returns DSM_OK if this process may use the session now, else a status with its words kept. */
int session_check(const dsm_session *session);

/* Refuses to run on a stack in the map: a call may block signals, and has the kernel write to its variables. */
int session_check_stack(void);

/* session_check(), and until session_end() the session keeps what the call needs. Only after DSM_OK is there an end. */
int session_begin(dsm_session *session);
void session_end(dsm_session *session);

/* Waits until no call is under way. */
void session_await_calls(dsm_session *session);

/* Records how many processes a barrier had: in an elastic session that changes. */
void session_count(dsm_session *session, uint64_t processes);

#pragma GCC visibility pop

#endif
