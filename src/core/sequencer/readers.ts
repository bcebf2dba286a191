/** Links that look at the session and are no members: STATUS, SNAPSHOT and TRACE, and the end that the daemon asks for. */
import { Status } from "../base/errors.ts";
import { MEMORY_READ_MAX } from "../base/limits.ts";
import type { MapBytes } from "../memory/map-bytes.ts";
import type { StatusReport } from "../messages/status-report.ts";
import type { Activity } from "../observe/activity.ts";
import type { Session } from "../session/session.ts";
import { At, StatusAt } from "../wire/at.ts";
import { encode, encodeJson, getUint64, ProtocolError } from "../wire/frame.ts";
import { Kind, StatusOp } from "../wire/kinds.ts";
import { checkEnd } from "./admission.ts";
import type { Members } from "./members.ts";
import type { SequencerOutput } from "./output.ts";
import type { RetainedLog } from "./retained-log.ts";
import { Snapshots } from "./snapshots.ts";
import { reportStatus } from "./status.ts";
import { Tracing } from "./tracing.ts";

export interface ReadersOptions {
  session: Session;
  memory: MapBytes;
  activity: Activity;
  members: Members;
  log: RetainedLog;
  epoch: number;
  out: SequencerOutput;
}

export class Readers {
  readonly #of: ReadersOptions;
  readonly #snapshots: Snapshots;
  readonly #tracing: Tracing;

  constructor(options: ReadersOptions) {
    this.#of = options;
    this.#snapshots = new Snapshots(options.memory);
    this.#tracing = new Tracing(options.activity);
  }

  /** Throws when the link has asked for something that is not over. */
  checkIdle(link: number): void {
    if (this.#snapshots.has(link)) throw new ProtocolError("a snapshot is under way on this connection");
    if (this.#tracing.isOn(link)) throw new ProtocolError("a trace is under way on this connection");
  }

  /** The link is gone. */
  end(link: number): void {
    this.#snapshots.end(link);
    this.#tracing.end(link);
  }

  status(withHeat: boolean): StatusReport {
    const { session, activity, members, log, epoch } = this.#of;
    return reportStatus(session, activity, members, { epoch, bytes: log.bytes }, withHeat);
  }

  /** Returns whether the figures of the members were asked for. */
  answerStatus(link: number, view: DataView, at: number, bytes: Uint8Array): boolean {
    const { session, out } = this.#of;
    const query = view.getUint8(at + StatusAt.query);
    if (query > StatusOp.END) throw new ProtocolError("no such status");
    if (query === StatusOp.END) {
      checkEnd(view, at, bytes, session.config);
      out.send(link, encode({ kind: Kind.REPLY }));
      out.stop();
      return false;
    }
    const wantsMemory = query === StatusOp.MEMORY;
    const body = wantsMemory ? this.#readMap(view, at) : encodeJson(this.status(query === StatusOp.HEAT));
    out.send(link, encode({ kind: Kind.REPLY, op: Status.OK, seq: session.seq, body }));
    return !wantsMemory;
  }

  /** The bytes of the map that a STATUS asks for, as they are now. */
  #readMap(view: DataView, at: number): Uint8Array {
    this.#needsMap();
    if (view.getUint32(at + At.size, true) < StatusAt.mapLength + 8) throw new ProtocolError("no place in the map");
    const offset = getUint64(view, at + StatusAt.mapOffset);
    const length = getUint64(view, at + StatusAt.mapLength);
    if (!(length <= MEMORY_READ_MAX && offset + length <= this.#of.session.config.size)) {
      throw new ProtocolError("the map has no such bytes", Status.INVALID);
    }
    return this.#of.memory.bytes.subarray(offset, offset + length);
  }

  /** Throws where the server does not have the bytes of the map. */
  #needsMap(): void {
    const { session } = this.#of;
    if (!session.direct) return;
    throw new ProtocolError(
      `session "${session.config.name}" is in direct mode: the server does not have its bytes; run it with DSM_DIRECT=0`,
      Status.REFUSED,
    );
  }

  /** Begins a snapshot, which the shell then sends piece by piece with sendSnapshotPiece(). */
  beginSnapshot(link: number): void {
    const { session, out } = this.#of;
    this.#needsMap();
    this.#snapshots.checkRoom();
    out.send(link, encode({ kind: Kind.REPLY, body: encodeJson(session.save()) }));
    this.#snapshots.begin(link, session.seq);
  }

  /** Whether sendSnapshotPiece() has something to send on the link. */
  hasSnapshot(link: number): boolean {
    return this.#snapshots.has(link);
  }

  /** Sends the next piece of the link's snapshot. False: there is none, or this was the last. */
  sendSnapshotPiece(link: number): boolean {
    const frame = this.#snapshots.next(link);
    if (frame !== null) this.#of.out.send(link, frame);
    return this.#snapshots.has(link);
  }

  beginTrace(link: number): void {
    this.#of.out.send(link, this.#tracing.begin(link, this.#of.session));
  }

  /** Whether the link traces the session. */
  traces(link: number): boolean {
    return this.#tracing.isOn(link);
  }

  /** Sends the tracing link what has happened since it was last sent something; `always`: also that nothing has. */
  sendTrace(always: boolean): void {
    const trace = this.#tracing.take(always);
    if (trace !== null) this.#of.out.send(trace.link, trace.frame);
  }
}
