/* A process without standard input, output and error: none of them is a descriptor of dsm, so what is printed goes
 * nowhere. Writes "ok" to the file in its argument. */
#include <dsm/dsm.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static FILE *report;
static dsm_session *session;

#define MUST(condition)                                                                                      \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      fprintf(report, "line %d: %s: %s, %s\n", __LINE__, #condition, strerror(errno), dsm_last_error());     \
      fclose(report);                                                                                        \
      _exit(1);                                                                                              \
    }                                                                                                        \
  } while (0)

static void none_open(void) {
  for (int fd = 0; fd <= 2; fd++) MUST(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
}

/* A second wait at the same time takes a second connection. */
static void *wait_too(void *unused) {
  (void)unused;
  MUST(dsm_sem_wait(session, "one", 0) == DSM_OK);
  return NULL;
}

int main(int count, char **arguments) {
  pthread_t other;
  int hole;
  if (count < 2 || (report = fopen(arguments[1], "w")) == NULL) return 1;
  for (int fd = 0; fd <= 2; fd++) close(fd);
  MUST(dsm_open(NULL, &session) == DSM_OK);
  none_open();
  volatile unsigned char *map = dsm_address(session);
  for (int i = 0; i < 5000; i++) map[4096 + i] = 7;
  MUST(dsm_hole_dig(session, (void *)(map + 16384), 8192, &hole) == DSM_OK);
  none_open();
  memset((void *)(map + 16384), 9, 8192);
  MUST(dsm_hole_fill(session, hole) == DSM_OK);
  MUST(pthread_create(&other, NULL, wait_too, NULL) == 0);
  MUST(dsm_sem_wait(session, "two", 1) == DSM_OK);
  none_open();
  for (int i = 0; i < 100; i++) {
    printf("this goes nowhere\n");
    fflush(stdout);
    fprintf(stderr, "this goes nowhere\n");
  }
  MUST(dsm_sem_post(session, "one", 0) == DSM_OK);
  MUST(pthread_join(other, NULL) == 0);
  MUST(dsm_barrier_wait(session) == DSM_OK);
  for (int i = 0; i < 4096; i++) MUST(map[i] == 0);
  for (int i = 0; i < 5000; i++) MUST(map[4096 + i] == 7);
  for (int i = 0; i < 8192; i++) MUST(map[16384 + i] == 9);
  MUST(dsm_close(session) == DSM_OK);
  none_open();
  fprintf(report, "ok\n");
  return fclose(report);
}
