/**
 * Layout of the cells: words in the file behind the map, its page marks and, in a `pipelined` or `release` session, the ring. Processes
 * of one node synchronise by them in direct mode, and by leased locks in any mode. core/replica/cells says what holds.
 */
/** The barrier's cell, and the marks of the ranks that sleep in it: 2 bytes each. */
export const BARRIER_CELL_AT = 0;
export const BARRIER_MARKS_AT = 2048;
/**
 * Outside direct mode a process may take a lock by its cell until then: milliseconds of CLOCK_MONOTONIC, which no one sets,
 * and behind it of CLOCK_REALTIME, which goes on while the host sleeps; 64 bits each. When either is over, so is the time.
 * Until the arbiter has leases they are 0. The arbiter moves them on as long as the server answers.
 */
export const OPEN_UNTIL_AT = 1024;
/** The cells of the first locks that a node uses, then those of its first semaphores. */
export const LOCK_CELLS_AT = 4096;
/** How many locks, and how many semaphores, have a cell each, objects in the map included; the arbiter decides on all others. */
export const NAMED_CELLS_MAX = 16384;
/** Four share a cache line; they are given out so that the first 4096 share none. */
export const NAMED_CELL_SIZE = 16;
export const SEMAPHORE_CELLS_AT = LOCK_CELLS_AT + NAMED_CELLS_MAX * NAMED_CELL_SIZE;
/** Of all cells: whole pages. */
export const CELLS_SIZE = SEMAPHORE_CELLS_AT + NAMED_CELLS_MAX * NAMED_CELL_SIZE;

/**
 * The word of a lock: a state, CELL_ARBITER, CELL_FREE, CELL_KEPT (free, for the thread that was woken last) or CELL_OWNED
 * plus the rank of the owner; and flags. The arbiter decides on a lock whose state is zero, so a new file says it of every
 * lock.
 */
export const CELL_ARBITER = 0;
export const CELL_FREE = 1;
export const CELL_KEPT = 2;
export const CELL_OWNED = 3;
/** The bits of the state. */
export const CELL_STATE = 0x0fff_ffff;
/** A thread has waited for long: who gives the lock back hands it to the first that sleeps. */
export const CELL_STARVING = 0x1000_0000;
/** Threads may be asleep on the word. */
export const CELL_SLEEPERS = 0x2000_0000;

/**
 * The barrier's cell, 8 bytes. Low word: BARRIER_GIVEN, and the number of the phase in units of BARRIER_PHASE, modulo 2^31.
 * High word: processes that have arrived, behind them the members (BARRIER_COUNT_BITS each), and BARRIER_SLEEPERS. The arbiter
 * decides while BARRIER_GIVEN is not set; the high word is 0 then. The mark of a rank is the lower half of the low word in
 * whose phase it sleeps, or 0.
 */
export const BARRIER_GIVEN = 1;
export const BARRIER_PHASE = 2;
export const BARRIER_COUNT_BITS = 12;
/** Processes sleep on the low word: who completes the phase wakes them. */
export const BARRIER_SLEEPERS = 1 << (2 * BARRIER_COUNT_BITS);

/**
 * The word of a semaphore: CELL_ARBITER; or SEMAPHORE_CELL_GIVEN, maybe with SEMAPHORE_CELL_SLEEPERS (a thread may sleep
 * on the word), plus the value times SEMAPHORE_CELL_STEP. A post that would exceed SEMAPHORE_CELL_VALUE_MAX is a request.
 */
export const SEMAPHORE_CELL_GIVEN = 1;
export const SEMAPHORE_CELL_SLEEPERS = 2;
export const SEMAPHORE_CELL_STEP = 4;
export const SEMAPHORE_CELL_VALUE_MAX = 2 ** 20;
