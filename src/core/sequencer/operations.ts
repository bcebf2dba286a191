/**
 * Operations: what becomes of an operation that a node sends: it enters the log, waits, is ignored or ends the link.
 *
 *     checked ──is next──▶ allowed now ──▶ in the log
 *        │          │           ├──JOIN during direct mode of an elastic session──▶ deferred
 *        │          │           └──another node's, in direct mode──▶ refused, or waits for the end of the session
 *        │          └──is in the log already──▶ ignored
 *        └──malformed, or of another node──▶ ProtocolError: the link ends
 *
 * Invariants: a node's operations enter the log once each, in the order of their numbers as proposals; the parts of a
 * publication enter it together, one behind the other; a malformed operation has no effect.
 */
import { Status } from "../base/errors.ts";
import type { Session } from "../session/session.ts";
import { At, PublishAt } from "../wire/at.ts";
import { checkOperation } from "../wire/check-operation.ts";
import { encode, getUint64, ProtocolError } from "../wire/frame.ts";
import { ChangeOp, Kind, PublishOp } from "../wire/kinds.ts";
import { checkNodeName } from "./admission.ts";
import type { DeferredJoins } from "./deferred-joins.ts";
import type { Link } from "./link.ts";
import type { LogWriter } from "./log-writer.ts";
import type { Members } from "./members.ts";
import type { Part } from "./publication-assembler.ts";
import type { RetainedLog } from "./retained-log.ts";
import type { SequencerOutput } from "./sequencer-output.ts";

/** Kinds that are accepted without a rank: joins, ends, and what the node itself says. */
const RANKLESS: ReadonlySet<number> = new Set([Kind.JOIN, Kind.LEAVE, Kind.COPY, Kind.SEM_VALUE, Kind.RETURN]);

export interface OperationsOptions {
  session: Session;
  members: Members;
  log: RetainedLog;
  writer: LogWriter;
  deferredJoins: DeferredJoins;
  out: Pick<SequencerOutput, "send">;
}

export class Operations {
  readonly #session: Session;
  readonly #members: Members;
  readonly #log: RetainedLog;
  readonly #writer: LogWriter;
  readonly #deferredJoins: DeferredJoins;
  readonly #out: Pick<SequencerOutput, "send">;

  constructor({ session, members, log, writer, deferredJoins, out }: OperationsOptions) {
    this.#session = session;
    this.#members = members;
    this.#log = log;
    this.#writer = writer;
    this.#deferredJoins = deferredJoins;
    this.#out = out;
  }

  /** Handles the frame at `at`. `part`: the frame belongs to the sequencer, which may keep it. Throws ProtocolError. */
  receive(
    link: Link,
    kind: number,
    view: DataView,
    at: number,
    size: number,
    bytes: Uint8Array,
    part: Part | null,
  ): void {
    const session = this.#session;
    const wrong = checkOperation(view, at, session.config.size);
    if (wrong !== null) throw new ProtocolError(wrong);
    if (view.getUint32(at + At.node, true) !== link.node) throw new ProtocolError("an operation of another node");
    if (kind === Kind.JOIN) checkNodeName(this.#members.get(link.node), view, at, bytes);
    if (session.phase === "ended") return;
    if (!this.#isNext(link, kind, view, at)) return;
    // In direct mode the one node decides and tells the server; operations of other nodes must not come in between.
    if (session.direct && session.presentOn(link.node).length === 0) {
      if (session.config.elastic !== true) this.#turnAway(link);
      else if (kind === Kind.JOIN) this.#deferJoin(link, new Uint8Array(bytes.subarray(at, at + size)));
      return;
    }
    if (kind === Kind.COPY && !(session.direct && session.config.elastic === true)) {
      throw new ProtocolError("a copy of a map outside direct mode");
    }
    if (kind === Kind.SEM_VALUE && !session.direct)
      throw new ProtocolError("the value of a semaphore outside direct mode");
    // A rank that has left according to the log may still have had requests in flight.
    const aborts = kind === Kind.PUBLISH && view.getUint8(at + PublishAt.part) === PublishOp.ABORT;
    const needsRank = !RANKLESS.has(kind) && !aborts;
    if (needsRank && !session.mayIssue(view.getUint16(at + At.rank, true), link.node)) return;
    if (kind === Kind.PUBLISH) this.#publish(link, view, at, size, bytes, part);
    else this.#writer.append(bytes, view, at, size);
  }

  /** Asks the node in direct mode to end it, if joins wait for that. A node that is already at it ignores this. */
  askToEndDirectMode(): void {
    if (this.#deferredJoins.isEmpty) return;
    this.#log.flush();
    for (const node of this.#session.nodes) {
      const link = this.#members.get(node)?.link ?? -1;
      if (link >= 0) this.#out.send(link, encode({ kind: Kind.CHANGE, op: ChangeOp.CLOSE }));
    }
  }

  /** Whether the operation enters the log now: one that is there already does not enter it twice. */
  #isNext(link: Link, kind: number, view: DataView, at: number): boolean {
    if (kind === Kind.PUBLISH && view.getUint8(at + PublishAt.part) !== PublishOp.FINAL) return true;
    return this.#members.acceptProposal(link.node, getUint64(view, at + At.seq));
  }

  /** Turns away a process of another node: there is no room, or it waits for the end of this session. */
  #turnAway(link: Link): void {
    if (this.#session.allPresent) {
      throw new ProtocolError("the session has all its processes already; this is one too many", Status.FULL);
    }
    link.waitsForEnd = true;
  }

  /** Defers the join until the one node has ended direct mode. */
  #deferJoin(link: Link, frame: Uint8Array): void {
    this.#deferredJoins.add(link, frame);
    this.askToEndDirectMode();
  }

  #publish(link: Link, view: DataView, at: number, size: number, bytes: Uint8Array, part: Part | null): void {
    const tag = view.getUint32(at + At.tag, true);
    switch (view.getUint8(at + PublishAt.part)) {
      case PublishOp.ABORT:
        link.publications.abort(tag);
        return;
      case PublishOp.PART: {
        const rank = view.getUint16(at + At.rank, true);
        link.publications.add(tag, rank, size, () => part ?? link.reader.take(at, size, bytes));
        return;
      }
    }
    const parts = link.publications.complete(tag);
    if (parts.length === 0) this.#writer.append(bytes, view, at, size);
    else this.#writer.appendInParts(link.id, parts, view, at, size, bytes);
  }
}
