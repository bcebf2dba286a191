/* The libdsm (2018) interface: one session at a time, any error is printed and ends the process. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dsm/dsm.h>
#include <dsm/dsm_util.h>

static dsm_session *current;
static unsigned local_rank;    /* 0 in the process that called dsm_init */
static pid_t *children;        /* in local rank 0: the others */
static unsigned children_count;

static void check(const char *call, int status) {
  if (status != DSM_OK) dsm_cpanic(call, dsm_last_error());
}

static void require_session(const char *call) {
  if (current == NULL) dsm_cpanic(call, "there is no session; call dsm_init first");
}

/* Forks the other local processes. Returns in every process; local_rank tells them apart. */
static void fork_others(unsigned count) {
  children = dsm_zalloc((count + 1) * sizeof *children);
  children_count = 0;
  local_rank = 0;
  /* Every process would otherwise print the buffered output. */
  fflush(NULL);
  for (unsigned i = 0; i < count; i++) {
    pid_t child = dsm_fork();
    if (child == 0) {
      local_rank = i + 1;
      children_count = 0;
      return;
    }
    children[children_count++] = child;
  }
}

void *dsm_init2(dsm_cfg *cfg) {
  if (current != NULL) dsm_cpanic("dsm_init", "there is a session already; call dsm_exit first");
  if (cfg == NULL) dsm_cpanic("dsm_init", "the configuration is NULL");
  if (cfg->lproc < 1 || cfg->tproc < 1 || cfg->lproc > cfg->tproc)
    dsm_panicf("dsm_init: %u local processes of %u in all is not possible", cfg->lproc, cfg->tproc);

  dsm_config config;
  check("dsm_init", dsm_config_init(&config));
  config.session = cfg->sid_name;
  config.processes = cfg->tproc;
  config.size = cfg->map_size > 0 ? cfg->map_size : 1;
  if (cfg->lproc > 1) config.rank = -1; /* one requested rank does not fit several processes */
  char daemon[300];
  if (cfg->d_addr != NULL) {
    const char *form = strchr(cfg->d_addr, ':') != NULL ? "[%s]:%s" : "%s:%s";
    int length = snprintf(daemon, sizeof daemon, form, cfg->d_addr, cfg->d_port != NULL ? cfg->d_port : "4200");
    if (length >= (int)sizeof daemon) dsm_cpanic("dsm_init", "the daemon's address is too long");
    config.daemon = daemon;
  } else if (cfg->d_port != NULL) {
    snprintf(daemon, sizeof daemon, DSM_LOOPBACK_ADDR ":%.10s", cfg->d_port);
    config.daemon = daemon;
  }
  fork_others(cfg->lproc - 1);
  check("dsm_init", dsm_open(&config, &current));
  return dsm_address(current);
}

void *dsm_init(const char *sid, unsigned int lproc, unsigned int tproc, size_t map_size) {
  dsm_cfg cfg = {.lproc = lproc, .tproc = tproc, .sid_name = sid, .map_size = map_size};
  return dsm_init2(&cfg);
}

int dsm_get_gid(void) {
  require_session("dsm_get_gid");
  return dsm_rank(current);
}

void dsm_barrier(void) {
  require_session("dsm_barrier");
  check("dsm_barrier", dsm_barrier_wait(current));
}

void dsm_post_sem(const char *sem_name) {
  require_session("dsm_post_sem");
  check("dsm_post_sem", dsm_sem_post(current, sem_name, 1));
}

void dsm_wait_sem(const char *sem_name) {
  require_session("dsm_wait_sem");
  check("dsm_wait_sem", dsm_sem_wait(current, sem_name, 1));
}

int dsm_dig_hole(void *addr, size_t size) {
  int hole;
  require_session("dsm_dig_hole");
  return dsm_hole_dig(current, addr, size, &hole) == DSM_OK ? hole : -1;
}

void dsm_fill_hole(int id) {
  require_session("dsm_fill_hole");
  check("dsm_fill_hole", dsm_hole_fill(current, id));
}

void dsm_exit(void) {
  require_session("dsm_exit");
  check("dsm_exit", dsm_barrier_wait(current));
  check("dsm_exit", dsm_close(current));
  current = NULL;
  if (local_rank > 0) exit(EXIT_SUCCESS);
  for (unsigned i = 0; i < children_count; i++)
    while (waitpid(children[i], NULL, 0) < 0 && errno == EINTR) continue;
  free(children);
  children = NULL;
  children_count = 0;
}
