/* Buffers: which parts of the memory that a program reads into lie in the map. handler-safe. */
#ifndef DSM_BUFFERS_H
#define DSM_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "interpose/scratch.h"

#pragma GCC visibility push(hidden)

/* Copies from memory that may be unmapped. Returns false if it is: the real call, given the same address, then reports
 * it. */
bool buffers_fetch(void *to, const void *from, size_t size);

/* Returns whether the stack of the caller lies in the map, and with it our local variables. The call then goes to the
 * kernel unchanged: in direct mode it can write there. */
bool stack_in_map(void);

bool in_map(const void *address, size_t size);

/* Counts how many bytes of the buffers are in the map, and into how many parts the edges of the map divide them.
 * Returns false for invalid buffers, which the kernel then reports. */
bool buffers_survey(const struct iovec *buffers, size_t count, size_t *inside, size_t *parts);

/* Fills in the parts for the buffers, starting at byte `skip` of them. Returns their number; *total is their length. */
unsigned buffers_divide(struct scratch *s, const struct iovec *buffers, size_t count, size_t skip, size_t *total);

/* Publishes the first `size` bytes that were read into the parts. Returns 0, or -1 with errno EIO. */
int buffers_publish(const struct scratch *s, unsigned parts, size_t size);

#pragma GCC visibility pop

#endif
