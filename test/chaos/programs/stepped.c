/* Three processes of a session in direct mode, of which one is killed after so many instructions of one operation:
 *   stepped OPERATION INSTRUCTIONS|asleep|end
 * asleep: it is killed when it sleeps in the operation; end: when the operation is over. The other two go on: they say whether
 * the death of an owner was told once, and only if there was one, whether what a semaphore counts is still there, and whether
 * none waits for ever. Prints how many instructions were executed, and whether the operation was over.
 *
 * The parent executes the instructions one by one (ptrace) and is not in the session. It reads the words by which the processes
 * synchronise from the file behind the map, so it knows at each instruction who has the lock. */
#include <sched.h>
#include <sys/wait.h>

#include "stepped_members.h"

/* How often it is looked whether the stepped process sleeps. */
#define LOOK_MS 2
/* So many instructions take the victim into the loop in which it looks for a while before it sleeps; into the barrier's, a
 * third of them. */
#define HELP_AFTER 700

/* ---- operations ---- */

/* What was so when the victim was killed. */
struct death {
  int is_over, is_owner, units;
  uint32_t phase;
  int has_first, has_second; /* answered */
};

static int is_helped;   /* the others have done what the victim waits for */
static uint32_t before; /* phase of the barrier */

static void unlock_first(void) {
  CHECK(ask(first, 'u') == DSM_OK);
}

static void post_first(void) {
  CHECK(ask(first, 'p') == DSM_OK);
}

static void meet(void) {
  tell(first, 'b');
  tell(second, 'b');
}

/* The lock goes on. `status`: of the first that has it after the death. */
static void check_lock(const struct death *death, const struct member *next, int status, int is_owner_at_end) {
  CHECK(status == DSM_OK || status == DSM_OWNER_DIED);
  int died = death->is_over ? is_owner_at_end : death->is_owner;
  if (died >= 0) CHECK(died == (status == DSM_OWNER_DIED));
  CHECK(ask(next, 'u') == DSM_OK);
  for (int i = FIRST; i < MEMBERS; i++) {
    CHECK(ask(&members[i], 'l') == DSM_OK);
    CHECK(ask(&members[i], 'u') == DSM_OK);
  }
}

static void after_lock(const struct death *death) {
  check_lock(death, first, ask(first, 'l'), 1);
}

static void after_unlock(const struct death *death) {
  check_lock(death, first, ask(first, 'l'), 0);
}

static void after_contended(const struct death *death) {
  if (!is_helped) unlock_first();
  check_lock(death, second, ask(second, 'l'), 1);
}

static void after_unlock_of_waiter(const struct death *death) {
  check_lock(death, first, answer_of(first), 0);
}

/* Takes all that is left of the semaphore. `expected`: so many must be; -1: 0 or 1, because the arbiter has decided. */
static void check_units(int expected) {
  int left = 0;
  while (ask(second, 't') == DSM_OK) left++;
  CHECK(expected >= 0 ? left == expected : left <= 1);
  tell(second, 'w');
  post_first();
  CHECK(answer_of(second) == DSM_OK);
  CHECK(ask(first, 't') == DSM_AGAIN);
}

static void after_wait(const struct death *death) {
  check_units(death->is_over ? 0 : death->units);
}

static void after_wait_asleep(const struct death *death) {
  int left = death->is_over ? 0 : death->units;
  if (!is_helped) post_first();
  check_units(!is_helped && left >= 0 ? left + 1 : left);
}

static void after_post(const struct death *death) {
  check_units(death->is_over ? 1 : death->units);
}

static void after_post_for_waiter(const struct death *death) {
  int is_posted = death->is_over || death->units > 0 || death->has_first;
  if (!is_posted) CHECK(ask(second, 'p') == DSM_OK);
  CHECK(answer_of(first) == DSM_OK);
  /* Where the arbiter has decided, nothing says whether there was a post. */
  check_units(is_posted || death->units >= 0 ? 0 : -1);
}

static void after_barrier(const struct death *death) {
  /* None passes before the victim has come, or is gone. */
  if ((death->phase & WIRE_BARRIER_GIVEN) != 0 && death->phase == before) CHECK(!death->has_first && !death->has_second);
  if (!is_helped) meet();
  for (int times = 0; times < 3; times++) {
    if (times > 0) meet();
    CHECK(answer_of(first) == DSM_OK);
    CHECK(answer_of(second) == DSM_OK);
  }
}

static void prepare_owner(void) {
  CHECK(ask(victim, 'l') == DSM_OK);
}

static void prepare_other_owner(void) {
  CHECK(ask(first, 'l') == DSM_OK);
}

static void prepare_waiter(void) {
  prepare_owner();
  tell(first, 'l');
  await_sleep(first);
}

/* The waiter has been overtaken for so long that it must be next. */
static void prepare_starving(void) {
  prepare_waiter();
  uint32_t word = (WIRE_CELL_OWNED + (uint32_t)victim->rank) | WIRE_CELL_SLEEPERS;
  atomic_compare_exchange_strong(lock_word(), &word, word | WIRE_CELL_STARVING);
}

static void prepare_semaphore_waiter(void) {
  tell(first, 'w');
  await_sleep(first);
}

static void prepare_meeting(void) {
  meet();
  is_helped = 1;
  await_sleep(first);
  await_sleep(second);
}

