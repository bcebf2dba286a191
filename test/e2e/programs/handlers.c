/* A program with SIGSEGV handlers of its own: one installed before joining, then one after. Its faults find them, and
 * stores to the map do not. */
#include "check.h"

#include <setjmp.h>
#include <signal.h>
#include <stdint.h>

static sigjmp_buf back;
static int *volatile wild = (int *)16;
static volatile sig_atomic_t first, second;

static void on_first(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)context;
  CHECK(info->si_addr == (void *)wild);
  first++;
  siglongjmp(back, 1);
}

static void on_second(int signal) {
  (void)signal;
  second++;
  siglongjmp(back, 1);
}

static void fault(void) {
  if (sigsetjmp(back, 1) == 0) {
    *(volatile int *)wild = 1;
    CHECK(!"the store faults");
  }
}

int main(void) {
  struct sigaction action = {.sa_sigaction = on_first, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  dsm_session *session;
  CHECK_OK(dsm_open(NULL, &session));
  volatile uint64_t *map = dsm_address(session);
  volatile uint64_t *mine = &map[dsm_rank(session)];
  for (int i = 1; i <= 20; i++) {
    fault();
    *mine = (uint64_t)i;
    CHECK(first == i && *mine == (uint64_t)i);
  }
  CHECK_OK(dsm_barrier_wait(session));
  CHECK(map[0] == 20 && map[1] == 20);

  /* A handler that takes ours away, and passes on what it does not know: joining again puts ours before it. */
  struct sigaction later = {.sa_handler = on_second};
  sigaction(SIGSEGV, &later, NULL);
  dsm_config config;
  CHECK_OK(dsm_config_init(&config));
  char name[DSM_NAME_MAX + 1];
  snprintf(name, sizeof(name), "%s-more", config.session);
  config.session = name;
  dsm_session *more;
  CHECK_OK(dsm_open(&config, &more));
  volatile uint64_t *other = (uint64_t *)dsm_address(more) + dsm_rank(more);
  for (int i = 1; i <= 20; i++) {
    fault();
    *other = (uint64_t)i;
    *mine = 100 + (uint64_t)i;
    CHECK(second == i && *other == (uint64_t)i && *mine == 100 + (uint64_t)i);
  }
  CHECK(first == 20);
  CHECK_OK(dsm_close(more));
  CHECK_OK(dsm_close(session));
  return 0;
}
