/* dsm: distributed shared memory.
 *
 * Two interfaces to one library:
 *
 *  - The session interface (dsm_open ... dsm_close). Every call returns DSM_OK (0) or a positive code from
 *    `enum dsm_status`; no call exits the process. dsm_last_error() returns the reason as text.
 *  - The libdsm (2018) interface (dsm_init ... dsm_exit), source-compatible with that library: one session at a time
 *    per process; every error is printed and terminates the process.
 *
 * The map is ordinary memory: load and store through pointers. Stores are seen by every process of the session in one
 * total order (sequential consistency), and LOCK-prefixed instructions (__atomic_*, C11 atomics) are atomic across
 * nodes. Pointers into the map are valid in every process of the session: the address is the same everywhere.
 *
 * Tearing: a captured store of 1, 2, 4 or 8 naturally aligned bytes is atomic under every consistency model; so is a
 * store in direct mode. In holes, and under `release` on pages that a process has stored to more than 16 times since it
 * last synchronised (or that follow such a page, or that it filled the last time and fills again), only the bytes that
 * changed are published: if one of two unsynchronised stores to a word is made there, the word may be a mix of their
 * bytes. A byte that was not written is never published.
 *
 * Threads: every call may be made from any thread, and threads may store to the map at the same time. A barrier is a
 * call of the process, not of a thread: one at a time per session.
 *
 * Stacks: makecontext() stacks and alternate signal stacks may lie in the map. The stack of a thread may lie there in
 * direct mode only (else pthread_attr_setstack() returns EACCES). On a stack in the map, system calls cannot write to
 * local variables, calls of this header return DSM_INVALID, and a signal handler needs SA_ONSTACK. A store that crosses
 * the end of the map is a fault of the program, at the first byte after the map: its SIGSEGV handler is called.
 *
 * Signals: a store to the map raises SIGSEGV, which the library handles; some stores are completed by a SIGTRAP. Where
 * libdsm is linked directly or preloaded (as `dsm run` does), it interposes the calls of the C library that change
 * masks and handlers (sigaction, signal, sigprocmask, pthread_sigmask, sigsuspend, ppoll ...): the program may block
 * SIGSEGV and set handlers for SIGSEGV, SIGBUS and SIGTRAP at any time, and these get every signal that is not the
 * library's. SIGSTKFLT represents a blocked SIGSEGV in the kernel's masks and is reserved for the library. Where libdsm
 * is loaded otherwise (dlopen), it calls handlers that were set before dsm_open() and corrects the mask of the thread
 * that calls dsm_open(); it does not see later changes, nor system calls that bypass the C library. If a thread has
 * SIGSEGV blocked in such a way, its first store to the map terminates the process.
 *
 * Fork: the map is not available after fork(). A child that uses it is terminated with a message; the parent is not
 * affected.
 */
#ifndef DSM_H
#define DSM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* Outcome of a call. The numbers are part of the wire protocol and do not change meaning. */
enum dsm_status {
  DSM_OK = 0,
  DSM_AGAIN = 1,        /* a `try` form would have had to wait */
  DSM_TIMEOUT = 2,      /* the time given ran out */
  DSM_LOST = 3,         /* a process of the session died without leaving */
  DSM_FULL = 4,         /* the session has all the processes it expects */
  DSM_MISMATCH = 5,     /* processes or size differ from what the session has */
  DSM_VERSION = 6,      /* the other side speaks another protocol version */
  DSM_INVALID = 7,      /* an argument is out of range; dsm_last_error() names it */
  DSM_ENDED = 8,        /* the session has ended */
  DSM_OVERFLOW = 9,     /* a semaphore would pass DSM_SEM_MAX */
  DSM_LIMIT = 10,       /* a stated limit is reached (semaphores, holes, sessions ...), or that of open files */
  DSM_BUSY = 11,        /* this process is in the session or barrier, or has or waits for the lock, already */
  DSM_LEFT = 12,        /* this process has left the session */
  DSM_NO_MEMORY = 13,   /* out of memory or out of room in /dev/shm */
  DSM_FORKED = 14,      /* called in a child of the process that joined */
  DSM_UNREACHABLE = 15, /* daemon, server or arbiter cannot be reached */
  DSM_PROTOCOL = 16,    /* the other side sent something that is not dsm */
  DSM_SYSTEM = 17,      /* a system call failed; dsm_last_error() has its reason */
  DSM_REFUSED = 18,     /* refused by the daemon (unknown session, bad request) */
  DSM_OWNER_DIED = 19,  /* locked, but the last owner ended while it had the lock */
  DSM_NOT_OWNER = 20,   /* this process does not have the lock */
};

