/* A program whose session is too small for it. The first argument says what it does, the others are numbers. */
#include <dsm/dsm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int said(int status) {
  if (status != DSM_OK) printf("%s %s\n", dsm_status_name(status), dsm_last_error());
  return status;
}

static void on_fault(int signo) {
  (void)signo;
  static const char text[] = "the program's own handler\n";
  if (write(STDOUT_FILENO, text, sizeof text - 1) < 0) _exit(2);
  _exit(0);
}

int main(int count, char **words) {
  const char *what = words[1];
  uint64_t number = count > 2 ? strtoull(words[2], NULL, 0) : 0, other = count > 3 ? strtoull(words[3], NULL, 0) : 0;
  dsm_session *session;
  dsm_config config;
  void *block;
  int hole;
  if (strcmp(what, "init") == 0) {
    dsm_init(getenv("DSM_SESSION"), 1, (unsigned)other, number);
    puts("joined");
    return 0;
  }
  if (said(dsm_config_init(&config)) != DSM_OK) return 1;
  if (strcmp(what, "open") == 0 && number != 0) config.size = number;
  if (said(dsm_open(&config, &session)) != DSM_OK) return 1;
  volatile uint64_t *place = (volatile uint64_t *)((uint8_t *)dsm_address(session) + number);
  if (strcmp(what, "open") == 0) {
    /* Until the test has seen the others. */
    puts("joined");
    fflush(stdout);
    while (getchar() != EOF) continue;
  }
  if (strcmp(what, "alloc") == 0) said(dsm_alloc(session, number, 16, &block));
  if (strcmp(what, "named") == 0) said(dsm_named(session, "a", number, &block));
  if (strcmp(what, "fill") == 0 && said(dsm_alloc(session, number, 16, &block)) == DSM_OK)
    said(dsm_alloc(session, other, 16, &block));
  if (strcmp(what, "hole") == 0) said(dsm_hole_dig(session, (void *)place, other, &hole));
  if (strcmp(what, "wait") == 0) said(dsm_wait_while(session, (void *)place, 8, 0, 0));
  if (strcmp(what, "handled") == 0) {
    signal(SIGSEGV, on_fault);
    *place = 1;
  }
  if (strcmp(what, "ignored") == 0) {
    signal(SIGSEGV, SIG_IGN);
    *place = 1;
  }
  if (strcmp(what, "store") == 0) *place = 1;
  if (strcmp(what, "load") == 0) printf("%llu\n", (unsigned long long)*place);
  if (strcmp(what, "clear") == 0) memset(dsm_address(session), 0, number);
  return dsm_close(session);
}
