/* The calls that put bytes into memory by way of the kernel, for any address; dsm.h has the others. interpose.c gives
 * them the names programs know. */
#ifndef DSM_KERNEL_IO_H
#define DSM_KERNEL_IO_H

#include <stdio.h>

#include <dsm/dsm.h>

#pragma GCC visibility push(default)

size_t dsm_fread(void *buffer, size_t size, size_t count, FILE *file);
size_t dsm_fread_unlocked(void *buffer, size_t size, size_t count, FILE *file);
ssize_t dsm_getrandom(void *buffer, size_t size, unsigned flags);

#pragma GCC visibility pop

#endif
