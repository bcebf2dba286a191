#define _GNU_SOURCE
#include "pages/lent.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"

/* Returns whether the descriptor refers to the requested file. */
static int is_whole(const struct arbiter_link *link, int fd) {
  struct stat st;
  return syscall(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode) &&
         (uint64_t)st.st_size == link->size + WIRE_STAGING_SIZE;
}

int lent_memory(struct arbiter_link *link, int *fd) {
  *fd = -1;
  struct channel_pool *pool = &link->channels;
  int slot = channel_claim(pool, CHANNEL_STORE);
  int channel = channel_descriptor(pool, slot);
  struct wire_header header = {.size = sizeof header, .kind = WIRE_MEMORY};
  struct reply reply;
  int answered = channel >= 0 && channel_send(channel, &header, sizeof header) == 0 &&
                 channel_receive_descriptor(channel, &reply, fd) == 0;
  int failed = !answered || reply.header.kind != WIRE_REPLY;
  if (failed) {
    link_lost(link, answered ? &reply : NULL);
    if (channel >= 0) channel_break(pool, slot);
  }
  channel_release(pool, slot);
  if (failed) return link_gone(link);
  if (reply.header.status != DSM_OK) return dsm_fail(reply.header.status, "%s", (const char *)reply.body);
  if (!reply.header.is_shared) return DSM_OK;
  /* The kernel discards a descriptor if the process is at its limit. */
  if (*fd < 0) return dsm_fail(DSM_LIMIT, "cannot make the memory of holes: %s", strerror(EMFILE));
  if (is_whole(link, *fd)) return DSM_OK;
  syscall(SYS_close, *fd);
  *fd = -1;
  return dsm_fail(DSM_PROTOCOL, "the arbiter gave memory of the wrong size");
}