static const struct operation {
  const char *name;
  char command;
  void (*prepare)(void);
  void (*help)(void); /* called when the victim sleeps, or has executed so many instructions */
  void (*check)(const struct death *death);
  long help_after; /* 0: when it sleeps only */
  int is_alone;    /* all processes have one core, so none looks for a while before it sleeps */
} operations[] = {
    {"lock", 'l', NULL, NULL, after_lock, 0, 0},
    {"unlock", 'u', prepare_owner, NULL, after_unlock, 0, 0},
    {"lock-awake", 'l', prepare_other_owner, unlock_first, after_contended, HELP_AFTER, 0},
    {"lock-asleep", 'l', prepare_other_owner, unlock_first, after_contended, 0, 1},
    {"unlock-waiter", 'u', prepare_waiter, NULL, after_unlock_of_waiter, 0, 1},
    {"unlock-starving", 'u', prepare_starving, NULL, after_unlock_of_waiter, 0, 1},
    {"wait", 'w', post_first, NULL, after_wait, 0, 0},
    {"wait-awake", 'w', NULL, post_first, after_wait_asleep, HELP_AFTER, 0},
    {"wait-asleep", 'w', NULL, post_first, after_wait_asleep, 0, 1},
    {"post", 'p', NULL, NULL, after_post, 0, 0},
    {"post-waiter", 'p', prepare_semaphore_waiter, NULL, after_post_for_waiter, 0, 1},
    {"barrier-awake", 'b', NULL, meet, after_barrier, HELP_AFTER / 3, 0},
    {"barrier-asleep", 'b', NULL, meet, after_barrier, 0, 1},
    {"barrier-last", 'b', prepare_meeting, NULL, after_barrier, 0, 1},
};

/* ---- stepping ---- */

/* Waits until the victim has executed its instruction. Returns whether it sleeps instead. `forever`: it will be woken. */
static int await_step(int forever, int *stop_signal) {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  struct timespec look = {.tv_nsec = LOOK_MS * 1000000l};
  for (int waited_ms = 0;; waited_ms += LOOK_MS) {
    int status;
    pid_t pid = waitpid(victim->pid, &status, WNOHANG);
    CHECK(pid >= 0);
    if (pid > 0) {
      CHECK(WIFSTOPPED(status));
      *stop_signal = WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
      return 0;
    }
    CHECK(waited_ms < LIVENESS_MS);
    if (sigtimedwait(&child, NULL, &look) < 0 && !forever && sleeps(victim)) return 1;
  }
}

/* The others do what the victim waits for. */
static void help(const struct operation *operation) {
  if (operation->help == NULL || is_helped) return;
  is_helped = 1;
  operation->help();
}

/* Steps through the operation, and kills the victim. Returns how many instructions it has executed. */
static long step(const struct operation *operation, long limit, int asleep, struct death *death) {
  long executed = 0;
  int stop_signal;
  tell(victim, operation->command);
  await_step(1, &stop_signal);
  for (; executed < limit && !atomic_load(&shared->is_over); executed++) {
    if (operation->help_after > 0 && executed == operation->help_after) help(operation);
    CHECK(ptrace(PTRACE_SINGLESTEP, victim->pid, NULL, (void *)(intptr_t)stop_signal) == 0);
    if (!await_step(0, &stop_signal)) continue;
    if (asleep) break;
    help(operation);
    await_step(1, &stop_signal);
  }
  int over = atomic_load(&shared->is_over);
  if (over) CHECK(over == 1 + DSM_OK);
  *death = (struct death){
      .is_over = over != 0,
      .is_owner = is_owner(),
      .units = units(),
      .phase = phase(),
      .has_first = has_answered(first, 0),
      .has_second = has_answered(second, 0),
  };
  CHECK(kill(victim->pid, SIGKILL) == 0);
  CHECK(waitpid(victim->pid, NULL, 0) == victim->pid);
  return executed;
}

/* Whether the processes have all cells, and none has a lock. */
static int are_given(void) {
  return atomic_load(lock_word()) == WIRE_CELL_FREE && units() == 0 && (phase() & WIRE_BARRIER_GIVEN) != 0;
}

/* All use everything, so that they know the cells. */
static void warm_up(void) {
  for (int times = 0; times < 3 || !are_given(); times++) {
    for (int i = 0; i < MEMBERS; i++)
      for (const char *command = "lupw"; *command != 0; command++) CHECK(ask(&members[i], *command) == DSM_OK);
    for (int i = 0; i < MEMBERS; i++) tell(&members[i], 'b');
    for (int i = 0; i < MEMBERS; i++) CHECK(answer_of(&members[i]) == DSM_OK);
  }
}

static void use_one_core(void) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(sched_getcpu(), &cores);
  CHECK(sched_setaffinity(0, sizeof cores, &cores) == 0);
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  const struct operation *operation = NULL;
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
    if (strcmp(operations[i].name, argv[1]) == 0) operation = &operations[i];
  CHECK(operation != NULL);
  int asleep = strcmp(argv[2], "asleep") == 0;
  long limit = asleep || strcmp(argv[2], "end") == 0 ? INT64_MAX : atol(argv[2]);

  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  if (operation->is_alone) use_one_core();
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(shared != MAP_FAILED);
  for (int i = 0; i < MEMBERS; i++) start(&members[i]);
  CHECK(sigprocmask(SIG_BLOCK, &child, NULL) == 0);
  for (int i = 0; i < MEMBERS; i++) members[i].rank = answer_of(&members[i]);
  map_cells();
  warm_up();
  before = phase();
  if (operation->prepare != NULL) operation->prepare();
  CHECK(ask(victim, 's') == 0);

  struct death death;
  long executed = step(operation, limit, asleep, &death);
  operation->check(&death);
  for (int i = FIRST; i < MEMBERS; i++) {
    int status;
    CHECK(ask(&members[i], 'q') == DSM_OK);
    CHECK(waitpid(members[i].pid, &status, 0) == members[i].pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  printf("%ld %s\n", executed, death.is_over ? "over" : "killed");
  return 0;
}