/* Bytes in a session, node, semaphore, lock or block name: UTF-8 without '/', control characters (U+0000 to U+001F,
 * U+007F to U+009F), separators of lines and paragraphs (U+2028, U+2029) and marks of direction (U+061C, U+200E,
 * U+200F, U+202A to U+202E, U+2066 to U+2069), and not "." or "..". */
#define DSM_NAME_MAX 63
#define DSM_PROCESSES_MAX 1024     /* processes in a session */
#define DSM_SIZE_MAX (1ull << 32)  /* bytes in a map: 4 GiB */
#define DSM_SEM_MAX 0x7fffffff     /* value of a semaphore */
#define DSM_HOLES_MAX 64           /* open holes of one process in one session */
#define DSM_POOL_MAX 4096          /* bytes of a block of dsm_pool_alloc() that comes from the pool */
#define DSM_SESSIONS_MAX 32        /* open sessions of one process */
#define DSM_LEFT_MAX 128           /* sessions that one process has left and that are still told from open ones */
#define DSM_ARRIVALS_MAX 65536u    /* threads that a barrier in the map waits for */

/* A session that this process has joined. Valid from dsm_open() to dsm_close(); after that, calls return DSM_LEFT for
 * a while (see dsm_close). */
typedef struct dsm_session dsm_session;

/* Settings for dsm_open(). Fill with dsm_config_init(), then change the fields that the program decides itself. */
typedef struct dsm_config {
  const char *session;      /* name, 1 to DSM_NAME_MAX bytes of UTF-8: see there */
  const char *node;         /* name of this node; NULL: the host's name */
  const char *daemon;       /* "host:port" of the session daemon; NULL: 127.0.0.1:4200 */
  uint32_t processes;       /* processes the session waits for; 0: whatever the session has */
  uint64_t size;            /* bytes of shared memory, rounded up to whole pages; 0: whatever the session has */
  int32_t rank;             /* wished rank, given if it is free; -1: any */
  uint32_t join_timeout_ms; /* how long to wait for the others to join; 0: 300000 */
  int32_t autostart;        /* 1: start a local daemon where none listens on a loopback address; 0: never */
  const char *binary;       /* path of the dsm binary; NULL: DSM_BIN, beside the library, PATH */
  const char *order;        /* "sequential", "release" or "pipelined"; NULL: what the session has, sequential for a new one */
  int32_t direct;           /* 0: no direct mode, even if all processes are on one node; ends that of an elastic session */
  const char *on_loss;      /* "fail" or "continue"; NULL: whatever the session has, fail for a new one */
  int32_t elastic;          /* 1: processes may join while it runs; 0: whatever the session is, a new one is not */
} dsm_config;

/* Fills `config` from the environment: DSM_SESSION, DSM_NODE, DSM_DAEMON, DSM_PROCESSES, DSM_SIZE (bytes, or with a
 * suffix KiB, MiB, GiB), DSM_RANK, DSM_JOIN_TIMEOUT_MS, DSM_AUTOSTART, DSM_BIN, DSM_ORDER, DSM_DIRECT (0 or 1),
 * DSM_ON_LOSS, DSM_ELASTIC (0 or 1). A variable that is set but cannot be read gives DSM_INVALID. Strings point into
 * the environment. Without DSM_SESSION, in a task that Slurm's srun has started, the step is the session,
 * "slurm-JOB.STEP": processes, rank and node are SLURM_STEP_NUM_TASKS, SLURM_PROCID and SLURMD_NODENAME, and a step on
 * many nodes looks for the daemon at SLURM_LAUNCH_NODE_IPADDR:4200, all if the DSM_ variable is not set. */
