#include "sync/wait.h"

#include <stdlib.h>
#include <string.h>

#include "link/interrupts.h"
#include "link/thread.h"
#include "pages/release.h"
#include "trap/tool.h"

/* A wait that was given up before its answer came. */
struct abandoned {
  dsm_session *session; /* with a call in progress */
  int slot;             /* the channel on which the answer comes */
  struct wire_header header;
  char name[DSM_NAME_MAX + 1];
};

/* Gives back what the wait has got. */
static void give_back(const struct abandoned *wait, int status) {
  struct wire_header header = {.name_length = wait->header.name_length};
  if (wait->header.kind == WIRE_LOCK) {
    header.kind = WIRE_UNLOCK;
    header.keeps_mark = status == DSM_OWNER_DIED;
  } else if (wait->header.kind == WIRE_SEM_WAIT) {
    header.kind = WIRE_SEM_POST;
    header.initial = wait->header.initial;
    header.increment = 1;
  } else if (wait->header.kind == WIRE_RW_LOCK) {
    header = (struct wire_header){
        .kind = WIRE_RW_UNLOCK,
        .map_offset = wait->header.map_offset,
        .keeps_mark = status == DSM_OWNER_DIED && wait->header.is_writer,
    };
  } else {
    return; /* nothing is held after a barrier, or after sleeping */
  }
  link_request(&wait->session->link, &header, wait->name, wait->header.name_length, 0, -1);
}

static void *finish(void *argument) {
  struct abandoned *wait = argument;
  struct reply reply;
  tool_enter();
  if (link_finish(&wait->session->link, wait->slot, 0, &reply) == 0 &&
      (reply.header.status == DSM_OK || reply.header.status == DSM_OWNER_DIED))
    give_back(wait, reply.header.status);
  session_end(wait->session);
  free(wait);
  return NULL;
}

int session_wait(dsm_session *session, struct wire_header *header, const void *body, size_t body_size, int timeout_ms) {
  int slot = -1;
  int status = release_request(&session->pages, header, body, body_size, 1, timeout_ms, &slot);
  if (slot < 0) return status;
  struct abandoned *wait = calloc(1, sizeof *wait);
  struct reply reply;
  if (wait == NULL) { /* as without interrupts */
    if (link_finish(&session->link, slot, 0, &reply) != 0) return link_gone(&session->link);
    interrupts_note(reply.header.status);
    return reply.header.status;
  }
  *wait = (struct abandoned){.session = session, .slot = slot, .header = *header};
  if (header->kind == WIRE_LOCK || header->kind == WIRE_SEM_WAIT) memcpy(wait->name, body, header->name_length);
  session_keep(session);
  if (thread_start(finish, wait, 0) != 0) finish(wait);
  return status;
}

int session_catch_up(dsm_session *session, int status) {
  if (status != DSM_OK && status != DSM_OWNER_DIED) return status;
  int caught_up = release_stores(&session->pages);
  return caught_up == DSM_OK ? status : caught_up;
}
