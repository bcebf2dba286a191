/** LogWriter: appends operations to the log, and applies them to the server's copy of the session. */
import type { Activity } from "../observe/activity.ts";
import type { Session } from "../session/session.ts";
import { At } from "../wire/at.ts";
import { setUint64 } from "../wire/frame.ts";
import type { PartPool } from "../wire/frame-reader.ts";
import { Kind } from "../wire/kinds.ts";
import type { DeferredJoins } from "./deferred-joins.ts";
import type { Part } from "./publication-assembler.ts";
import type { RetainedLog } from "./retained-log.ts";

export class LogWriter {
  readonly #session: Session;
  readonly #log: RetainedLog;
  readonly #activity: Activity;
  readonly #parts: PartPool;
  readonly #deferredJoins: DeferredJoins;

  constructor(session: Session, log: RetainedLog, activity: Activity, parts: PartPool, deferredJoins: DeferredJoins) {
    this.#session = session;
    this.#log = log;
    this.#activity = activity;
    this.#parts = parts;
    this.#deferredJoins = deferredJoins;
  }

  /** Appends a publication. All of its parts have the number of the final one. */
  appendInParts(publisher: number, parts: Part[], view: DataView, at: number, size: number, bytes: Uint8Array): void {
    this.#log.flush();
    const seq = this.#session.seq + 1;
    const toApply = parts.map((part) => {
      // The same buffer goes to all links, so a large publication is in memory once, however many links lag behind.
      const partView = new DataView(part.buffer, part.byteOffset, part.length);
      setUint64(partView, At.seq, seq);
      // The retained log, the broadcast and apply() below each use it.
      let users = 3;
      const done = (): void => {
        users -= 1;
        if (users === 0) this.#parts.give(part);
      };
      // The publishing node has the bytes, and applies them when the final part comes back.
      this.#log.appendPart(part, seq, done, publisher);
      return { partView, done };
    });
    this.#push(bytes, view, at, size);
    // Flush before applying, so that nodes apply the publication in parallel with the server.
    this.#log.flush();
    for (const { partView, done } of toApply) {
      this.#activity.apply(this.#session, partView, 0);
      done();
    }
    this.#apply(view, at);
  }

  /** Appends the frame to the log, and applies it here. */
  append(bytes: Uint8Array, view: DataView, at: number, size: number): void {
    this.#push(bytes, view, at, size);
    this.#apply(view, at);
  }

  #push(bytes: Uint8Array, view: DataView, at: number, size: number): void {
    this.#log.append(view, bytes, at, size, this.#session.seq + 1);
    // In direct mode the node has decided before the server, and waits for the server's confirmation.
    if (this.#session.direct || !canDeferBroadcast(view.getUint8(at + At.kind))) this.#log.mustFlush = true;
  }

  #apply(view: DataView, at: number): void {
    const session = this.#session;
    const wasDirect = session.direct;
    this.#activity.apply(session, view, at);
    if (!wasDirect || session.direct) return;
    for (const frame of this.#deferredJoins.take()) {
      this.append(frame, new DataView(frame.buffer), 0, frame.length);
    }
  }
}

/**
 * Entries whose broadcast may be deferred: a request that only makes its process wait changes nothing that other processes
 * can see. (The mutex that a wait for a condition unlocks is asked for here, not at the nodes.) Its entry goes out with the
 * next one for which a process waits: a barrier wakes the arbiters once, not once for each process. The shell sends it after
 * DEFERRED_BROADCAST_MS at the latest, so that the nodes know who waits, and since when, if this server is lost.
 */
const DEFERRED: ReadonlySet<number> = new Set([Kind.BARRIER, Kind.SEM_WAIT, Kind.ARRIVE, Kind.COND_WAIT]);

const canDeferBroadcast = (kind: number): boolean => DEFERRED.has(kind);
