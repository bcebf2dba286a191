/* Calls by which the kernel writes to memory, for any address; dsm.h declares the others. interpose.c exports them
 * under their standard names. */
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
