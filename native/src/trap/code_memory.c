#include "trap/code_memory.h"

#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* Beyond the limit of a file's size the process gets a signal. */
static bool may_have_file(size_t size) {
  struct rlimit limit;
  return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur >= size;
}

int code_memory_map(struct code_memory *memory, const char *name, size_t size) {
  void *writable = MAP_FAILED, *executable = MAP_FAILED;
  int fd = may_have_file(size) ? memfd_create(name, MFD_CLOEXEC) : -1;
  if (fd >= 0) {
    if (ftruncate(fd, (off_t)size) == 0) {
      writable = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      executable = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    close(fd);
  }
  if (writable == MAP_FAILED || executable == MAP_FAILED) {
    if (writable != MAP_FAILED) munmap(writable, size);
    if (executable != MAP_FAILED) munmap(executable, size);
    writable = executable = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (writable == MAP_FAILED) return -1;
  }
  if (madvise(writable, size, MADV_DONTFORK) != 0 || madvise(executable, size, MADV_DONTFORK) != 0) return -1;
  memory->writable = writable;
  memory->executable = executable;
  return 0;
}
