/** Requests: handles the frames of this node's processes. */
import { Status } from "../base/errors.ts";
import { PAGE_SIZE } from "../base/limits.ts";
import type { Session } from "../session/session.ts";
import { At, BarrierAt, CancelAt, ChangeAt, LeaveAt, PageShadowAt, PublishAt } from "../wire/at.ts";
import { checkOperation } from "../wire/check-operation.ts";
import { getUint64, ProtocolError } from "../wire/frame.ts";
import { isProcessOperation, Kind, PublishOp } from "../wire/kinds.ts";
import type { Channel } from "./channels.ts";
import type { DirectModeExit } from "./direct-mode-exit.ts";
import type { Joins } from "./joins.ts";
import type { PageShadows } from "./page-shadows.ts";
import type { ProcessMemory } from "./process-memory.ts";
import type { ReplyWriter } from "./process-replies.ts";
import type { NodeProcess } from "./processes.ts";
import type { PublicationIntake } from "./publications.ts";
import type { ReplicaOutput } from "./replica-output.ts";
import type { StoreQueue } from "./store-queue.ts";

export interface RequestsOptions {
  node: number;
  session: Session;
  joins: Joins;
  memory: ProcessMemory;
  publications: PublicationIntake;
  replies: ReplyWriter;
  shadows: PageShadows;
  queue: StoreQueue;
  exit: DirectModeExit;
  out: ReplicaOutput;
  propose: (frame: Uint8Array) => void;
}

export class Requests {
  readonly #of: RequestsOptions;

  constructor(options: RequestsOptions) {
    this.#of = options;
  }

  /** Handles the frame at `at` from that channel. Throws ProtocolError. */
  receive(channel: Channel, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const kind = view.getUint8(at + At.kind);
    const { process } = channel;
    if (process === null) {
      this.#of.joins.handshake(channel, kind, view, at, size, bytes);
      return;
    }
    if (kind === Kind.DOORBELL) {
      // receive() has drained the ring. From here the arbiter polls it; no further doorbell is needed.
      this.#of.queue.wake();
      return;
    }
    if (process.state === "joining" && kind === Kind.SEM_CANCEL) {
      this.#of.joins.explain(channel, process);
      return;
    }
    if (process.state === "joining") throw new ProtocolError("a request before the session began");
    if (kind === Kind.CHANGE) {
      this.#of.exit.onMessage(channel, process, view.getUint8(at + ChangeAt.op));
      return;
    }
    if (this.#of.exit.isUnderWay && process.state === "running" && (changesMap(kind) || channel.deferred > 0)) {
      this.#of.exit.defer(channel, new Uint8Array(bytes.subarray(at, at + size)));
      return;
    }
    if (kind === Kind.PUBLISH && view.getUint8(at + PublishAt.part) === PublishOp.PART_IN_STAGING) {
      if (process.state === "running") this.#refuseParts();
      this.#of.publications.takeStaged(channel, process, view, at);
      return;
    }
    const tag = view.getUint32(at + At.tag, true);
    if (process.state !== "running") {
      if (isAnswered(kind, view, at)) this.#of.replies.error(channel.index, tag, Status.LEFT);
      return;
    }
    if (isProcessOperation(kind) && kind !== Kind.JOIN) {
      this.#request(channel, process, kind, view, at, size, bytes);
    } else if (kind === Kind.SHADOW || kind === Kind.UNSHADOW) {
      this.#shadow(channel, process, kind, view, at);
    } else if (kind === Kind.FENCE) {
      channel.beginRequest();
      this.#of.queue.fence(channel.stamp(tag));
    } else if (kind === Kind.MEMORY) {
      this.#of.memory.lend(channel, process, tag);
    } else {
      throw new ProtocolError(`a process may not send frames of kind ${kind}`);
    }
  }

  /** Refuses parts in direct mode: a part would be visible in the map at once and could not be undone. */
  #refuseParts(): void {
    if (this.#of.session.direct) throw new ProtocolError("publish: no parts in direct mode");
  }

  #request(
    channel: Channel,
    process: NodeProcess,
    kind: number,
    view: DataView,
    at: number,
    size: number,
    bytes: Uint8Array,
  ): void {
    const wrong = checkOperation(view, at, this.#of.session.config.size);
    if (wrong !== null) throw new ProtocolError(wrong);
    if (kind === Kind.BARRIER && getUint64(view, at + BarrierAt.passed) > 0)
      throw new ProtocolError("barrier: a process passes one by its cell");
    const stamped = channel.stamp(view.getUint32(at + At.tag, true));
    if (kind === Kind.PUBLISH) this.#countPart(channel, process, stamped, view.getUint8(at + PublishAt.part), size);
    if (isAnswered(kind, view, at)) channel.beginRequest();
    if (kind === Kind.LEAVE) {
      process.state = "leaving";
      view.setUint8(at + LeaveAt.isLost, 0);
      view.setUint32(at + LeaveAt.gaveUp, 0, true);
      view.setUint32(at + LeaveAt.isEvicted, 0, true);
    }
    if (kind === Kind.SEM_CANCEL) view.setUint8(at + CancelAt.isSentBack, 0);
    view.setUint16(at + At.rank, process.rank, true);
    view.setUint32(at + At.tag, stamped, true);
    view.setUint32(at + At.node, this.#of.node, true);
    this.#of.propose(at === 0 && bytes.length === size ? bytes : bytes.subarray(at, at + size));
  }

  #countPart(channel: Channel, process: NodeProcess, tag: number, part: number, size: number): void {
    if (part === PublishOp.FINAL) {
      this.#of.publications.finish(channel, process, tag);
      return;
    }
    if (part !== PublishOp.PART) throw new ProtocolError("publish: no such flag");
    this.#refuseParts();
    this.#of.publications.addPart(channel, process, tag, size);
  }

  #shadow(channel: Channel, process: NodeProcess, kind: number, view: DataView, at: number): void {
    const tag = view.getUint32(at + At.tag, true);
    const page = getUint64(view, at + PageShadowAt.page);
    const from = page + view.getUint32(at + PageShadowAt.holeFrom, true);
    const to = from + view.getUint32(at + PageShadowAt.holeLength, true);
    const { size } = this.#of.session.config;
    if (!(page < size) || page % PAGE_SIZE !== 0 || !(from < to && to <= page + PAGE_SIZE)) {
      throw new ProtocolError("shadow: not a part of a page");
    }
    if (kind === Kind.UNSHADOW) {
      this.#of.shadows.uncover(process, page, from, to);
    } else {
      if (process.shadow === null) {
        this.#of.replies.error(channel.index, tag, Status.SYSTEM);
        return;
      }
      this.#of.shadows.cover(process, process.shadow, page, from, to);
    }
    this.#of.replies.done(channel.index, tag);
  }
}

/** Whether a process changes the map by this kind, or asks to see the map as it is at one place of the log. */
const changesMap = (kind: number): boolean =>
  kind === Kind.STORE ||
  kind === Kind.ATOMIC ||
  kind === Kind.PUBLISH ||
  kind === Kind.SHADOW ||
  kind === Kind.UNSHADOW;

/** Whether the request gets a reply of its own: a cancel, and a part that is not the final one, do not. */
function isAnswered(kind: number, view: DataView, at: number): boolean {
  return kind !== Kind.SEM_CANCEL && !(kind === Kind.PUBLISH && view.getUint8(at + PublishAt.part) === PublishOp.PART);
}
