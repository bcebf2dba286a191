/* Kernels in a session: the processes are those of the session in the environment, locks and semaphores are named. */
#include <dsm/dsm.h>
#include <stdio.h>
#include <stdlib.h>

#include "parallel.h"

#define NAME_BYTES 24u

static dsm_session *session;
static char (*lock_names)[NAME_BYTES], (*semaphore_names)[NAME_BYTES];

static void check(int status) {
  if (status != DSM_OK) fail("%s", dsm_last_error());
}

static char (*names(const char *kind, unsigned count)) [NAME_BYTES] {
  char (*made)[NAME_BYTES] = private_memory((size_t)count * NAME_BYTES);
  for (unsigned i = 0; i < count; i++) snprintf(made[i], NAME_BYTES, "%s-%u", kind, i);
  return made;
}

struct team team_start(size_t bytes, unsigned locks, unsigned semaphores) {
  dsm_config config;
  check(dsm_config_init(&config));
  if (config.size < bytes) config.size = bytes;
  check(dsm_open(&config, &session));
  lock_names = names("lock", locks);
  semaphore_names = names("semaphore", semaphores);
  return (struct team){(unsigned)dsm_rank(session), (unsigned)dsm_processes(session), dsm_address(session)};
}

void team_lock(unsigned i) {
  check(dsm_lock(session, lock_names[i]));
}

void team_unlock(unsigned i) {
  check(dsm_unlock(session, lock_names[i]));
}

void team_semaphore_wait(unsigned i) {
  check(dsm_sem_wait(session, semaphore_names[i], 0));
}

void team_semaphore_post(unsigned i) {
  check(dsm_sem_post(session, semaphore_names[i], 0));
}

void team_barrier(void) {
  check(dsm_barrier_wait(session));
}

void team_finish(void) {
  check(dsm_close(session));
  free(lock_names);
  free(semaphore_names);
}
