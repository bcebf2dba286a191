/* Crash record: tells `dsm run` why a process died without a message.
 *
 * The kernel kills a thread that stores to the map while it has SIGSEGV really blocked (by a system call that dsm did
 * not see), or has no stack for a handler. No code of the process runs any more, and its exit status is SIGSEGV, as
 * after a fault of the program itself. The difference is that dsm's handler has seen the latter. So `dsm run` passes an
 * unnamed file to its processes, in DSM_RUN_RECORD=PATH:TOKEN:SLOT. Each process has a slot, in which it records that
 * it has joined, and that it is about to die of a fault that its handler has seen. If a process died joined and not
 * seen, `dsm run` reports this cause.
 *
 * File: 16 bytes, the token, then 8 bytes for each slot. PATH is /proc/PID/fd/N of `dsm run`, which may be a different
 * file in another PID namespace; therefore the token. Without the file there is no report. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <dsm/dsm.h>
#include "base/settings.h"
#include "trap/signals.h"

#define TOKEN_BYTES 16u

struct slot {
  _Atomic uint32_t joined; /* process id, in its own namespace; 0: has not joined */
  _Atomic uint32_t seen;   /* likewise: is about to die of a SIGSEGV that was seen */
};

static _Atomic(struct slot *) mine;

/* Splits PATH:TOKEN:SLOT, from its end. Returns 1, or 0 if it is malformed. */
static int parse(const char *text, char path[64], char token[TOKEN_BYTES], unsigned long *slot) {
  const char *last = strrchr(text, ':');
  if (last == NULL || last - text < (long)TOKEN_BYTES + 1 || last[-(long)TOKEN_BYTES - 1] != ':') return 0;
  size_t length = (size_t)(last - text) - TOKEN_BYTES - 1;
  if (length >= 64) return 0;
  memcpy(path, text, length);
  path[length] = 0;
  memcpy(token, last - TOKEN_BYTES, TOKEN_BYTES);
  char *end;
  *slot = strtoul(last + 1, &end, 10);
  return last[1] != 0 && *end == 0 && *slot < DSM_PROCESSES_MAX;
}

static struct slot *map_slot(void) {
  const char *text = getenv(SETTING_RUN_RECORD);
  char path[64], token[TOKEN_BYTES], found[TOKEN_BYTES];
  unsigned long slot;
  if (text == NULL || !parse(text, path, token, &slot)) return NULL;
  int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return NULL;
  struct stat st;
  size_t size = TOKEN_BYTES + (slot + 1) * sizeof(struct slot);
  uint8_t *file = MAP_FAILED;
  if (syscall(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && (size_t)st.st_size >= size &&
      syscall(SYS_pread64, fd, found, TOKEN_BYTES, 0) == TOKEN_BYTES && memcmp(found, token, TOKEN_BYTES) == 0)
    file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  return file == MAP_FAILED ? NULL : (struct slot *)(void *)(file + TOKEN_BYTES) + slot;
}

void dsm_crash_record_open(void) {
  struct slot *slot = atomic_load(&mine);
  if (slot == NULL) atomic_store(&mine, slot = map_slot());
  /* The process that `dsm run` started, or what it has become: not one of its children, which inherit the variable. */
  uint32_t none = 0;
  if (slot != NULL) atomic_compare_exchange_strong(&slot->joined, &none, (uint32_t)getpid());
}

void dsm_crash_record_seen(void) {
  struct slot *slot = atomic_load(&mine);
  if (slot != NULL && atomic_load(&slot->joined) == (uint32_t)getpid()) atomic_store(&slot->seen, (uint32_t)getpid());
}
