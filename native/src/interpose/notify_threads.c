/* Functions that the C library calls on threads of its own (SIGEV_THREAD of timers and message queues). It starts these
 * threads with every signal blocked, by system calls that dsm does not see, so their first store to the map would be
 * fatal. Therefore the C library gets a wrapper that unblocks SIGSEGV first.
 *
 * The function and value of a wrapper are kept forever, since a call may be in progress when its timer is deleted: one
 * entry for each pair, at most NOTIFY_MAX. Further functions are called as without dsm.
 *
 * Only in libdsm.so, like libc_outputs.c. */
#define _GNU_SOURCE
#include "interpose/notify_threads.h"

#include <pthread.h>
#include <stddef.h>

#include "base/next.h"
#include "trap/signals.h"

#define NOTIFY_MAX 4096u

struct notify {
  void (*function)(union sigval);
  union sigval value;
};

static struct notify entries[NOTIFY_MAX];
static unsigned count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void run(union sigval value) {
  const struct notify *entry = value.sival_ptr;
  dsm_mask_open();
  entry->function(entry->value);
}

/* Returns the entry for the event, or NULL if all are in use. */
static struct notify *entry_for(const struct sigevent *event) {
  pthread_mutex_lock(&lock);
  unsigned i = 0;
  while (i < count && (entries[i].function != event->sigev_notify_function ||
                       entries[i].value.sival_ptr != event->sigev_value.sival_ptr))
    i++;
  if (i == count && count < NOTIFY_MAX)
    entries[count++] = (struct notify){event->sigev_notify_function, event->sigev_value};
  pthread_mutex_unlock(&lock);
  return i < count ? &entries[i] : NULL;
}

struct sigevent *dsm_notify_open(struct sigevent *event, struct sigevent *room) {
  if (event == NULL || event->sigev_notify != SIGEV_THREAD || dsm_is_second()) return event;
  struct notify *entry = entry_for(event);
  if (entry == NULL) return event;
  *room = *event;
  room->sigev_notify_function = run;
  room->sigev_value.sival_ptr = entry;
  return room;
}
