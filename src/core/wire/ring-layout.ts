/** Layout of the store ring in the file behind the map. */
/**
 * The store ring of a `pipelined` or `release` session, in which the processes of a node queue their stores, or small
 * publications. It lies behind the map's file and its page marks. All words have 4 bytes; words that different parties write are in different cache
 * lines. Positions count bytes, modulo 2^32.
 *
 * A record is a STORE or PUBLISH frame as it will be ordered, followed, for each of its runs, by the bytes that were
 * there before, padded to 8; of a masked run these are all bytes of its words. A record never wraps: RING_WRAP in place of its size sends the reader to the beginning.
 */
export const RING = {
  /**
   * Number of the process that may write the ring and the node's view of the map (see `numbers`), or RING_ARBITER; 0:
   * unlocked. Process ids would not do: processes of different PID namespaces may have the same.
   */
  lock: [0, 4],
  /** End of the last record. */
  tail: [64, 4],
  /** Records before this place have been applied in the log; their room is free. */
  head: [128, 4],
  /**
   * Not 0: the arbiter sleeps, for the n-th time (modulo 2^32). A process rings the doorbell; then it writes 0, if the
   * value is still n.
   */
  sleeping: [192, 4],
  /** 1: a process sees pages through a shadow; stores are not queued meanwhile. */
  shadowed: [196, 4],
  /**
   * The last assigned number. A process that maps the ring adds 1, which is its number, and keeps an open file
   * description lock on the byte of the map's file at that number for as long as it may store: the kernel releases the
   * lock when the process ends.
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
/** Position of the first record, chosen so that positions soon wrap in every session. */
export const RING_START = 2 ** 32 - RING_SIZE;
