/* Starts an arbiter from a process with all that might show in it, or be disturbed by it. Prints "open" and the status. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t children_ended;

static void on_child(int signo) {
  (void)signo;
  children_ended++;
}

static void *wait_for_any(void *unused) {
  (void)unused;
  /* A child of its own keeps it waiting until the end. */
  pid_t ended = wait(NULL);
  return (void *)(intptr_t)ended;
}

/* From here on that system call fails. */
static void forbid(unsigned number, unsigned error) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

int main(int count, char **arguments) {
  const char *how = count > 1 ? arguments[1] : "";
  dsm_session *session;
  pthread_t waiter;
  pid_t own = -1;
  if (strcmp(how, "waits") == 0) {
    signal(SIGCHLD, on_child);
    own = fork();
    CHECK(own >= 0);
    if (own == 0) {
      pause();
      _exit(0);
    }
    CHECK(pthread_create(&waiter, NULL, wait_for_any, NULL) == 0);
  } else if (strcmp(how, "ignores") == 0) {
    for (int signo = 1; signo < 32; signo++)
      if (signo != SIGSEGV && signo != SIGBUS && signo != SIGTRAP)
        signal(signo, SIG_IGN);
    sigset_t most;
    sigfillset(&most);
    sigdelset(&most, SIGSEGV);
    sigprocmask(SIG_SETMASK, &most, NULL);
    umask(0777);
  } else if (strcmp(how, "descriptors") == 0 || strcmp(how, "old-kernel") == 0) {
    int null = open("/dev/null", O_RDONLY);
    for (int fd = 100; fd < 1500; fd += 2)
      CHECK(dup2(null, fd) == fd);
    if (strcmp(how, "old-kernel") == 0)
      forbid(SYS_close_range, ENOSYS); /* Linux before 5.9 */
  } else if (strcmp(how, "adopts") == 0) {
    signal(SIGCHLD, on_child);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
  } else if (strcmp(how, "first") == 0) {
    signal(SIGCHLD, on_child);
    CHECK(getpid() == 1);
  } else if (strcmp(how, "no-processes") == 0) {
    forbid(SYS_clone, EAGAIN); /* the answer to `ulimit -u`, which does not bind root */
  } else if (strcmp(how, "no-memory") == 0) {
    forbid(SYS_clone, ENOMEM);
  }
  int status = dsm_open(NULL, &session);
  printf("open %s %s\n", dsm_status_name(status), status == DSM_OK ? "" : dsm_last_error());
  fflush(stdout);
  if (status != DSM_OK)
    return 1;
  int child_status;
  CHECK(waitpid(own > 0 ? own : -1, &child_status, WNOHANG) == (own > 0 ? 0 : -1));
  CHECK(children_ended == 0);
  /* What the arbiter is like is looked at from outside. */
  if (getchar() == EOF)
    clearerr(stdin);
  CHECK_OK(dsm_close(session));
  /* Nor later, when it has ended. */
  if (getchar() == EOF)
    clearerr(stdin);
  if (own > 0) {
    void *ended;
    kill(own, SIGTERM);
    CHECK(pthread_join(waiter, &ended) == 0 && (pid_t)(intptr_t)ended == own);
    CHECK(children_ended == 1);
  } else {
    CHECK(waitpid(-1, &child_status, WNOHANG) == -1 && errno == ECHILD);
    CHECK(children_ended == 0);
  }
  printf("done\n");
  return 0;
}
