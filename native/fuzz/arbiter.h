/* An arbiter within the program under test, for tests of the library that need nothing else: the map is a file in
 * /dev/shm, removed when the program ends, and each connection has a thread. It answers as the real one does, or with
 * what a test gives it. */
#ifndef ARBITER_H
#define ARBITER_H

#include "link/channel.h"
#include "session/session.h"

struct arbiter {
  /* To be set. */
  uintptr_t base; /* of the map, in JOINED */
  uint64_t size;
  /* NULL, or what to do with a frame instead: sends what it likes. 0, or -1: close the connection. */
  int (*answer)(int fd, const struct wire_header *header, const uint8_t *body);

  int map_fd;
  uint8_t *map; /* the map's bytes, at an address of our own */
  char path[128];
};

/* Starts it where dsm_open with this configuration looks for it; it stays for as long as the program. */
void arbiter_start(struct arbiter *arbiter, const dsm_config *config);

/* From now on sessions are new ones, of this order, with an empty map. */
void arbiter_reset(enum session_order order);

/* Between these nothing is ordered: the map may be looked at. */
void arbiter_lock(void);
void arbiter_unlock(void);

#endif
