/* Objects of the C library in a map that is ordinary shared memory: in a session that is in direct mode and stays in it. They
 * are the C library's own there, at its speed. But one made by a static initialiser, or without PTHREAD_PROCESS_SHARED, is
 * private to a process: its threads would not wake those of another process. So it is made a shared one. */
#ifndef DSM_POSIX_SHARED_H
#define DSM_POSIX_SHARED_H

enum posix_kind { POSIX_MUTEX, POSIX_CONDITION, POSIX_RWLOCK, POSIX_BARRIER, POSIX_SEMAPHORE, POSIX_KINDS };

#pragma GCC visibility push(hidden)

/* Makes the object process-shared, before its first use or between its initialisation and its first use. May be called any
 * number of times, by any process. Of a semaphore it does nothing: sem_init() must be told. */
void posix_share(enum posix_kind kind, void *object);

#pragma GCC visibility pop

#endif
