/** Layout of the lock cells in the file behind the map. */
/**
 * The first LOCK_CELLS_MAX locks of a session have a cell each, in the file behind the map, its page marks and, in a
 * `pipelined` session, the ring. A cell is one word of 4 bytes: CELL_ARBITER, CELL_FREE, or CELL_OWNED plus the rank of the
 * owner. Four cells share a cache line; cells are given out so that the first 256 locks share none. lock-cells.ts in
 * core/replica says what holds.
 */
export const LOCK_CELLS_MAX = 1024;
export const LOCK_CELL_SIZE = 16;
export const LOCK_CELLS_SIZE = LOCK_CELLS_MAX * LOCK_CELL_SIZE;
/** The arbiter decides on the lock. Zero, so that a new file says it of every lock. */
export const CELL_ARBITER = 0;
export const CELL_FREE = 1;
export const CELL_OWNED = 2;
