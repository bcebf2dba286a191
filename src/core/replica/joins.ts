/** How processes of this node join the session, attach channels, and go. */
import { Status } from "../base/errors.ts";
import { FRAME_MAX } from "../base/limits.ts";
import { formatRanks } from "../base/ranks.ts";
import type { Session } from "../session/session.ts";
import { At, HEADER_SIZE } from "../wire/at.ts";
import { encode, encodeText, ProtocolError } from "../wire/frame.ts";
import { checkHandshake } from "../wire/handshake.ts";
import { Kind, NO_TAG } from "../wire/kinds.ts";
import type { Channel, ChannelTable } from "./channels.ts";
import type { DirectModeExit } from "./direct-mode-exit.ts";
import type { PageShadows } from "./page-shadows.ts";
import { encodeJoined, parseProcessHello } from "./process-handshake.ts";
import type { ProcessMemory } from "./process-memory.ts";
import type { ReplyWriter } from "./process-replies.ts";
import type { NodeProcess, ProcessTable } from "./processes.ts";
import type { ReplicaOutput } from "./replica-output.ts";
import type { StoreQueue } from "./store-queue.ts";

const TOKEN_SIZE = 8;

export interface JoinsOptions {
  node: number;
  nodeName: string;
  /** Where processes find the map. */
  mapPath: string;
  session: Session;
  channels: ChannelTable;
  processes: ProcessTable;
  replies: ReplyWriter;
  shadows: PageShadows;
  memory: ProcessMemory;
  queue: StoreQueue;
  exit: DirectModeExit;
  out: ReplicaOutput;
  propose: (frame: Uint8Array) => void;
}

export class Joins {
  readonly #of: JoinsOptions;
  /** No process may join any more. */
  #isClosed = false;

  constructor(options: JoinsOptions) {
    this.#of = options;
  }

  /** The first frame of a channel. Throws ProtocolError. */
  handshake(channel: Channel, kind: number, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    checkHandshake(view, at);
    if (kind === Kind.HELLO) this.#hello(channel, view, at, size, bytes);
    else if (kind === Kind.ATTACH) this.#attach(channel, view, at, size, bytes);
    else throw new ProtocolError("protocol error: expected a handshake frame");
  }

  #hello(channel: Channel, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const { config, phase } = this.#of.session;
    const hello = parseProcessHello(view, at, size, bytes, config);
    if (this.#isClosed || phase === "ended") throw new ProtocolError("the session has ended", Status.ENDED);
    const process = this.#of.processes.add(channel.index, hello.pid, this.#of.out.token(), hello.refusesDirect);
    channel.process = process;
    channel.reader.limit = FRAME_MAX;
    channel.requests += 1;
    this.#of.propose(
      encode({
        kind: Kind.JOIN,
        op: hello.refusesDirect ? 1 : 0,
        node: this.#of.node,
        tag: channel.stamp(0),
        offset: hello.pid,
        aux: hello.wishedRank,
        body: encodeText(this.#of.nodeName),
      }),
    );
  }

