/* Finds the dsm program. */
#ifndef DSM_FIND_BINARY_H
#define DSM_FIND_BINARY_H

#include <limits.h>

#include <dsm/dsm.h>

#pragma GCC visibility push(hidden)

/* Looks at the given path, beside or above this library if only this user and root can have put the program there (the
 * program that this is linked into may lie in /tmp), in PATH, and in /usr/local. Returns a status and keeps its
 * reason. */
int find_binary(const dsm_config *config, char path[PATH_MAX]);

#pragma GCC visibility pop

#endif
