/* A program that loads libdsm, which then stands in front of nothing: `signals_loaded LIBRARY`. What it has set before
 * it joins is seen to: its own mask, a handler for SIGSEGV, and one that runs with a full mask. */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <dsm/dsm.h>

static volatile int *map;

static void must(int truth, const char *what) {
  if (truth) return;
  fprintf(stderr, "this must hold: %s\n", what);
  exit(1);
}

static void on_other(int signo) {
  map[signo] = signo;
}

int main(int count, char **arguments) {
  must(count == 2, "a library is named");
  struct sigaction action = {.sa_handler = on_other};
  sigfillset(&action.sa_mask);
  must(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0, "handlers are set");
  sigset_t all;
  sigfillset(&all);
  sigdelset(&all, SIGUSR1);
  must(sigprocmask(SIG_SETMASK, &all, NULL) == 0, "SIGSEGV is blocked");
  void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  must(library != NULL, "the library is loaded");
  dsm_session *session;
  int (*open_session)(const dsm_config *, dsm_session **) = dlsym(library, "dsm_open");
  void *(*address)(const dsm_session *) = dlsym(library, "dsm_address");
  int (*close_session)(dsm_session *) = dlsym(library, "dsm_close");
  must(open_session(NULL, &session) == DSM_OK, "it joins");
  map = address(session);
  map[0] = 5;
  raise(SIGUSR1);
  must(map[0] == 5 && map[SIGUSR1] == SIGUSR1 && map[SIGSEGV] == 0, "stores are captured");
  must(close_session(session) == DSM_OK, "it leaves");
  puts("ok");
  return 0;
}