int dsm_config_init(dsm_config *config);

/* Joins the session (NULL: configured by the environment alone), creating it if it is not there, and waits until all
 * its processes have joined. On success *session is the session. DSM_BUSY: this process is in the session already; its
 * threads share the one handle. */
int dsm_open(const dsm_config *config, dsm_session **session);

/* Leaves the session. Later calls with this handle return DSM_LEFT until the process has left DSM_LEFT_MAX further
 * sessions; after that the handle may be reused for another session and must not be used. The last state of the map
 * stays readable at its address, as a private copy; a store to it terminates the process with a message. Open holes are
 * discarded without being published. */
int dsm_close(dsm_session *session);

int dsm_rank(const dsm_session *session);           /* 0 to processes - 1 */
/* Processes in the session. Processes may join, leave and rejoin an elastic session while it runs; there the count is
 * that of the last barrier this process passed, or of its join. A barrier waits for all processes that are present. */
int dsm_processes(const dsm_session *session);
void *dsm_address(const dsm_session *session);      /* first byte of the map, the same in every process */
size_t dsm_size(const dsm_session *session);        /* bytes in the map, whole pages */
const char *dsm_node(const dsm_session *session);   /* name of this process's node */
const char *dsm_name(const dsm_session *session);   /* name of the session */
const char *dsm_order(const dsm_session *session);  /* "sequential", "release" or "pipelined" */
/* The policy for a process that dies without leaving. "fail": barriers, waits, sleeps and locks of all other processes,
 * pending and later ones, return DSM_LOST, and dsm_last_error() names the lost rank; stores, loads, posts, unlocks and
 * leaving still work, so that the program can save its results. "continue": the other processes go on without it, and
 * barriers count the processes that are present. */
const char *dsm_on_loss(const dsm_session *session);
/* 1 in direct mode: all processes are on one node and share its memory as threads do. A store does not trap, and the
 * memory model is x86-TSO. In an elastic session direct mode ends automatically, at any time, when a process of another
 * node (or one with `direct` 0) joins. No store is lost; stores made during the transition wait. In each process of
 * such a session a library thread performs the transition; it runs until the process leaves. Write such programs as if
 * there were no direct mode: system calls that write to the map (see below) and are in progress at that moment fail as
 * they would without direct mode. */
int dsm_is_direct(const dsm_session *session);

/* Waits until every process that has not left is in the barrier. */
int dsm_barrier_wait(dsm_session *session);
/* Like dsm_barrier_wait, but returns DSM_TIMEOUT after timeout_ms (0 to 2147483647): then this process is out of the
 * barrier again, as if it had not called. */
int dsm_barrier_timed(dsm_session *session, uint32_t timeout_ms);

/* Named semaphores, shared by the session, first come first served; in direct mode a wait may be overtaken for its first
 * 0.2 s. A semaphore starts to exist at its first use, with the value `initial` given there; later values of `initial` are
 * ignored. */
int dsm_sem_wait(dsm_session *session, const char *name, uint32_t initial);
int dsm_sem_trywait(dsm_session *session, const char *name, uint32_t initial);  /* DSM_AGAIN instead of waiting */
int dsm_sem_timedwait(dsm_session *session, const char *name, uint32_t initial, uint32_t timeout_ms);
int dsm_sem_post(dsm_session *session, const char *name, uint32_t initial);

/* Named locks, shared by the session, first come first served; one that is free on the node that had it last may be
 * taken there before a request of another node has arrived. All language bindings use the same locks, by name. A
 * lock exists from its first use on. Its owner is a process, not a thread: DSM_BUSY if any thread of this process holds
 * it or waits for it already. Locking and unlocking are synchronising operations like those of semaphores.
 *
 * In direct mode (dsm_is_direct()) others may overtake a process that waits, for about 1 ms; then the lock goes to those
 * that wait, in turn. There a second thread of a process may also wait, and gets DSM_BUSY once the first has the lock.
 *
 * DSM_OWNER_DIED: this process holds the lock now, as with DSM_OK, but the previous owner died or left the session
 * while it held the lock; restore the consistency of the data that the lock protects. (After a death this applies to
 * sessions with on_loss "continue"; in others, waiting for a lock then returns DSM_LOST.) */
