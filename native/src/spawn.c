#define _GNU_SOURCE
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "clock.h"
#include "launch.h"
#include "session.h"
#include "stale.h"
#include "status.h"

/* FNV-1a, 64 bits. src/core/names.ts computes the same: both must find the same socket. */
static uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t size) {
  for (size_t i = 0; i < size; i++)
    hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3ull;
  return hash;
}

/* The directory is ours alone, or we do not use it. */
static int check_directory(const char *path) {
  struct stat st;
  if (mkdir(path, 0700) != 0 && errno != EEXIST)
    return dsm_fail(DSM_SYSTEM, "cannot make the run-time directory %s: %s", path, strerror(errno));
  if (syscall(SYS_lstat, path, &st) != 0)
    return dsm_fail(DSM_SYSTEM, "cannot use the run-time directory %s: %s", path, strerror(errno));
  if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
    return dsm_fail(DSM_SYSTEM, "the run-time directory %s is not a directory of yours alone; remove it, or set XDG_RUNTIME_DIR", path);
  return DSM_OK;
}

int arbiter_locate(const dsm_config *config, struct arbiter_place *place) {
  char directory[80];
  const char *runtime = getenv("XDG_RUNTIME_DIR");
  struct stat st;
  int length;
  /* One that others can write to is no place: they could put another folder in the place of ours. */
  if (runtime != NULL && runtime[0] == '/' && syscall(SYS_stat, runtime, &st) == 0 && st.st_uid == geteuid() &&
      (st.st_mode & 022) == 0)
    length = snprintf(directory, sizeof directory, "%s/dsm", runtime);
  else
    length = snprintf(directory, sizeof directory, "/tmp/dsm-%u", (unsigned)geteuid());
  if (length >= (int)sizeof directory - 1)
    return dsm_fail(DSM_SYSTEM, "XDG_RUNTIME_DIR is longer than %zu bytes; set a shorter one", sizeof directory - 6);
  int status = check_directory(directory);
  if (status != DSM_OK)
    return status;
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

static int is_program(const char *path) {
  struct stat st;
  return syscall(SYS_stat, path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* Whether nobody but this user and root could have put the program there: no part of its path, which has no links any
 * more, can be changed by others. A folder with the sticky bit, such as /tmp, may be written to by all, but only owners
 * take their files away. `path` is replaced by the one without links. */
static int is_safe_program(char path[PATH_MAX]) {
  char real[PATH_MAX];
  if (!is_program(path) || realpath(path, real) == NULL)
    return 0;
  struct stat st;
  /* The name itself may be a link that somebody has planted beside us. */
  if (syscall(SYS_lstat, path, &st) != 0 || (st.st_uid != 0 && st.st_uid != geteuid()))
    return 0;
  for (char *end = real; end != NULL;) {
    end = strchr(end + 1, '/');
    if (end != NULL)
      *end = 0;
    int failed = syscall(SYS_lstat, real, &st);
    if (end != NULL)
      *end = '/';
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

/* Folder of this library, or of the program it is linked into, without a slash at the end. "" if it is not known. */
static void own_folder(char path[PATH_MAX]) {
  const char *name = "";
  dl_iterate_phdr(own_object, &name);
  ssize_t length = name[0] == 0 ? readlink("/proc/self/exe", path, PATH_MAX - 1) : snprintf(path, PATH_MAX, "%s", name);
  path[length > 0 && length < PATH_MAX ? length : 0] = 0;
  char *slash = strrchr(path, '/');
  *(slash != NULL ? slash : path) = 0;
}

/* The dsm binary: the one given, beside or above this library if nobody else could have put it there (the program this
 * is linked into may lie in /tmp), in PATH, or in /usr/local. */
static int find_binary(const dsm_config *config, char path[PATH_MAX]) {
  if (config->binary != NULL) {
    snprintf(path, PATH_MAX, "%s", config->binary);
    if (is_program(path))
      return DSM_OK;
    return dsm_fail(DSM_SYSTEM, "%s is not the dsm program; set DSM_BIN to its path", config->binary);
  }
  char folder[PATH_MAX];
  own_folder(folder);
  if (folder[0] != 0) {
    if (snprintf(path, PATH_MAX, "%s/../bin/dsm", folder) < PATH_MAX && is_safe_program(path))
      return DSM_OK;
    if (snprintf(path, PATH_MAX, "%s/dsm", folder) < PATH_MAX && is_safe_program(path))
      return DSM_OK;
  }
  const char *at = getenv("PATH");
  while (at != NULL && *at != 0) {
    int length = (int)strcspn(at, ":");
    /* Never the folder we happen to be in. */
    if (at[0] == '/') {
      snprintf(path, PATH_MAX, "%.*s/dsm", length, at);
      if (is_program(path))
        return DSM_OK;
    }
    at += length + (at[length] == ':');
  }
  snprintf(path, PATH_MAX, "/usr/local/bin/dsm");
  if (is_program(path))
    return DSM_OK;
  return dsm_fail(DSM_SYSTEM, "cannot find the dsm program; put it in PATH or set DSM_BIN to its path");
}

/* "START ERRNO" or "RUN ERRNO", from launch(). */
static int launch_failed(const char *text, const char *path) {
  int running = strncmp(text, "RUN ", 4) == 0, error = atoi(strchr(text, ' ') != NULL ? strchr(text, ' ') : "");
  if (running && error == ENOENT)
    return dsm_fail(DSM_SYSTEM, "cannot run %s: it, or the loader it names, is not there", path);
  if (running)
    return dsm_fail(dsm_status_of(error, DSM_SYSTEM), "cannot run %s: %s", path, strerror(error));
  if (error == EAGAIN)
    return dsm_fail(DSM_LIMIT, "cannot start the arbiter: no further process is allowed (see ulimit -u)");
  return dsm_fail(dsm_status_of(error, DSM_SYSTEM), "cannot start the arbiter: %s", strerror(error));
}

/* Handles one line of the arbiter's: DSM_OK for "ready", -1 to read on, or the status of its "error". */
static int status_line(char *line, const char *path) {
  if (strcmp(line, "ready") == 0)
    return DSM_OK;
  if (strncmp(line, "note ", 5) == 0) {
    const char *quiet = getenv("DSM_QUIET");
    if (quiet == NULL || quiet[0] == 0)
      fprintf(stderr, "dsm: %s\n", line + 5);
    return -1;
  }
  if (strncmp(line, "error ", 6) == 0) {
    char *text = strchr(line + 6, ' ');
    if (text != NULL) {
      *text = 0;
      return dsm_fail(dsm_status_by_name(line + 6), "%s", text + 1);
    }
  }
  if (strncmp(line, "failed ", 7) == 0)
    return launch_failed(line + 7, path);
  return dsm_fail(DSM_PROTOCOL, "the arbiter said \"%.100s\"", line);
}

static int await_ready(int fd, const char *path) {
  long long deadline = now_ms() + ARBITER_TIMEOUT_MS;
  char text[1024];
  size_t have = 0;
  for (;;) {
    char *end;
    while ((end = memchr(text, '\n', have)) != NULL) {
      *end = 0;
      int status = status_line(text, path);
      if (status >= 0)
        return status;
      have -= (size_t)(end + 1 - text);
      memmove(text, end + 1, have);
    }
    if (have == sizeof text)
      return dsm_fail(DSM_PROTOCOL, "%s is not the dsm program; set DSM_BIN to its path", path);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    long long left = deadline - now_ms();
    if (left <= 0)
      return dsm_fail(DSM_TIMEOUT, "the arbiter (%s) did not get ready in %d ms", path, ARBITER_TIMEOUT_MS);
    int ready = poll(&poll_fd, 1, (int)left);
    if (ready <= 0)
      continue;
    ssize_t got = read(fd, text + have, sizeof text - have);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return dsm_fail(DSM_SYSTEM, "the arbiter (%s arbiter) ended before it was ready", path);
    have += (size_t)got;
  }
}

static int start_arbiter(const dsm_config *config, const struct arbiter_place *place) {
  char path[PATH_MAX];
  int status = find_binary(config, path);
  if (status != DSM_OK)
    return status;
  char processes[16], size[24];
  snprintf(processes, sizeof processes, "%u", config->processes);
  snprintf(size, sizeof size, "%llu", (unsigned long long)config->size);
  char *arguments[32];
  int count = 0;
  arguments[count++] = path;
  arguments[count++] = "arbiter";
  arguments[count++] = "--session";
  arguments[count++] = (char *)config->session;
  arguments[count++] = "--node";
  arguments[count++] = (char *)config->node;
  arguments[count++] = "--daemon";
  arguments[count++] = (char *)config->daemon;
  arguments[count++] = "--socket";
  arguments[count++] = (char *)place->socket;
  arguments[count++] = "--status-fd";
  arguments[count++] = "1";
  if (config->processes != 0) {
    arguments[count++] = "--processes";
    arguments[count++] = processes;
  }
  if (config->size != 0) {
    arguments[count++] = "--size";
    arguments[count++] = size;
  }
  if (config->order != NULL) {
    arguments[count++] = "--order";
    arguments[count++] = (char *)config->order;
  }
  if (config->on_loss != NULL) {
    arguments[count++] = "--on-loss";
    arguments[count++] = (char *)config->on_loss;
  }
  if (config->elastic)
    arguments[count++] = "--elastic";
  if (!config->autostart)
    arguments[count++] = "--no-autostart";
  arguments[count] = NULL;

  char **environment = launch_environment();
  if (environment == NULL)
    return dsm_fail(DSM_NO_MEMORY, "cannot start the arbiter: %s", strerror(ENOMEM));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    int error = errno;
    free(environment);
    return dsm_fail(dsm_status_of(error, DSM_SYSTEM), "cannot start the arbiter: %s", strerror(error));
  }
  int error = launch(path, arguments, environment, ends[1]);
  close(ends[1]);
  free(environment);
  if (error != 0) {
    char text[32];
    close(ends[0]);
    snprintf(text, sizeof text, "START %d", error);
    return launch_failed(text, path);
  }
  status = await_ready(ends[0], path);
  close(ends[0]);
  return status;
}

/* Takes the lock file, which is removed by its holder: a lock on a file that is no longer the named one is no lock. */
static int take_lock(const char *path) {
  for (;;) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
      return -1;
    struct stat held, named;
    while (flock(fd, LOCK_EX) != 0) {
      if (errno == EINTR)
        continue;
      close(fd);
      return -1;
    }
    if (syscall(SYS_fstat, fd, &held) == 0 && syscall(SYS_stat, path, &named) == 0 && held.st_ino == named.st_ino &&
        held.st_dev == named.st_dev)
      return fd;
    close(fd);
  }
}

int arbiter_connect(const dsm_config *config, const struct arbiter_place *place, int *fd) {
  *fd = channel_connect(place->socket);
  if (*fd >= 0)
    return DSM_OK;
  if (errno == EPERM)
    return dsm_fail(DSM_REFUSED, "the socket %s is another user's; remove it", place->socket);
  int lock = take_lock(place->lock);
  if (lock < 0)
    return dsm_fail(dsm_status_of(errno, DSM_SYSTEM), "cannot lock %s: %s", place->lock, strerror(errno));
  int status = DSM_OK;
  *fd = channel_connect(place->socket);
  if (*fd < 0) {
    stale_remove(place->socket);
    status = start_arbiter(config, place);
    if (status == DSM_OK) {
      *fd = channel_connect(place->socket);
      if (*fd < 0)
        /* It waited for us in vain and has ended: the caller tries again. */
        status = DSM_ENDED;
    }
  }
  unlink(place->lock);
  close(lock);
  return status;
}
