/* Included before every source (-include): keeps libdsm compatible with glibc 2.28, whatever glibc it is built with.
 *
 * Since 2.38 the headers redirect strtol(), sscanf() and similar calls to __isoc23_strtol() and its like, which older
 * glibc does not have. They differ in "0b" for binary numbers, which nothing here reads. The calls that moved from
 * libpthread and libdl to libc in 2.34 are bound to their old versions where they are called. scripts/glibc.ts checks
 * the result. */
#ifndef DSM_GLIBC_H
#define DSM_GLIBC_H

#include <features.h>

#undef __GLIBC_USE_C2X_STRTOL
#define __GLIBC_USE_C2X_STRTOL 0 /* its name in 2.38 and 2.39 */
#undef __GLIBC_USE_C23_STRTOL
#define __GLIBC_USE_C23_STRTOL 0

#endif
