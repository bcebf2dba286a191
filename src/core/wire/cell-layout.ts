/**
 * Layout of the cells: words in the file behind the map, its page marks and, in a `pipelined` session, the ring. Processes
 * of one node synchronise by them in direct mode, and by leased locks in any mode. core/replica/cells says what holds.
 */
/** The barrier's cell. */
export const BARRIER_CELL_AT = 0;
/**
 * Outside direct mode a process may take a lock by its cell until then: milliseconds of CLOCK_MONOTONIC, which no one sets,
 * and behind it of CLOCK_REALTIME, which goes on while the host sleeps; 64 bits each. When either is over, so is the time.
 * Until the arbiter has leases they are 0. The arbiter moves them on as long as the server answers.
 */
export const OPEN_UNTIL_AT = 2048;
/** The cells of the first locks of a session, then those of its first semaphores. */
export const LOCK_CELLS_AT = 4096;
/** How many locks, and how many semaphores, have a cell each; the arbiter decides on all others. */
export const NAMED_CELLS_MAX = 1024;
/** Four share a cache line; they are given out so that the first 256 share none. */
export const NAMED_CELL_SIZE = 16;
export const SEMAPHORE_CELLS_AT = LOCK_CELLS_AT + NAMED_CELLS_MAX * NAMED_CELL_SIZE;
/** Of all cells: whole pages. */
export const CELLS_SIZE = SEMAPHORE_CELLS_AT + NAMED_CELLS_MAX * NAMED_CELL_SIZE;

/**
 * The word of a lock: CELL_ARBITER, CELL_FREE, or CELL_OWNED plus the rank of the owner. The arbiter decides on a lock
 * whose word is zero, so a new file says it of every lock.
 */
export const CELL_ARBITER = 0;
export const CELL_FREE = 1;
export const CELL_OWNED = 2;
