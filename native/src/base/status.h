/* Status codes with a reason: every call of the session interface returns the code, and keeps the reason for
 * dsm_last_error(). */
#ifndef DSM_STATUS_H
#define DSM_STATUS_H

#include <dsm/dsm.h>

/* Keeps the reason for dsm_last_error() of this thread and returns `status`. Not handler-safe. */
int dsm_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3), visibility("hidden")));

/* Returns the status for the `error` of a system call: DSM_LIMIT if out of file descriptors, DSM_NO_MEMORY if out of
 * memory, else `otherwise`. */
int dsm_status_of(int error, int otherwise) __attribute__((visibility("hidden")));

/* Returns the status with this name ("DSM_FULL"), or DSM_PROTOCOL. */
int dsm_status_by_name(const char *name) __attribute__((visibility("hidden")));

#endif
