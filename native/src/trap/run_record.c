/* Run record: tells `dsm run` what a process cannot say itself, or must not wait to be asked for.
 *
 * Deaths: the kernel kills a thread that stores to the map while it has SIGSEGV really blocked (by a system call that
 * dsm did not see), or has no stack for a handler. No code of the process runs any more, and its exit status is
 * SIGSEGV, as after a fault of the program itself. The difference is that dsm's handler has seen the latter. If a
 * process died joined and not seen, `dsm run` reports this cause.
 *
 * Joins: a process waits in dsm_open() until the others have joined. `dsm run` knows which of them have ended, and ends
 * the run when one waits for a process that has.
 *
 * `dsm run` passes an unnamed file to its processes, in DSM_RUN_RECORD=PATH:TOKEN:SLOT. File: 16 bytes, the token, then
 * a struct slot for each process. PATH is /proc/PID/fd/N of `dsm run`, which may be a different file in another PID
 * namespace; therefore the token. Without the file there is no report. src/cli/run/run-records.ts reads it. */
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
  _Atomic uint32_t opened;  /* process id, in its own namespace, that has dsm's handlers; 0: none */
  _Atomic uint32_t seen;    /* likewise: is about to die of a SIGSEGV that was seen */
  _Atomic uint32_t joins;   /* how often processes of this slot have joined the run's session */
  uint32_t reserved;
  _Atomic uint64_t waiting; /* 0, or the number of the join that one waits in, from 1, times 2^32, plus how many
                               processes that join needs */
};
_Static_assert(sizeof(struct slot) == 24, "SLOT_BYTES of run-records.ts");

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

/* Two threads may map the slot at once; both mappings are of the same file, and stay. */
static struct slot *my_slot(void) {
  struct slot *slot = atomic_load(&mine);
  if (slot == NULL) atomic_store(&mine, slot = map_slot());
  return slot;
}

void dsm_run_record_opened(void) {
  struct slot *slot = my_slot();
  /* The process that `dsm run` started, or what it has become: not one of its children, which inherit the variable. */
  uint32_t none = 0;
  if (slot != NULL) atomic_compare_exchange_strong(&slot->opened, &none, (uint32_t)getpid());
}

void dsm_run_record_seen(void) {
  struct slot *slot = atomic_load(&mine);
  if (slot != NULL && atomic_load(&slot->opened) == (uint32_t)getpid()) atomic_store(&slot->seen, (uint32_t)getpid());
}

uint64_t dsm_run_record_waits(uint32_t processes) {
  struct slot *slot = my_slot();
  if (slot == NULL) return 0;
  uint64_t wait = ((uint64_t)atomic_load(&slot->joins) + 1) << 32 | processes;
  atomic_store(&slot->waiting, wait);
  return wait;
}

void dsm_run_record_waited(uint64_t wait, bool joined) {
  struct slot *slot = atomic_load(&mine);
  if (slot == NULL || wait == 0) return;
  if (joined) atomic_fetch_add(&slot->joins, 1);
  atomic_compare_exchange_strong(&slot->waiting, &wait, 0);
}