int dsm_lock(dsm_session *session, const char *name);
int dsm_lock_try(dsm_session *session, const char *name);                           /* DSM_AGAIN instead of waiting */
int dsm_lock_timed(dsm_session *session, const char *name, uint32_t timeout_ms);    /* DSM_TIMEOUT after that time */
int dsm_unlock(dsm_session *session, const char *name);                             /* DSM_NOT_OWNER: not held */
/* Like dsm_unlock, for an owner that got DSM_OWNER_DIED and has not restored consistency: the next owner gets
 * DSM_OWNER_DIED, too. */
int dsm_unlock_unmended(dsm_session *session, const char *name);

/* Makes [address, address + size) a hole: other processes do not see what this process writes there until the hole is
 * filled. Filling publishes exactly the bytes that changed, as one log entry. Holes must not overlap. A store across
 * the edge of a hole is split there. */
int dsm_hole_dig(dsm_session *session, void *address, size_t size, int *hole);
int dsm_hole_fill(dsm_session *session, int hole);

/* Allocates a block of the map; all processes of the session share one allocator. The block is zeroed. `align` is a
 * power of two up to 4096. A program must either use this allocator or lay out the map itself, not both. DSM_NO_MEMORY:
 * no gap is large enough, or the session has 65536 blocks, the limit. */
int dsm_alloc(dsm_session *session, size_t size, size_t align, void **block);
/* Frees a block; any process may free what another process allocated. DSM_INVALID: no block begins there (double
 * free?). */
int dsm_free(dsm_session *session, void *block);
/* Returns the block of that name, the same in every process; allocates it at first use, aligned to 64 bytes.
 * DSM_MISMATCH: it exists with another size; dsm_last_error() says with which. */
int dsm_named(dsm_session *session, const char *name, size_t size, void **block);

/* Allocates a small block from the pool of this process, for lists, trees and strings; most calls ask no other process.
 * The pool takes chunks from dsm_alloc(), each at most 1/64 of the map (at least 4 KiB, at most 64 KiB). The block is
 * not zeroed, and begins at a multiple of 16 at least. A block of more than DSM_POOL_MAX bytes, or of an alignment above
 * 64, comes from dsm_alloc(), and from there it is zeroed. DSM_NO_MEMORY: the map has no room for it.
 *
 * Any process may free a block, and repeats the size and alignment as they were given. The memory then serves requests
 * of about that size, rounded up by a quarter at most (to 16, 32, 48 or 64 below that). The pool keeps as many bytes as
 * a chunk has; the rest goes to all processes, and nothing goes back to dsm_alloc(). If the map is full, larger free
 * blocks are cut. A process that dies takes with it what its pool has free, two chunks at most; one that leaves loses
 * nothing. A block that is freed twice, or stored to after it was freed, is not noticed at once. These calls must not be
 * made in signal handlers. */
int dsm_pool_alloc(dsm_session *session, size_t size, size_t align, void **block);
int dsm_pool_free(dsm_session *session, void *block, size_t size, size_t align);

/* Returns the session of this process whose map holds `address`: the way from a pointer into the map, which is the same
 * in every process, to the handle, which is not. DSM_INVALID: this process has joined no such session. */
int dsm_session_at(const void *address, dsm_session **session);

/* Sleeps while `width` (1, 2, 4 or 8) bytes at `address` hold `value`: DSM_AGAIN at once if they do not, DSM_OK after a
 * dsm_wake() at this address, DSM_TIMEOUT after timeout_ms (-1: no limit). Comparing and going to sleep are one log
 * entry, so a wake after a change of the value is never missed. */
