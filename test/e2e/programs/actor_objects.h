/* What an actor does with objects in the map: "m.lock 64", "c.wait 128 64", "b.init 192 3". The first number is the byte of the
 * map at which the object lies. */
#ifndef ACTOR_OBJECTS_H
#define ACTOR_OBJECTS_H

#include <dsm/dsm.h>
#include <string.h>

/* Performs the command with its numbers, the first of which is the object at `object`. Returns a status, or -1: there is no such
 * command. */
static int perform_object(const char *verb, void *object, uint8_t *map, const unsigned long long n[3]) {
#define VERB(word, call) \
  if (strcmp(verb, word) == 0) return call
  VERB("m.lock", dsm_mutex_lock(object));
  VERB("m.try", dsm_mutex_trylock(object));
  VERB("m.timed", dsm_mutex_timedlock(object, (uint32_t)n[1]));
  VERB("m.unlock", dsm_mutex_unlock(object));
  VERB("m.unmended", dsm_mutex_unlock_unmended(object));
  VERB("rw.read", dsm_rwlock_rdlock(object));
  VERB("rw.tryread", dsm_rwlock_tryrdlock(object));
  VERB("rw.timedread", dsm_rwlock_timedrdlock(object, (uint32_t)n[1]));
  VERB("rw.write", dsm_rwlock_wrlock(object));
  VERB("rw.trywrite", dsm_rwlock_trywrlock(object));
  VERB("rw.timedwrite", dsm_rwlock_timedwrlock(object, (uint32_t)n[1]));
  VERB("rw.unlock", dsm_rwlock_unlock(object));
  VERB("rw.unmended", dsm_rwlock_unlock_unmended(object));
  VERB("c.wait", dsm_cond_wait(object, (dsm_mutex *)(void *)(map + n[1])));
  VERB("c.timed", dsm_cond_timedwait(object, (dsm_mutex *)(void *)(map + n[1]), (uint32_t)n[2]));
  VERB("c.signal", dsm_cond_signal(object));
  VERB("c.broadcast", dsm_cond_broadcast(object));
  VERB("s.init", dsm_semaphore_init(object, (uint32_t)n[1]));
  VERB("s.wait", dsm_semaphore_wait(object));
  VERB("s.try", dsm_semaphore_trywait(object));
  VERB("s.timed", dsm_semaphore_timedwait(object, (uint32_t)n[1]));
  VERB("s.post", dsm_semaphore_post(object));
  VERB("b.init", dsm_barrier_init(object, (uint32_t)n[1]));
  VERB("b.meet", dsm_barrier_arrive_and_wait(object, NULL));
  VERB("b.timed", dsm_barrier_arrive_and_wait_timed(object, (uint32_t)n[1], NULL));
#undef VERB
  return -1;
}

#endif
