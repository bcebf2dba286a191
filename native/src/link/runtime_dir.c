#define _GNU_SOURCE
#include "link/find_arbiter.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"

/* FNV-1a, 64 bits. src/core/base/names.ts computes the same: both must find the same socket. */
static uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3ull;
  return hash;
}

/* Checks that only this user can access the directory. */
static int check_directory(const char *path) {
  struct stat st;
  if (mkdir(path, 0700) != 0 && errno != EEXIST)
    return dsm_fail(DSM_SYSTEM, "cannot make the run-time directory %s: %s", path, strerror(errno));
  if (syscall(SYS_lstat, path, &st) != 0)
    return dsm_fail(DSM_SYSTEM, "cannot use the run-time directory %s: %s", path, strerror(errno));
  if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
    return dsm_fail(DSM_SYSTEM,
                    "the run-time directory %s is not a directory of yours alone; remove it, or set XDG_RUNTIME_DIR",
                    path);
  return DSM_OK;
}

int arbiter_locate(const dsm_config *config, struct arbiter_place *place) {
  char directory[80];
  const char *runtime = getenv("XDG_RUNTIME_DIR");
  struct stat st;
  int length;
  /* Skip a directory that other users can write to: they could replace our folder in it. */
  if (runtime != NULL && runtime[0] == '/' && syscall(SYS_stat, runtime, &st) == 0 && st.st_uid == geteuid() &&
      (st.st_mode & 022) == 0)
    length = snprintf(directory, sizeof directory, "%s/dsm", runtime);
  else
    length = snprintf(directory, sizeof directory, "/tmp/dsm-%u", (unsigned)geteuid());
  if (length >= (int)sizeof directory - 1)
    return dsm_fail(DSM_SYSTEM, "XDG_RUNTIME_DIR is longer than %zu bytes; set a shorter one", sizeof directory - 6);
  int status = check_directory(directory);
  if (status != DSM_OK) return status;
  uint64_t hash = 0xcbf29ce484222325ull;
  hash = hash_bytes(hash, config->daemon, strlen(config->daemon));
  hash = hash_bytes(hash, "\n", 1);
  hash = hash_bytes(hash, config->session, strlen(config->session));
  hash = hash_bytes(hash, "\n", 1);
  hash = hash_bytes(hash, config->node, strlen(config->node));
  snprintf(place->socket, sizeof place->socket, "%s/a-%016llx.sock", directory, (unsigned long long)hash);
  snprintf(place->lock, sizeof place->lock, "%s/a-%016llx.lock", directory, (unsigned long long)hash);
  return DSM_OK;
}
