#define _GNU_SOURCE
#include "link/find_binary.h"

#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"

static int is_program(const char *path) {
  struct stat st;
  return syscall(SYS_stat, path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* Returns whether only this user and root can have put the program there: other users cannot change any part of its
 * resolved path. A folder with the sticky bit, such as /tmp, is writable for all, but only owners can remove their
 * files. Replaces `path` with the resolved path. */
static int is_safe_program(char path[PATH_MAX]) {
  char real[PATH_MAX];
  if (!is_program(path) || realpath(path, real) == NULL) return 0;
  struct stat st;
  /* The name itself may be a link that another user has put beside this library. */
  if (syscall(SYS_lstat, path, &st) != 0 || (st.st_uid != 0 && st.st_uid != geteuid())) return 0;
  for (char *end = real; end != NULL;) {
    end = strchr(end + 1, '/');
    if (end != NULL) *end = 0;
    int failed = syscall(SYS_lstat, real, &st);
    if (end != NULL) *end = '/';
    if (failed || (st.st_uid != 0 && st.st_uid != geteuid()) ||
        ((st.st_mode & 022) != 0 && !(S_ISDIR(st.st_mode) && (st.st_mode & S_ISVTX) != 0)))
      return 0;
  }
  strcpy(path, real);
  return 1;
}

/* dl_iterate_phdr's callback: keeps the name of the object that has this function in it, and stops there. */
static int own_object(struct dl_phdr_info *object, size_t size, void *name) {
  (void)size;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
    if (segment->p_type == PT_LOAD &&
        (uintptr_t)own_object - (object->dlpi_addr + segment->p_vaddr) < segment->p_memsz) {
      *(const char **)name = object->dlpi_name;
      return 1;
    }
  }
  return 0;
}

/* Gets the folder of this library, or of the program it is linked into, without a trailing slash; "" if unknown. */
static void own_folder(char path[PATH_MAX]) {
  const char *name = "";
  dl_iterate_phdr(own_object, &name);
  ssize_t length = name[0] == 0 ? readlink("/proc/self/exe", path, PATH_MAX - 1) : snprintf(path, PATH_MAX, "%s", name);
  path[length > 0 && length < PATH_MAX ? length : 0] = 0;
  char *slash = strrchr(path, '/');
  *(slash != NULL ? slash : path) = 0;
}

int find_binary(const dsm_config *config, char path[PATH_MAX]) {
  if (config->binary != NULL) {
    snprintf(path, PATH_MAX, "%s", config->binary);
    if (is_program(path)) return DSM_OK;
    if (access(path, F_OK) == 0 && access(path, X_OK) != 0 && errno == EACCES)
      return dsm_fail(DSM_SYSTEM, "%s may not be executed; make it executable, and its file system not noexec", path);
    return dsm_fail(DSM_SYSTEM, "%s is not the dsm program; set DSM_BIN to its path", config->binary);
  }
  char folder[PATH_MAX];
  own_folder(folder);
  if (folder[0] != 0) {
    if (snprintf(path, PATH_MAX, "%s/../bin/dsm", folder) < PATH_MAX && is_safe_program(path)) return DSM_OK;
    if (snprintf(path, PATH_MAX, "%s/dsm", folder) < PATH_MAX && is_safe_program(path)) return DSM_OK;
  }
  const char *at = getenv("PATH");
  while (at != NULL && *at != 0) {
    int length = (int)strcspn(at, ":");
    /* Never search the current directory. */
    if (at[0] == '/') {
      snprintf(path, PATH_MAX, "%.*s/dsm", length, at);
      if (is_program(path)) return DSM_OK;
    }
    at += length + (at[length] == ':');
  }
  snprintf(path, PATH_MAX, "/usr/local/bin/dsm");
  if (is_program(path)) return DSM_OK;
  return dsm_fail(DSM_SYSTEM, "cannot find the dsm program; put it in PATH or set DSM_BIN to its path");
}