int dsm_wait_while(dsm_session *session, const void *address, size_t width, uint64_t value, int32_t timeout_ms);
/* Wakes at most `count` processes that sleep at `address`, first come first served. *woken (may be NULL) gets the
 * number of processes woken. */
int dsm_wake(dsm_session *session, const void *address, uint32_t count, uint32_t *woken);

/* ---- Objects in the map: mutexes, reader-writer locks, condition variables, semaphores, barriers ----
 *
 * They lie at multiples of 64 bytes of the map, anywhere and in any number (a session has room for those in use: locked,
 * waited for, or a semaphore that is not 0), and synchronise the threads of all processes of the session. Zero bytes
 * are a valid start: a mutex that is free, a semaphore of 0. The calls find the session by the address. Its bytes are no
 * part of an object's state, so to copy or clear them has no effect; a block that is allocated anew has new objects.
 * dsm_free() of a block with objects that threads wait for ends these waits with DSM_INVALID.
 *
 * DSM_INVALID: the address is not in the map of a session of this process, or not aligned. DSM_LOST, DSM_LIMIT and the
 * like: as for named locks. Locking, unlocking, waiting, signalling, posting and barriers are synchronising operations
 * like those of named locks and semaphores. Order and overtaking are those of named ones, too; but while threads of a
 * process wait for a mutex, the process may keep it for them, up to 16 times in a row and for about 1 ms, before others get
 * it. A thread that waits in these calls is not cancelled. */
typedef struct dsm_mutex {
  uint64_t reserved[8];
} __attribute__((aligned(64))) dsm_mutex;
typedef struct dsm_rwlock {
  uint64_t reserved[8];
} __attribute__((aligned(64))) dsm_rwlock;
typedef struct dsm_cond {
  uint64_t reserved[8];
} __attribute__((aligned(64))) dsm_cond;
typedef struct dsm_semaphore {
  uint64_t reserved[8];
} __attribute__((aligned(64))) dsm_semaphore;
/* No typedef: dsm_barrier is a function of libdsm (2018). */
struct dsm_barrier {
  uint32_t count; /* set by dsm_barrier_init() */
  uint32_t reserved[15];
} __attribute__((aligned(64)));

/* A mutex belongs to a thread. DSM_BUSY: this thread has it already. DSM_OWNER_DIED: this thread has it now, as with
 * DSM_OK, but the process of an earlier owner died or left while it had it (see dsm_lock()). A thread that ends does not
 * unlock its mutexes. */
int dsm_mutex_lock(dsm_mutex *mutex);
int dsm_mutex_trylock(dsm_mutex *mutex);                          /* DSM_AGAIN instead of waiting */
int dsm_mutex_timedlock(dsm_mutex *mutex, uint32_t timeout_ms);   /* DSM_TIMEOUT after that time */
int dsm_mutex_unlock(dsm_mutex *mutex);                           /* DSM_NOT_OWNER: this thread does not have it */
int dsm_mutex_unlock_unmended(dsm_mutex *mutex);                  /* see dsm_unlock_unmended() */

/* A reader-writer lock: any number of readers, or one writer. Readers do not overtake a writer that waits, but for those of
 * a process that reads already, 1024 times at most. Each lock needs one unlock. A thread that reads must not ask to write:
 * it would wait for itself. DSM_OWNER_DIED: locked, but a writer's process died or left while it had the lock; all owners
 * hear of it until a writer calls dsm_rwlock_unlock(). The reads of a process that dies end. */
int dsm_rwlock_rdlock(dsm_rwlock *rwlock);
int dsm_rwlock_tryrdlock(dsm_rwlock *rwlock);
int dsm_rwlock_timedrdlock(dsm_rwlock *rwlock, uint32_t timeout_ms);
int dsm_rwlock_wrlock(dsm_rwlock *rwlock);                        /* DSM_BUSY: this thread writes already */
int dsm_rwlock_trywrlock(dsm_rwlock *rwlock);
int dsm_rwlock_timedwrlock(dsm_rwlock *rwlock, uint32_t timeout_ms);
int dsm_rwlock_unlock(dsm_rwlock *rwlock);
int dsm_rwlock_unlock_unmended(dsm_rwlock *rwlock);               /* of a reader: the same as dsm_rwlock_unlock() */

