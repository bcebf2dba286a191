/* An elastic session that starts in direct mode: the first process sets a handler for SIGSEGV and blocks it while its
 * stores are ordinary ones, and stores on when they are captured, because a process of another node has come. With an
 * argument the handler is set by a call that libdsm does not see. */
#include "check.h"

#include <signal.h>
#include <unistd.h>

static void on_fault(int signo) {
  static const char text[] = "the program's handler was called\n";
  (void)signo;
  if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) _exit(2);
  _exit(1);
}

/* What sigaction() of the C library does. */
int __sigaction(int signo, const struct sigaction *action, struct sigaction *old);

int main(int count, char **arguments) {
  (void)arguments;
  dsm_session *session;
  CHECK_OK(dsm_open(NULL, &session));
  volatile int *map = dsm_address(session);
  int rank = dsm_rank(session);
  if (rank == 0) {
    CHECK(dsm_is_direct(session));
    map[8] = 1;
    struct sigaction action = {.sa_handler = on_fault};
    int (*set)(int, const struct sigaction *, struct sigaction *) = count > 1 ? __sigaction : sigaction;
    CHECK(set(SIGSEGV, &action, NULL) == 0 && set(SIGTRAP, &action, NULL) == 0);
    sigset_t all;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    while (dsm_is_direct(session)) map[0]++;
  }
  for (int i = 0; i < 1000; i++) map[16 + rank]++;
  CHECK(map[16 + rank] == 1000 && map[8] == 1);
  CHECK_OK(dsm_barrier_wait(session));
  CHECK(map[16] == 1000 && map[17] == 1000);
  CHECK_OK(dsm_barrier_wait(session));
  CHECK_OK(dsm_close(session));
  return 0;
}
