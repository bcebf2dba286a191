/* The code below a debugger's breakpoint.
 *
 * A debugger replaces the first byte of an instruction by int3. It removes the int3 to step over the instruction, but
 * if a signal arrives at that step, it reinserts it and waits for the handler to return. So the handler for the fault
 * of a store finds int3 at the store. The original byte is in the file that the code was mapped from. */
#define _GNU_SOURCE
#include "trap/breakpoint.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>

#include "trap/syscall.h"

#define MAPS_BYTES 8192u /* more than the longest line: a path has at most 4096 bytes */

/* Static, because it is too large for a small alternate stack. Its user has all signals blocked and releases it
 * soon. */
static struct {
  uint32_t taken;
  char text[MAPS_BYTES];
} maps;

static uint64_t read_hex(const char **at) {
  uint64_t value = 0;
  for (;; ++*at) {
    char c = **at;
    unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 16;
    if (digit == 16) return value;
    value = value << 4 | digit;
  }
}

/* Parses "start-end perms offset device inode   path". Returns the path and the offset in the file if the range
 * contains the address, else NULL. */
static const char *path_of(const char *line, uint64_t address, uint64_t *offset) {
  uint64_t start = read_hex(&line);
  if (*line++ != '-') return NULL;
  uint64_t end = read_hex(&line);
  if (address < start || address >= end) return NULL;
  for (int field = 0; field < 2; field++) {
    line = strchr(line, ' ');
    if (line == NULL) return NULL;
    line++;
  }
  *offset = read_hex(&line) + (address - start);
  return strchr(line, '/');
}

/* Opens the file that holds the code. Returns a descriptor, or a negative number. */
static long open_code(uint64_t address, uint64_t *offset) {
  long fd = dsm_syscall(SYS_open, (long)"/proc/self/maps", O_RDONLY | O_CLOEXEC, 0, 0), code = -1;
  if (fd < 0) return fd;
  size_t have = 0;
  for (;;) {
    long got = dsm_syscall(SYS_read, fd, (long)(maps.text + have), (long)(MAPS_BYTES - have), 0);
    if (got <= 0) break;
    have += (size_t)got;
    char *line = maps.text, *end;
    const char *path = NULL;
    while (path == NULL && (end = memchr(line, '\n', have - (size_t)(line - maps.text))) != NULL) {
      *end = 0;
      path = path_of(line, address, offset);
      line = end + 1;
    }
    if (path != NULL) {
      code = dsm_syscall(SYS_open, (long)path, O_RDONLY | O_CLOEXEC, 0, 0);
      break;
    }
    have -= (size_t)(line - maps.text);
    memmove(maps.text, line, have);
    if (have == MAPS_BYTES) break;
  }
  dsm_syscall(SYS_close, fd, 0, 0, 0);
  return code;
}

unsigned dsm_code_below(uint64_t rip, uint8_t bytes[15]) {
  uint32_t none = 0;
  while (!__atomic_compare_exchange_n(&maps.taken, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
    none = 0;
    dsm_syscall(SYS_sched_yield, 0, 0, 0, 0);
  }
  uint64_t offset = 0;
  long fd = open_code(rip, &offset), got = -1;
  if (fd >= 0) {
    got = dsm_syscall(SYS_pread64, fd, (long)bytes, 15, (long)offset);
    dsm_syscall(SYS_close, fd, 0, 0, 0);
  }
  __atomic_store_n(&maps.taken, 0, __ATOMIC_RELEASE);
  return got > 0 ? (unsigned)got : 0;
}
