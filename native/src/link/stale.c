/* Arbiters, and libraries that start one, remove their own files. The files removed here belong to killed processes. */
#define _GNU_SOURCE
#include "link/stale.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* The age after which a socket that was not renamed to its known name is stale. A new socket looks the same for a
 * moment, between bind() and listen(). */
#define UNNAMED_STALE_S 60

#define PATH_SIZE sizeof(((struct sockaddr_un *)0)->sun_path)

/* Returns whether a process listens at the socket. Does not wait: a listener whose queue is full counts. */
static int has_listener(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int refused = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno == ECONNREFUSED;
  if (fd >= 0) close(fd);
  return !refused;
}

/* Takes the lock if it is free and still the file of that name. `flags`: O_CREAT to create it. Returns a descriptor, or
 * -1. */
static int try_lock(const char *path, int flags) {
  int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
  if (fd < 0) return -1;
  struct stat held, named;
  if (flock(fd, LOCK_EX | LOCK_NB) == 0 && syscall(SYS_fstat, fd, &held) == 0 && syscall(SYS_stat, path, &named) == 0 &&
      held.st_ino == named.st_ino && held.st_dev == named.st_dev)
    return fd;
  close(fd);
  return -1;
}

/* Removes the socket with this stem, if no process listens there, and its lock. The process that gets the lock removes
 * both files, so two processes that sweep at once do not collide. No library starts an arbiter without the lock. */
static void remove_pair(const char *path, size_t stem) {
  char lock_path[PATH_SIZE], socket_path[PATH_SIZE];
  snprintf(lock_path, sizeof lock_path, "%.*s.lock", (int)stem, path);
  snprintf(socket_path, sizeof socket_path, "%.*s.sock", (int)stem, path);
  int lock = try_lock(lock_path, O_CREAT);
  if (lock < 0) return;
  if (!has_listener(socket_path)) unlink(socket_path);
  unlink(lock_path);
  close(lock);
}

/* Removes a socket that an arbiter has created but not renamed to the known name, if that arbiter is gone. A process id
 * would not tell, since the arbiter may run in another PID namespace. */
static void remove_unnamed(const char *path) {
  struct stat st;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (syscall(SYS_lstat, path, &st) == 0 && S_ISSOCK(st.st_mode) && now.tv_sec - st.st_mtim.tv_sec > UNNAMED_STALE_S &&
      !has_listener(path))
    unlink(path);
}

void stale_remove(const char *keep) {
  const char *slash = strrchr(keep, '/');
  char path[PATH_SIZE];
  size_t length = (size_t)(slash + 1 - keep);
  memcpy(path, keep, length);
  path[length] = 0;
  DIR *directory = opendir(path);
  if (directory == NULL) return;
  const struct dirent *entry;
  while ((entry = readdir(directory)) != NULL) {
    const char *name = entry->d_name;
    const char *dot = strchr(name, '.');
    /* a-HASH.lock, a-HASH.sock, or a-HASH.sock.RANDOM before an arbiter gives its socket the known name. */
    if (strncmp(name, "a-", 2) != 0 || dot == NULL || strcmp(name, slash + 1) == 0 ||
        length + strlen(name) >= sizeof path)
      continue;
    strcpy(path + length, name);
    if (strcmp(dot, ".lock") == 0 || (strcmp(dot, ".sock") == 0 && !has_listener(path)))
      remove_pair(path, length + (size_t)(dot - name));
    else if (strncmp(dot, ".sock.", 6) == 0)
      remove_unnamed(path);
  }
  closedir(directory);
}
