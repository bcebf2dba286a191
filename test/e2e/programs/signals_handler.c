/* A handler of the program's for SIGSEGV, and a store. `signals_handler WHEN`: set before joining, after it, after it and
 * handing on to what was there, or the default put back after it. Prints what is in the map. */
#include "check.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static struct sigaction before;

static void on_fault(int signo, siginfo_t *info, void *context) {
  static const char text[] = "the program's handler was called\n";
  if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) _exit(2);
  if ((before.sa_flags & SA_SIGINFO) != 0) before.sa_sigaction(signo, info, context);
  _exit(3);
}

int main(int count, char **arguments) {
  CHECK(count == 2);
  const char *when = arguments[1];
  struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK}, standard = {0};
  if (strcmp(when, "before") == 0) CHECK(sigaction(SIGSEGV, &ours, NULL) == 0);
  dsm_session *session;
  CHECK_OK(dsm_open(NULL, &session));
  if (strcmp(when, "after") == 0) CHECK(sigaction(SIGSEGV, &ours, NULL) == 0);
  if (strcmp(when, "handing-on") == 0) CHECK(sigaction(SIGSEGV, &ours, &before) == 0);
  if (strcmp(when, "default") == 0) CHECK(sigaction(SIGSEGV, &standard, NULL) == 0);
  volatile int *map = dsm_address(session);
  int rank = dsm_rank(session);
  map[rank] = 5;
  printf("rank %d stored %d\n", rank, map[rank]);
  CHECK_OK(dsm_close(session));
  return 0;
}
