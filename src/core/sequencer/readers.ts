/** Readers: connections that only observe the session: its status, a snapshot, or a trace. */
import { Status } from "../base/errors.ts";
import { MEMORY_READ_MAX } from "../base/limits.ts";
import type { MapBytes } from "../memory/map-bytes.ts";
import type { StatusReport } from "../messages/status-report.ts";
import { At, StatusAt } from "../wire/at.ts";
import { encode, encodeJson, getUint64, ProtocolError } from "../wire/frame.ts";
import { ChangeOp, Kind, StatusOp } from "../wire/kinds.ts";
import type { Acknowledgements, AcknowledgementsOptions } from "./acknowledgements.ts";
import { checkEnd } from "./admission.ts";
import type { Link } from "./link.ts";
import { Snapshots } from "./snapshots.ts";
import { reportStatus } from "./status.ts";
import { Tracing } from "./tracing.ts";

const WORD = 8;

export interface ReadersOptions extends AcknowledgementsOptions {
  memory: MapBytes;
  epoch: number;
  acks: Acknowledgements;
}

export class Readers {
  readonly #of: ReadersOptions;
  readonly #snapshots: Snapshots;
  readonly #tracing: Tracing;
  /** Links whose snapshot has not begun, because locks are leased. */
  readonly #awaitingLeases = new Set<number>();

  constructor(options: ReadersOptions) {
    this.#of = options;
    this.#snapshots = new Snapshots(options.memory);
    this.#tracing = new Tracing(options.activity);
  }

  /** Handles the handshake frame at `at`. False: it is not a reader's. Throws ProtocolError. */
  receive(link: Link, kind: number, view: DataView, at: number, bytes: Uint8Array): boolean {
    if (this.#snapshots.has(link.id) || this.#awaitingLeases.has(link.id))
      throw new ProtocolError("a snapshot is under way on this connection");
    if (this.#tracing.isOn(link.id)) throw new ProtocolError("a trace is under way on this connection");
    if (kind === Kind.STATUS) this.#answerStatus(link, view, at, bytes);
    else if (kind === Kind.SNAPSHOT) this.#requestSnapshot(link.id);
    else if (kind === Kind.TRACE) this.#of.out.send(link.id, this.#tracing.begin(link.id, this.#of.session));
    else return false;
    return true;
  }

  /** Drops the link, which is gone. */
  end(id: number): void {
    this.#snapshots.end(id);
    this.#awaitingLeases.delete(id);
    this.#tracing.end(id);
  }

  status(withHeat = false): StatusReport {
    const { session, activity, members, log, epoch } = this.#of;
    return reportStatus(session, activity, members, { epoch, bytes: log.bytes }, withHeat);
  }

  #answerStatus(link: Link, view: DataView, at: number, bytes: Uint8Array): void {
    const query = view.getUint8(at + StatusAt.query);
    if (query > StatusOp.END) throw new ProtocolError("no such status");
    if (query === StatusOp.END) {
      checkEnd(view, at, bytes, this.#of.session.config);
      this.#of.out.send(link.id, encode({ kind: Kind.REPLY }));
      this.#of.out.stop();
      return;
    }
    const wantsMemory = query === StatusOp.MEMORY;
    const body = wantsMemory ? this.#readMap(view, at) : encodeJson(this.status(query === StatusOp.HEAT));
    this.#of.out.send(link.id, encode({ kind: Kind.REPLY, op: Status.OK, seq: this.#of.session.seq, body }));
    if (!wantsMemory) this.#of.acks.pingIdleMembers();
  }

  /** The bytes of the map that a STATUS asks for, as they are now. */
  #readMap(view: DataView, at: number): Uint8Array {
    this.#needsMap();
    if (view.getUint32(at + At.size, true) < StatusAt.mapLength + WORD) throw new ProtocolError("no place in the map");
    const offset = getUint64(view, at + StatusAt.mapOffset);
    const length = getUint64(view, at + StatusAt.mapLength);
    if (!(length <= MEMORY_READ_MAX && offset + length <= this.#of.session.config.size)) {
      throw new ProtocolError("the map has no such bytes", Status.INVALID);
    }
    return this.#of.memory.bytes.subarray(offset, offset + length);
  }

  /** Throws ProtocolError if the server does not have the bytes of the map. */
  #needsMap(): void {
    if (!this.#of.session.direct) return;
    const { name } = this.#of.session.config;
    throw new ProtocolError(
      `session "${name}" is in direct mode: the server does not have its bytes; run it with DSM_DIRECT=0`,
      Status.REFUSED,
    );
  }

  /** Begins a snapshot, which the shell then sends piece by piece with sendSnapshotPiece(), or waits for leases. */
  #requestSnapshot(id: number): void {
    this.#needsMap();
    this.#snapshots.checkRoom(this.#awaitingLeases.size);
    this.#awaitingLeases.add(id);
    this.beginSnapshot(id, false);
  }

  /** Whether a snapshot on the link waits for the leases of nodes. */
  awaitsLeases(id: number): boolean {
    return this.#awaitingLeases.has(id);
  }

  /**
   * Begins the snapshot that waits for leases. While a lock is leased its node must say first whether a process has it,
   * unless the snapshot begins `anyway`: then the lock counts as inconsistent in it. Returns whether the snapshot has
   * begun.
   */
  beginSnapshot(id: number, anyway: boolean): boolean {
    const { session, out } = this.#of;
    if (!this.#awaitingLeases.has(id) || (!anyway && this.#recallLeases())) return false;
    this.#awaitingLeases.delete(id);
    out.send(id, encode({ kind: Kind.REPLY, body: encodeJson(session.save()) }));
    this.#snapshots.begin(id, session.seq);
    return true;
  }

  /** Asks the nodes that have leases to give them back. False: none has. */
  #recallLeases(): boolean {
    const { session, members, log, out } = this.#of;
    const { lessees } = session;
    if (lessees.size > 0) log.flush();
    for (const node of lessees) {
      const link = members.get(node)?.link ?? -1;
      if (link >= 0) out.send(link, encode({ kind: Kind.CHANGE, op: ChangeOp.RETURN }));
    }
    return lessees.size > 0;
  }

  /** Whether sendSnapshotPiece() has something to send on the link. */
  hasSnapshot(id: number): boolean {
    return this.#snapshots.has(id);
  }

  /** Sends the next piece of the link's snapshot. False: there is none, or this was the last. */
  sendSnapshotPiece(id: number): boolean {
    const frame = this.#snapshots.next(id);
    if (frame !== null) this.#of.out.send(id, frame);
    return this.#snapshots.has(id);
  }

  /** Whether the link traces the session. */
  traces(id: number): boolean {
    return this.#tracing.isOn(id);
  }

  /** Sends the tracing link the records since the last call; `always`: also when there are none. */
  sendTrace(always: boolean): void {
    const trace = this.#tracing.take(always);
    if (trace !== null) this.#of.out.send(trace.link, trace.frame);
  }
}
