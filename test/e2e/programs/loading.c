/* Loads libdsm (the path is its argument) by dlopen, as TypeScript does, and reads into the map. */
#include <dlfcn.h>
#include <dsm/dsm.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES 5000

static char content[BYTES];

static int content_file(void) {
  int fd = memfd_create("content", 0);
  for (size_t i = 0; i < BYTES; i++) content[i] = (char)(i * 7);
  if (fd < 0 || write(fd, content, BYTES) != BYTES || lseek(fd, 0, SEEK_SET) != 0) abort();
  return fd;
}

static void report(const char *what, long got, const char *to) {
  if (got <= 0) printf("%s %s\n", what, strerror(errno));
  else printf("%s %ld%s\n", what, got, memcmp(to, content, (size_t)got) == 0 ? "" : ", but other bytes");
}

int main(int count, char **arguments) {
  void *library = count == 2 ? dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  __typeof__(dsm_open) *open_session = (__typeof__(dsm_open) *)dlsym(library, "dsm_open");
  __typeof__(dsm_address) *address = (__typeof__(dsm_address) *)dlsym(library, "dsm_address");
  __typeof__(dsm_read) *read_into = (__typeof__(dsm_read) *)dlsym(library, "dsm_read");
  __typeof__(dsm_close) *close_session = (__typeof__(dsm_close) *)dlsym(library, "dsm_close");
  dsm_session *session;
  if (open_session(NULL, &session) != DSM_OK) return 1;
  char *map = address(session);
  report("dsm_read", read_into(content_file(), map, BYTES), map);
  report("read", read(content_file(), map + 10000, BYTES), map + 10000);
  FILE *in = fdopen(content_file(), "rb");
  setvbuf(in, NULL, _IONBF, 0);
  report("fread", (long)fread(map + 20000, 1, BYTES, in), map + 20000);
  return close_session(session) == DSM_OK ? 0 : 1;
}
