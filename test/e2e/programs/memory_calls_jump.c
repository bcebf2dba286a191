/* A signal handler that jumps out of memcpy() to a hole, again and again: memory_calls_jump JUMPS. The region must not
 * count the calls that never return: dsm_close() would wait for them. */
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "check.h"

static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
static sigjmp_buf out;
static volatile sig_atomic_t jumps;

static void on_alarm(int signo) {
  (void)signo;
  jumps++;
  siglongjmp(out, 1);
}

int main(int count, char **arguments) {
  CHECK(count == 2);
  dsm_session *session;
  CHECK_OK(dsm_open(NULL, &session));
  char *map = dsm_address(session), bytes[16] = "0123456789abcde";
  int hole;
  CHECK_OK(dsm_hole_dig(session, map, 65536, &hole));
  signal(SIGALRM, on_alarm);
  struct itimerval often = {{0, 100}, {0, 100}}, never = {0};
  if (sigsetjmp(out, 1) == 0) setitimer(ITIMER_REAL, &often, NULL);
  while (jumps < atoi(arguments[1])) copy(map, bytes, sizeof bytes);
  setitimer(ITIMER_REAL, &never, NULL);
  CHECK(strcmp(map, bytes) == 0);
  CHECK_OK(dsm_hole_fill(session, hole));
  CHECK_OK(dsm_close(session));
  puts("ok");
  return 0;
}
