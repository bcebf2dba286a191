/* Status codes with words: what every call of the session interface returns and leaves behind for dsm_last_error(). */
#ifndef DSM_STATUS_H
#define DSM_STATUS_H

#include "../include/dsm/dsm.h"

/* Keeps the reason for dsm_last_error() of this thread and returns `status`. Not handler-safe. */
int dsm_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3), visibility("hidden")));

/* What a system call's `error` means to a program: DSM_LIMIT for file descriptors that have run out, DSM_NO_MEMORY for memory,
 * else `otherwise`. */
int dsm_status_of(int error, int otherwise) __attribute__((visibility("hidden")));

/* The status with this name ("DSM_FULL"), or DSM_PROTOCOL. */
int dsm_status_by_name(const char *name) __attribute__((visibility("hidden")));

#endif
