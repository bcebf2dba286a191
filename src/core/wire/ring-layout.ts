/** Layout of the store ring in the file behind the map. */
/**
 * Pipelined: the ring in which the processes of a node queue their stores, behind the map's file and its page marks. All
 * words are of 4 bytes; those that different parties write lie in cache lines of their own. Positions count bytes, modulo
 * 2^32.
 *
 * A record is a STORE or PUBLISH frame as it will be ordered, and behind it, for each of its runs, the bytes that were
 * there before, padded to 8. A record never wraps: RING_WRAP in place of its size sends the reader to the beginning.
 */
export const RING = {
  /**
   * Number of the process that may write the ring and what the node sees of the map (see `numbers`), or RING_ARBITER; 0:
   * none may. Process ids would not do: processes of different PID namespaces may have the same.
   */
  lock: [0, 4],
  /** End of the last record. */
  tail: [64, 4],
  /** Records before this place have been applied in the order; their room is free. */
  head: [128, 4],
  /** Not 0: the arbiter sleeps, for the n-th time (modulo 2^32). Ring the doorbell; then put 0, if it is still n. */
  sleeping: [192, 4],
  /** 1: some process sees pages through a shadow; stores are not queued meanwhile. */
  shadowed: [196, 4],
  /**
   * The number given last. A process that maps the ring adds 1, which is its number, and keeps an open file description
   * lock on the byte of the map's file at that number for as long as it may store: the kernel ends the lock with the process.
   */
  numbers: [200, 4],
} as const;
/** The arbiter's own number. */
export const RING_ARBITER = 0xffffffff;
export const RING_HEADER_SIZE = 4096;
export const RING_SIZE = 1 << 20;
/** Largest record; a larger store is not queued. */
export const RING_RECORD_MAX = RING_SIZE / 4;
export const RING_WRAP = 0xffffffff;
/** Position of the first record: every session soon passes the largest position there is. */
export const RING_START = 2 ** 32 - RING_SIZE;
