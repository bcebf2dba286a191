/* memcpy() and its relatives, for destinations in the map: one operation in place of a trap for each of the stores of
 * which the C library makes them. For all other destinations they cost a comparison.
 *
 * Only in libdsm.so, like libc_outputs.c: the real calls are found by dlsym(RTLD_NEXT). */
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <string.h>
#include <strings.h>

#include "base/next.h"
#include "interpose/buffers.h"
#include "interpose/store_to_map.h"
#include "trap/region.h"

#define EXPORT __attribute__((weak, visibility("default")))
#define IN_MAP(to, size) (__builtin_expect(dsm_regions_near(to, size), 0) && is_captured(to, size))
/* Whether the real function, once it is found, is to be called for a string at `to`. A string that begins before the map
 * and ends in it traps. */
#define IS_ELSEWHERE(real, to) (__builtin_expect(!dsm_regions_near(to, 1) && (real) != NULL, 1))

/* glibc's function that terminates a program that overflows a buffer. */
_Noreturn void __chk_fail(void);

static struct {
  char *(*strcpy)(char *to, const char *from);
  char *(*stpcpy)(char *to, const char *from);
  char *(*strcat)(char *to, const char *from);
  char *(*strncpy)(char *to, const char *from, size_t size);
  char *(*stpncpy)(char *to, const char *from, size_t size);
  char *(*strncat)(char *to, const char *from, size_t size);
} real;

__attribute__((constructor)) static void find_real_calls(void) {
  dsm_find_next(&real.strcpy, "strcpy");
  dsm_find_next(&real.stpcpy, "stpcpy");
  dsm_find_next(&real.strcat, "strcat");
  dsm_find_next(&real.strncpy, "strncpy");
  dsm_find_next(&real.stpncpy, "stpncpy");
  dsm_find_next(&real.strncat, "strncat");
}

/* Whether stores there trap. To memory that the process can store to, a call costs little more than the real one. */
static bool is_captured(const void *to, size_t size) {
  return dsm_region_writable((uintptr_t)to, size) < size && in_map(to, size);
}

static inline void *copy(void *to, const void *from, size_t size) {
  if (!IN_MAP(to, size)) return real_stores.copy(to, from, size);
  move_to_map(to, from, size);
  return to;
}

static inline void *move(void *to, const void *from, size_t size) {
  if (!IN_MAP(to, size)) return real_stores.move(to, from, size);
  move_to_map(to, from, size);
  return to;
}

static inline void *fill(void *to, int byte, size_t size) {
  if (!IN_MAP(to, size)) return real_stores.fill(to, byte, size);
  fill_map(to, byte, size);
  return to;
}

EXPORT void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  return copy(to, from, size);
}

EXPORT void *memmove(void *to, const void *from, size_t size) {
  return move(to, from, size);
}

EXPORT void *mempcpy(void *restrict to, const void *restrict from, size_t size) {
  return (char *)copy(to, from, size) + size;
}

EXPORT void *memset(void *to, int byte, size_t size) {
  return fill(to, byte, size);
}

EXPORT void bcopy(const void *from, void *to, size_t size) {
  move(to, from, size);
}

EXPORT void bzero(void *to, size_t size) {
  fill(to, 0, size);
}

EXPORT char *strcpy(char *restrict to, const char *restrict from) {
  if (IS_ELSEWHERE(real.strcpy, to)) return real.strcpy(to, from);
  return copy(to, from, strlen(from) + 1);
}

EXPORT char *stpcpy(char *restrict to, const char *restrict from) {
  if (IS_ELSEWHERE(real.stpcpy, to)) return real.stpcpy(to, from);
  size_t length = strlen(from);
  copy(to, from, length + 1);
  return to + length;
}

EXPORT char *strcat(char *restrict to, const char *restrict from) {
  if (IS_ELSEWHERE(real.strcat, to)) return real.strcat(to, from);
  copy(to + strlen(to), from, strlen(from) + 1);
  return to;
}

/* Copies as strncpy() does. Returns where the end of the string is. */
static inline char *copy_at_most(char *to, const char *from, size_t size) {
  size_t length = strnlen(from, size);
  copy(to, from, length);
  if (length < size) fill(to + length, 0, size - length);
  return to + length;
}

EXPORT char *strncpy(char *restrict to, const char *restrict from, size_t size) {
  if (IS_ELSEWHERE(real.strncpy, to)) return real.strncpy(to, from, size);
  copy_at_most(to, from, size);
  return to;
}

EXPORT char *stpncpy(char *restrict to, const char *restrict from, size_t size) {
  if (IS_ELSEWHERE(real.stpncpy, to)) return real.stpncpy(to, from, size);
  return copy_at_most(to, from, size);
}

EXPORT char *strncat(char *restrict to, const char *restrict from, size_t size) {
  if (IS_ELSEWHERE(real.strncat, to)) return real.strncat(to, from, size);
  char *end = to + strlen(to);
  size_t length = strnlen(from, size);
  copy(end, from, length);
  end[length] = 0;
  return to;
}

/* ---- the variants that -D_FORTIFY_SOURCE calls; `room` is the known size of the destination ---- */

EXPORT void *__memcpy_chk(void *to, const void *from, size_t size, size_t room) {
  if (size > room) __chk_fail();
  return copy(to, from, size);
}

EXPORT void *__memmove_chk(void *to, const void *from, size_t size, size_t room) {
  if (size > room) __chk_fail();
  return move(to, from, size);
}

EXPORT void *__mempcpy_chk(void *to, const void *from, size_t size, size_t room) {
  if (size > room) __chk_fail();
  return (char *)copy(to, from, size) + size;
}

EXPORT void *__memset_chk(void *to, int byte, size_t size, size_t room) {
  if (size > room) __chk_fail();
  return fill(to, byte, size);
}

EXPORT char *__strcpy_chk(char *to, const char *from, size_t room) {
  size_t size = strlen(from) + 1;
  if (size > room) __chk_fail();
  return copy(to, from, size);
}

EXPORT char *__stpcpy_chk(char *to, const char *from, size_t room) {
  size_t size = strlen(from) + 1;
  if (size > room) __chk_fail();
  return (char *)copy(to, from, size) + size - 1;
}

EXPORT char *__strncpy_chk(char *to, const char *from, size_t size, size_t room) {
  if (size > room) __chk_fail();
  copy_at_most(to, from, size);
  return to;
}

EXPORT char *__stpncpy_chk(char *to, const char *from, size_t size, size_t room) {
  if (size > room) __chk_fail();
  return copy_at_most(to, from, size);
}

EXPORT char *__strcat_chk(char *to, const char *from, size_t room) {
  size_t before = strlen(to), size = strlen(from) + 1;
  if (size > room || before > room - size) __chk_fail();
  copy(to + before, from, size);
  return to;
}

EXPORT char *__strncat_chk(char *to, const char *from, size_t size, size_t room) {
  size_t before = strlen(to), length = strnlen(from, size);
  if (length >= room || before >= room - length) __chk_fail();
  copy(to + before, from, length);
  to[before + length] = 0;
  return to;
}