/* Unlocks the mutex and waits until the condition variable is signalled, as one step, and locks the mutex again. The thread
 * has the mutex with DSM_OK, DSM_TIMEOUT and DSM_OWNER_DIED; with DSM_NOT_OWNER and DSM_LIMIT nothing was done; with
 * DSM_LOST, DSM_LEFT and DSM_INVALID (of a freed block) it does not have it. Check the condition again afterwards. */
int dsm_cond_wait(dsm_cond *cond, dsm_mutex *mutex);
int dsm_cond_timedwait(dsm_cond *cond, dsm_mutex *mutex, uint32_t timeout_ms);
/* Lets one thread that waits, or all, go on: first come, first served. The mutex need not be locked. */
int dsm_cond_signal(dsm_cond *cond);
int dsm_cond_broadcast(dsm_cond *cond);

/* A semaphore of the value 0 to DSM_SEM_MAX. dsm_semaphore_init() may be called again; DSM_BUSY: threads wait for it. */
int dsm_semaphore_init(dsm_semaphore *semaphore, uint32_t value);
int dsm_semaphore_wait(dsm_semaphore *semaphore);
int dsm_semaphore_trywait(dsm_semaphore *semaphore);              /* DSM_AGAIN instead of waiting */
int dsm_semaphore_timedwait(dsm_semaphore *semaphore, uint32_t timeout_ms);
int dsm_semaphore_post(dsm_semaphore *semaphore);

/* A barrier of `count` threads, 1 to DSM_ARRIVALS_MAX, in any processes; 0, as in zero bytes: of as many as the session has
 * processes (dsm_processes()). DSM_BUSY: threads wait in it. */
int dsm_barrier_init(struct dsm_barrier *barrier, uint32_t count);
/* Waits until so many threads have arrived. *is_last (may be NULL) gets 1 in one of them, else 0. A process that dies is
 * still waited for, unless the session ends all waits then (DSM_LOST). DSM_MISMATCH: others wait there for another count. */
int dsm_barrier_arrive_and_wait(struct dsm_barrier *barrier, int *is_last);
/* DSM_TIMEOUT: this thread is out of the barrier again, as if it had not called. */
int dsm_barrier_arrive_and_wait_timed(struct dsm_barrier *barrier, uint32_t timeout_ms, int *is_last);

/* ---- Objects of the C library in the map ----
 *
 * Where libdsm is linked directly (before libpthread) or preloaded (LD_PRELOAD), these may lie in the map, at multiples
 * of 8 bytes, and synchronise the threads of all processes of the session: pthread_mutex_t, pthread_rwlock_t,
 * pthread_cond_t, pthread_barrier_t, sem_t without a name, mtx_t and cnd_t; so may what C++ makes of them: std::mutex,
 * std::recursive_mutex, std::timed_mutex, std::shared_mutex, std::condition_variable. They need not be
 * PTHREAD_PROCESS_SHARED: each one in the map is. Static initialisers are valid, and zero bytes where these are zero.
 * Mutexes may be recursive, error-checking and robust. In a session that is in direct mode and not elastic they are the
 * C library's own; elsewhere their state is kept as that of dsm_mutex and its like, and these differences from POSIX
 * remain:
 *
 *  - EOWNERDEAD is also what locks of mutexes that are not robust, and of reader-writer locks, return if an owner's
 *    process has died; the thread has the lock then. The next unlocking (of a writer) ends that state.
 *  - A call that cannot do its work any more (a process was lost and on_loss is "fail", the arbiter is gone) ends the process
 *    with a message, since programs do not check these calls; those of robust mutexes return ENOTRECOVERABLE.
 *  - A thread that ends does not unlock its robust mutexes; its process does.
 *  - Locking a normal mutex a second time returns EDEADLK instead of waiting for ever.
 *  - Waiting is a cancellation point only before it begins, and sem_wait() is not interrupted by signals. No call may be
 *    made in signal handlers, not even sem_post().
 *  - sem_getvalue() fails with ENOSYS, and mutexes with a priority protocol with ENOTSUP. The kind of a reader-writer lock
 *    (which side it prefers) has no effect.
 *
 * Not covered, since they call the kernel themselves: std::atomic::wait(), std::counting_semaphore, std::latch and
 * std::barrier of libstdc++, and the locks of Rust and Go. pthread_spinlock_t works everywhere, by atomic operations. */

