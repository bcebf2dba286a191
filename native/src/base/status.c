#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static __thread char last_error[480];

static const char *const names[] = {
    [DSM_OK] = "DSM_OK",
    [DSM_AGAIN] = "DSM_AGAIN",
    [DSM_TIMEOUT] = "DSM_TIMEOUT",
    [DSM_LOST] = "DSM_LOST",
    [DSM_FULL] = "DSM_FULL",
    [DSM_MISMATCH] = "DSM_MISMATCH",
    [DSM_VERSION] = "DSM_VERSION",
    [DSM_INVALID] = "DSM_INVALID",
    [DSM_ENDED] = "DSM_ENDED",
    [DSM_OVERFLOW] = "DSM_OVERFLOW",
    [DSM_LIMIT] = "DSM_LIMIT",
    [DSM_BUSY] = "DSM_BUSY",
    [DSM_LEFT] = "DSM_LEFT",
    [DSM_NO_MEMORY] = "DSM_NO_MEMORY",
    [DSM_FORKED] = "DSM_FORKED",
    [DSM_UNREACHABLE] = "DSM_UNREACHABLE",
    [DSM_PROTOCOL] = "DSM_PROTOCOL",
    [DSM_SYSTEM] = "DSM_SYSTEM",
    [DSM_REFUSED] = "DSM_REFUSED",
    [DSM_OWNER_DIED] = "DSM_OWNER_DIED",
    [DSM_NOT_OWNER] = "DSM_NOT_OWNER",
};
#define NAMES ((int)(sizeof names / sizeof names[0]))

int dsm_fail(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  return status;
}

int dsm_status_of(int error, int otherwise) {
  switch (error) {
    case EMFILE:
    case ENFILE: return DSM_LIMIT;
    case ENOMEM: return DSM_NO_MEMORY;
    default: return otherwise;
  }
}

const char *dsm_last_error(void) {
  return last_error;
}

const char *dsm_status_name(int status) {
  return status >= 0 && status < NAMES ? names[status] : "unknown status";
}

int dsm_status_by_name(const char *name) {
  for (int i = 1; i < NAMES; i++)
    if (strcmp(names[i], name) == 0) return i;
  return DSM_PROTOCOL;
}
