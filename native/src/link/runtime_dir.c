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

/* The longest directory in which a socket still has room. */
#define DIRECTORY_MAX 80

static int is_own(const char *path) {
  struct stat st;
  return syscall(SYS_lstat, path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 077) == 0;
}

/* Makes the directory if it is missing, and checks that only this user can access it. */
static int check_directory(const char *path) {
  struct stat st;
  static const char advice[] = "set XDG_RUNTIME_DIR to a directory of your own that can be written";
  if (is_own(path)) return DSM_OK;
  if (mkdir(path, 0700) != 0 && errno != EEXIST)
    return dsm_fail(DSM_SYSTEM, "cannot make the run-time directory %s: %s; %s", path, strerror(errno), advice);
  if (syscall(SYS_lstat, path, &st) != 0)
    return dsm_fail(DSM_SYSTEM, "cannot use the run-time directory %s: %s; %s", path, strerror(errno), advice);
  if (!is_own(path))
    return dsm_fail(DSM_SYSTEM,
                    "the run-time directory %s is not a directory of yours alone; remove it, or set XDG_RUNTIME_DIR",
                    path);
  return DSM_OK;
}

/* Writes XDG_RUNTIME_DIR/dsm. Returns its length, which may be too long, or -1 if the variable names no directory of
 * this user. Others must not be able to write there: they could replace our folder in it. */
static int by_variable(char path[DIRECTORY_MAX]) {
  const char *runtime = getenv("XDG_RUNTIME_DIR");
  struct stat st;
  if (runtime == NULL || runtime[0] != '/' || syscall(SYS_stat, runtime, &st) != 0 || st.st_uid != geteuid() ||
      (st.st_mode & 022) != 0)
    return -1;
  return snprintf(path, DIRECTORY_MAX, "%s/dsm", runtime);
}

int arbiter_is_own_directory(const char *socket) {
  char path[DIRECTORY_MAX];
  const char *slash = strrchr(socket, '/');
  if (slash == NULL || slash - socket >= (long)sizeof path) return 0;
  memcpy(path, socket, (size_t)(slash - socket));
  path[slash - socket] = 0;
  return is_own(path);
}

/* Notes the sockets of processes without XDG_RUNTIME_DIR, and of those that have it from their login. */
static void note_others(struct arbiter_place *place, const char *own, const char name[24]) {
  static const char *const forms[] = {"/run/user/%u/dsm", "/tmp/dsm-%u"};
  unsigned count = 0;
  memset(place->others, 0, sizeof place->others);
  for (unsigned i = 0; i < sizeof forms / sizeof forms[0] && count < OTHER_DIRECTORIES_MAX; i++) {
    char path[DIRECTORY_MAX];
    snprintf(path, sizeof path, forms[i], (unsigned)geteuid());
    if (strcmp(path, own) != 0) snprintf(place->others[count++], sizeof place->others[0], "%s/%.23s", path, name);
  }
}

int arbiter_locate(const dsm_config *config, struct arbiter_place *place) {
  char directory[DIRECTORY_MAX], name[24];
  int length = by_variable(directory);
  if (length < 0) length = snprintf(directory, sizeof directory, "/tmp/dsm-%u", (unsigned)geteuid());
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
  snprintf(name, sizeof name, "a-%016llx.sock", (unsigned long long)hash);
  snprintf(place->socket, sizeof place->socket, "%s/%s", directory, name);
  snprintf(place->lock, sizeof place->lock, "%s/a-%016llx.lock", directory, (unsigned long long)hash);
  note_others(place, directory, name);
  return DSM_OK;
}
