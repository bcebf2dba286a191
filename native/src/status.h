/* Status codes with words: what every call of the session interface returns and leaves behind for dsm_last_error(). */
#ifndef DSM_STATUS_H
#define DSM_STATUS_H

#include "../include/dsm/dsm.h"

/* Keeps the reason for dsm_last_error() of this thread and returns `status`. Not handler-safe. */
int dsm_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3), visibility("hidden")));

/* The status with this name ("DSM_FULL"), or DSM_PROTOCOL. */
int dsm_status_by_name(const char *name) __attribute__((visibility("hidden")));

#endif