/* Returns once every earlier store of this process is applied on its node and has its number in the log (under
 * pipelined: every store of this node's processes). */
int dsm_fence(dsm_session *session);

/* Reads from files and sockets into memory in or outside the map; the kernel itself cannot write to the map and would
 * fail with EFAULT. The calls behave like those without `dsm_`, with the same results and errors, except for bytes in
 * the map: the data is published like stores, at most 65,536 bytes at a time; if publishing fails (the session was
 * left, its arbiter is gone), the call fails with EIO and the data is lost; a stream (pipe, stream socket without
 * MSG_WAITALL) gives at most 65,536 bytes per call; a regular file gives all that is asked for, but more than 65,536
 * bytes in steps, between which another thread may read from the same position.
 *
 * Where libdsm is linked directly or preloaded (LD_PRELOAD), the plain calls do the same: read, pread, readv, recv,
 * recvfrom, recvmsg, getrandom and fread. Where it is loaded otherwise (dlopen), use these calls instead. Other calls
 * (preadv, recvmmsg, getcwd, stat ...) need memory outside the map. */
struct iovec;
struct msghdr;
struct sockaddr;
ssize_t dsm_read(int fd, void *buffer, size_t size);
ssize_t dsm_pread(int fd, void *buffer, size_t size, int64_t offset);
ssize_t dsm_readv(int fd, const struct iovec *buffers, int count);
ssize_t dsm_recv(int fd, void *buffer, size_t size, int flags);
ssize_t dsm_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *address, unsigned int *length);
ssize_t dsm_recvmsg(int fd, struct msghdr *message, int flags);

/* Returns the reason of the last failed call of this thread, one line without a newline; "" if none. */
const char *dsm_last_error(void);
/* Returns the name of a status, such as "DSM_TIMEOUT". */
const char *dsm_status_name(int status);
/* Returns what to do where a map must have `bytes` or more, for the end of a message: "give the map at least 79KiB; try
 * --size 128KiB (DSM_SIZE=128KiB)". Valid until this thread's next call of this function. */
const char *dsm_size_advice(uint64_t bytes);

/* ---- The libdsm interface: errors are printed to stderr and terminate the process. ---- */

/* Settings of dsm_init2(). */
typedef struct dsm_cfg {
  unsigned int lproc;   /* processes to run here: lproc - 1 are forked */
  unsigned int tproc;   /* processes in the whole session */
  const char *sid_name; /* name of the session */
  const char *d_addr;   /* address of the daemon; NULL: from DSM_DAEMON, else loopback */
  const char *d_port;   /* its port; NULL: 4200 */
  size_t map_size;      /* bytes, rounded up to whole pages */
} dsm_cfg;

/* Forks lproc - 1 processes, joins the session with all of them, and returns the map in each. */
void *dsm_init(const char *sid, unsigned int lproc, unsigned int tproc, size_t map_size);
void *dsm_init2(dsm_cfg *cfg);

int dsm_get_gid(void);                  /* this process's rank in the session */
void dsm_barrier(void);                 /* waits until every process that has not left is in it */
void dsm_post_sem(const char *sem_name); /* a named semaphore starts at 1 */
void dsm_wait_sem(const char *sem_name); /* takes one from it, waiting while it is 0 */
int dsm_dig_hole(void *addr, size_t size); /* a positive number, or -1 */
void dsm_fill_hole(int id);                /* publishes what has changed in the hole of that number */

/* Waits for all processes, leaves the session, and reaps the forked processes: it returns in the process that called
 * dsm_init only; the forked processes exit. */
void dsm_exit(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
