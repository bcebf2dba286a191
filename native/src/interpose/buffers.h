/* Buffers: which parts of the memory that a program reads into lie in the map. handler-safe. */
#ifndef DSM_BUFFERS_H
#define DSM_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "interpose/scratch.h"

#pragma GCC visibility push(hidden)

/* Copies from memory that may not be there; false: the kernel, given the same address, reports it better. */
bool buffers_fetch(void *to, const void *from, size_t size);

/* Returns whether the caller's stack lies in the map, and with it what is kept here meanwhile. Then the kernel has the call
 * as it is: in direct mode it can write there. */
bool stack_in_map(void);

bool in_map(const void *address, size_t size);

/* Counts how much of the buffers is in the map, and into how many parts its edges divide them. False: the kernel reports
 * what is wrong with them. */
bool buffers_survey(const struct iovec *buffers, size_t count, size_t *inside, size_t *parts);

/* Fills in the parts for the buffers, from byte `skip` of them on. Returns how many; *total is their length. */
unsigned buffers_divide(struct scratch *s, const struct iovec *buffers, size_t count, size_t skip, size_t *total);

/* Publishes the first `size` bytes that the parts got. 0, or -1 with errno EIO. */
int buffers_publish(const struct scratch *s, unsigned parts, size_t size);

#pragma GCC visibility pop

#endif