  #attach(channel: Channel, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    if (size !== HEADER_SIZE + TOKEN_SIZE) throw new ProtocolError("the greeting has the wrong size");
    const process = this.#of.processes.get(view.getUint16(at + At.rank, true));
    const token = bytes.subarray(at + HEADER_SIZE, at + HEADER_SIZE + TOKEN_SIZE);
    if (process === undefined || process.isDead || !equalBytes(process.token, token)) {
      throw new ProtocolError("no process of this node has that token", Status.REFUSED);
    }
    channel.process = process;
    channel.reader.limit = FRAME_MAX;
    process.channels.add(channel.index);
    this.#of.replies.done(channel.index, view.getUint32(at + At.tag, true));
  }

  /** The log gave a rank to the process whose JOIN has that tag. */
  onRankAssigned(tag: number, rank: number): void {
    const process = this.#of.channels.ofTag(tag)?.process;
    if (process == null) return;
    this.#of.processes.setRank(process, rank);
    // The session does not wait for a process that has disconnected before it begins.
    if (process.isDead && this.#of.session.phase !== "running") this.leave(process, true);
  }

  /** The log has admitted or refused a process that has disconnected. */
  onDeadAnswered(process: NodeProcess): void {
    if (process.rank < 0) this.#of.processes.remove(process);
    // It was admitted to a running session and has made no changes: it has left. In direct mode its LEAVE is decided here
    // and now, when the JOIN is done.
    else if (process.isDead && process.state === "joining") this.leave(process, false);
  }

  /** The log says that the rank is gone. */
  onProcessGone(rank: number): void {
    const process = this.#of.processes.leave(rank);
    if (process === undefined) return;
    this.#of.shadows.dropAll(process);
    this.#of.memory.takeBack(process);
  }

  /** Replies to a JOIN that was applied or refused. */
  reply(channel: Channel, process: NodeProcess, status: Status, rank: number): void {
    if (status !== Status.OK) {
      process.state = "left";
      this.#of.processes.remove(process);
      this.#of.replies.error(channel.index, 0, status);
      return;
    }
    process.state = "running";
    const { session } = this.#of;
    const { config } = session;
    const isElastic = config.elastic === true;
    const isDirect = session.direct && !this.#of.exit.isUnderWay && !process.refusesDirect;
    const { nodeName, mapPath } = this.#of;
    const processes = isElastic ? session.present : config.processes;
    const facts = { rank, token: process.token, node: this.#of.node, nodeName, mapPath, processes, isDirect };
    const joined = encodeJoined(config, facts);
    if (isElastic) this.#joinElastic(process, isDirect);
    this.#of.out.reply(channel.index, joined);
  }

  /**
   * Tells a process that has no more time to join what it waits for. It then ends the connection; if it was admitted
   * meanwhile, that reply comes first.
   */
  explain(channel: Channel, process: NodeProcess): void {
    process.gaveUp = true;
    this.#of.replies.error(channel.index, 0, Status.TIMEOUT, 0, this.#awaitedBy(process));
  }

  #awaitedBy({ rank }: NodeProcess): string {
    const { config, phase } = this.#of.session;
    if (phase === "joining") {
      // Before its JOIN is ordered, the process itself seems to be missing.
      if (rank < 0) return "the other processes did not join";
      const { absent, withdrawn } = this.#of.session.missing(rank);
      const of = ` of ${config.processes}`;
      return [
        ...(withdrawn.length > 0 ? [`${formatRanks(withdrawn)}${of} joined and left again`] : []),
        ...(absent.length > 0 ? [`${formatRanks(absent)}${of} did not join`] : []),
      ].join(", and ");
    }
    if (phase === "running" && config.elastic !== true) return "the processes of the session before did not leave it";
    return "the processes that are in it did not leave direct mode";
  }

  /** Admits a process to an elastic session. One that does not map the region read-write makes direct mode end. */
  #joinElastic(process: NodeProcess, mayWrite: boolean): void {
    process.mayWrite = mayWrite;
    if (!mayWrite) this.beginExit();
    // The process has the ring already, but stores enter the log only once other nodes need to see them.
    else if (!this.#of.queue.isDisabledBy("direct mode")) this.#of.queue.disable("direct mode");
  }

  /** Begins the exit from direct mode: a process that cannot share the map wants to join. */
  beginExit(): void {
    const { direct, config } = this.#of.session;
    if (direct && config.elastic === true && this.#of.processes.anyRanked) this.#of.exit.begin();
  }

  /** Proposes the process's LEAVE: the process is gone. */
  leave(process: NodeProcess, isLost: boolean): void {
    process.state = "leaving";
    const { rank, gaveUp } = process;
    const flags = { op: isLost ? 1 : 0, length: gaveUp ? 1 : 0 };
    this.#of.propose(encode({ kind: Kind.LEAVE, ...flags, rank, node: this.#of.node, tag: NO_TAG }));
  }

  /** Whether the last process has gone, or the session has ended. Returns true once; no process may join afterwards. */
  closeIfDone(): boolean {
    const { channels, processes, session } = this.#of;
    const allGone = processes.hadProcess && processes.isEmpty;
    if (this.#isClosed || (!allGone && session.phase !== "ended")) return false;
    this.#isClosed = true;
    // A JOIN that was in flight when the session ended gets no place in the log.
    for (const process of [...processes.all()]) {
      const channel = channels.get(process.channel);
      if (process.state !== "joining" || process.isDead || channel === undefined) continue;
      channel.requests -= 1;
      this.reply(channel, process, Status.ENDED, 0);
    }
    return true;
  }
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i += 1) difference |= (a[i] as number) ^ (b[i] as number);
  return difference === 0;
}
