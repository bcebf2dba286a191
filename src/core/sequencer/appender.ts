/**
 * Appender: gives operations their places in the log and applies them to the server's copy of the session.
 *
 * Invariants: each operation is applied once, directly after it was appended; the parts of a publication lie in the log one
 * behind the other, under the number of the final one.
 */
import type { Activity } from "../observe/activity.ts";
import type { Session } from "../session/session.ts";
import { At } from "../wire/at.ts";
import { setUint64 } from "../wire/frame.ts";
import type { PartPool } from "../wire/frame-reader.ts";
import { Kind } from "../wire/kinds.ts";
import type { DeferredJoins } from "./deferred-joins.ts";
import type { Part } from "./publication-assembler.ts";
import type { RetainedLog } from "./retained-log.ts";

export interface AppenderOptions {
  session: Session;
  log: RetainedLog;
  activity: Activity;
  /** Memory of the parts. */
  parts: PartPool;
  /** Joins to append when direct mode ends. */
  deferredJoins: DeferredJoins;
}

export class Appender {
  readonly #of: AppenderOptions;

  constructor(options: AppenderOptions) {
    this.#of = options;
  }

  /** Gives the frame at `at` its place in the log, and applies it here. */
  append(bytes: Uint8Array, view: DataView, at: number, size: number): void {
    this.#push(bytes, view, at, size);
    this.#apply(view, at);
  }

  appendFrame(frame: Uint8Array): void {
    this.append(frame, new DataView(frame.buffer), 0, frame.length);
  }

  /** A publication: the parts, and its final frame at `at`. `from`: the link whose node has the bytes of the parts. */
  appendInParts(parts: Part[], from: number, bytes: Uint8Array, view: DataView, at: number, size: number): void {
    const { session, log, activity, parts: pool } = this.#of;
    log.flush();
    const seq = session.seq + 1;
    const toApply = parts.map((part) => {
      // The part goes to all links as it is: a large publication lies in memory once, however many are behind.
      const partView = new DataView(part.buffer, part.byteOffset, part.length);
      setUint64(partView, At.seq, seq);
      // It is used by the retained log, by the broadcast and by apply() below.
      let users = 3;
      const done = (): void => {
        users -= 1;
        if (users === 0) pool.give(part);
      };
      // Its own node has the bytes, and applies them when the final part comes back.
      log.appendPart(part, seq, done, from);
      return { partView, done };
    });
    this.#push(bytes, view, at, size);
    // Flush before applying, so that nodes apply the publication in parallel with the server.
    log.flush();
    for (const { partView, done } of toApply) {
      const before = session.bytesWritten;
      session.apply(partView, 0);
      activity.appliedPart(partView, 0, session.bytesWritten - before);
      done();
    }
    this.#apply(view, at);
  }

  #push(bytes: Uint8Array, view: DataView, at: number, size: number): void {
    const { session, log } = this.#of;
    log.append(view, bytes, at, size, session.seq + 1);
    // In direct mode the node has decided before the server, and waits to hear that the server follows.
    if (session.direct || !canDeferBroadcast(view.getUint8(at + At.kind))) log.mustFlush = true;
  }

  #apply(view: DataView, at: number): void {
    const { session, activity, deferredJoins } = this.#of;
    const { bytesWritten: before, phase, direct: wasDirect } = session;
    activity.begins(view, at);
    session.apply(view, at);
    activity.applied(view, at, session.bytesWritten - before);
    if (phase === "joining" && session.phase !== phase) activity.started();
    if (!wasDirect || session.direct) return;
    for (const frame of deferredJoins.take()) this.appendFrame(frame);
  }
}

/**
 * A request that only makes its process wait changes nothing that others can tell. Its entry goes out with the next one
 * that a process waits for: a barrier wakes the arbiters once, not once for each process.
 */
const canDeferBroadcast = (kind: number): boolean => kind === Kind.BARRIER || kind === Kind.SEM_WAIT;
