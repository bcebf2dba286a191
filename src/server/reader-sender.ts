/** ReaderSender: sends snapshots and traces piece by piece, as fast as each connection takes them and no faster. */
import { LEASE_MS, READER_STALL_TIMEOUT_MS, TRACE_INTERVAL_MS } from "../core/base/limits.ts";
import type { Connection } from "./connection.ts";

/** Pieces of a snapshot sent before other connections have their turn. */
const PIECES_AT_ONCE = 4;
/** Interval at which it looks whether all leases have ended. */
const LEASES_LOOK_INTERVAL_MS = 5;

/** The source of snapshots and traces: the Sequencer. */
export interface ReaderSource {
  hasSnapshot(id: number): boolean;
  /** False: there is none, or this was the last. */
  sendSnapshotPiece(id: number): boolean;
  awaitsLeases(id: number): boolean;
  /** Returns whether it has begun. */
  beginSnapshot(id: number, anyway: boolean): boolean;
  traces(id: number): boolean;
  sendTrace(always: boolean): void;
}

export class ReaderSender {
  /** Null while the server recovers. */
  readonly #source: () => ReaderSource | null;

  constructor(source: () => ReaderSource | null) {
    this.#source = source;
  }

  /**
   * Begins or continues what the peer asked for. Called after the connection's bytes were handled, or when its queue is
   * sent.
   */
  serve(connection: Connection): void {
    this.#awaitLeases(connection);
    this.#sendSnapshot(connection);
    this.#beginTrace(connection);
  }

  /** Begins the snapshot that the peer asked for when all leases of nodes have ended, or after LEASE_MS. */
  #awaitLeases(connection: Connection): void {
    const { id } = connection;
    if (connection.awaitsLeases || this.#source()?.awaitsLeases(id) !== true) return;
    connection.awaitsLeases = true;
    let waited_ms = 0;
    const look = (): void => {
      waited_ms += LEASES_LOOK_INTERVAL_MS;
      const source = this.#source();
      if (source === null) connection.terminate();
      else if (source.beginSnapshot(id, waited_ms >= LEASE_MS)) this.#sendSnapshot(connection);
      else connection.setTimer(LEASES_LOOK_INTERVAL_MS, look);
    };
    connection.setTimer(LEASES_LOOK_INTERVAL_MS, look);
  }

  /**
   * Sends a few pieces whenever the connection has taken the previous ones, so that a snapshot neither fills a queue
   * nor holds up the log.
   */
  #sendSnapshot(connection: Connection): void {
    const { id, outbox } = connection;
    const source = this.#source();
    if (source?.hasSnapshot(id) !== true || outbox.size > 0) return;
    connection.clearTimer();
    let hasMore = true;
    for (let piece = 0; hasMore && piece < PIECES_AT_ONCE && outbox.size === 0; piece += 1) {
      hasMore = source.sendSnapshotPiece(id);
    }
    if (!hasMore) {
      connection.closeWhenSent();
      return;
    }
    connection.setTimer(READER_STALL_TIMEOUT_MS, () => connection.terminate());
    if (outbox.size === 0) setImmediate(() => this.#sendSnapshot(connection));
  }

  /** Sends the peer its trace records every TRACE_INTERVAL_MS, as long as it reads them. */
  #beginTrace(connection: Connection): void {
    if (connection.isTracing || this.#source()?.traces(connection.id) !== true) return;
    connection.isTracing = true;
    let stalled_ms = 0;
    const send = (): void => {
      stalled_ms = connection.outbox.size > 0 ? stalled_ms + TRACE_INTERVAL_MS : 0;
      if (stalled_ms > READER_STALL_TIMEOUT_MS) {
        connection.terminate();
        return;
      }
      if (stalled_ms === 0) this.#source()?.sendTrace(true);
      connection.setTimer(TRACE_INTERVAL_MS, send);
    };
    connection.setTimer(TRACE_INTERVAL_MS, send);
  }
}
