#define _GNU_SOURCE
#include "lent.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "session.h"
#include "status.h"

/* Whether the descriptor is of the file that was asked for. */
static int is_whole(const dsm_session *session, int fd) {
  struct stat st;
  return syscall(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode) &&
         (uint64_t)st.st_size == session->size + WIRE_STAGING_SIZE;
}

int lent_memory(dsm_session *session, int *fd) {
  *fd = -1;
  struct channel_pool *pool = &session->channels;
  int slot = channel_claim(pool, CHANNEL_STORE);
  int channel = channel_descriptor(pool, slot);
  struct wire_header header = {.size = sizeof header, .kind = WIRE_MEMORY};
  struct reply reply;
  int failed = channel < 0 || channel_send(channel, &header, sizeof header) != 0 ||
               channel_receive_descriptor(channel, &reply, fd) != 0 || reply.header.kind != WIRE_REPLY;
  if (failed) {
    atomic_store(&session->dead, 1);
    if (channel >= 0)
      channel_break(pool, slot);
  }
  channel_release(pool, slot);
  if (failed)
    return session_gone(session);
  if (reply.header.op != DSM_OK)
    return dsm_fail(reply.header.op, "%s", (const char *)reply.body);
  if (reply.header.aux == 0)
    return DSM_OK;
  /* The kernel drops a descriptor for which there is no room. */
  if (*fd < 0)
    return dsm_fail(DSM_LIMIT, "cannot make the memory of holes: %s", strerror(EMFILE));
  if (is_whole(session, *fd))
    return DSM_OK;
  syscall(SYS_close, *fd);
  *fd = -1;
  return dsm_fail(DSM_PROTOCOL, "the arbiter gave memory of the wrong size");
}
