/* A process that has a lock, and closes all its descriptors or begins another program:
 *   runs_on cell|request|exec
 * cell: it gives the lock back by its cell. request: it has the lock by a request, so it cannot give it back. It writes "has"
 * into the map, waits for "go on" there, and then: closes its descriptors and writes "closed", or executes `sleep`. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static void await(volatile const char *word, char value) {
  const struct timespec pause = {.tv_nsec = 1000000};
  while (*word != value) nanosleep(&pause, NULL);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  dsm_session *session;
  CHECK_OK(dsm_open(NULL, &session));
  CHECK(dsm_is_direct(session) == 1);
  volatile char *word = dsm_address(session);
  for (int times = strcmp(argv[1], "request") == 0 ? 1 : 3; times > 0; times--) {
    CHECK_OK(dsm_lock(session, "m"));
    if (times > 1) CHECK_OK(dsm_unlock(session, "m"));
  }
  *word = 'h';
  await(word, 'g');
  if (strcmp(argv[1], "exec") == 0) {
    execlp("sleep", "sleep", "1000", NULL);
    return 1;
  }
  for (int descriptor = 0; descriptor < 1024; descriptor++) close(descriptor);
  *word = 'c';
  await(word, 'u');
  if (dsm_unlock(session, "m") != DSM_OK) return 1;
  *word = 'd';
  await(word, 'e');
  return 0;
}
