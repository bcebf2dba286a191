/* Finding the dsm program. */
#ifndef DSM_FIND_BINARY_H
#define DSM_FIND_BINARY_H

#include <limits.h>

#include <dsm/dsm.h>

#pragma GCC visibility push(hidden)

/* Finds it: the one given, beside or above this library if only this user and root can have put it there (the program that
 * this is linked into may lie in /tmp), in PATH, or in /usr/local. A status, with its words kept. */
int find_binary(const dsm_config *config, char path[PATH_MAX]);

#pragma GCC visibility pop

#endif
