/**
 * The end of direct mode. An elastic session whose processes are all on one node begins in direct mode. When a process
 * of another node (or one that refuses direct mode) wants to join, the session changes over to traps, for good:
 *
 * 1. The server defers the join and asks the one node's arbiter to end direct mode (CHANGE).
 * 2. The arbiter tells each process that may write to the map to close it. A thread of the process makes the map
 *    read-only and confirms it; from then on the process's stores trap and become operations. A process that joins
 *    this node from now on traps at once.
 * 3. When all processes have closed the map, or are gone, the arbiter puts the map into the log: COPY, BEGIN to END.
 *    The session leaves direct mode when END is applied, on every replica.
 * 4. Behind END the server orders the deferred joins, and the node's arbiter proposes the deferred requests.
 *
 * Invariants:
 * - From the first CLOSE to END the arbiter executes no store, atomic operation or publication of a process: another
 *   process may still write to the map, and the arbiter's several steps are not atomic with respect to the processor's.
 * - BEGIN is proposed when no process can write any more and all requests of the node are decided. From then on the map
 *   changes by entries only, and a piece holds its pages as they are at its place in the log, whatever entries lie
 *   between the pieces. So at END every node that has followed since BEGIN, or got a snapshot since, has that map.
 * - Until END only this node has the map, so only it can hand it to a server that takes over; in direct mode such a
 *   server gets none. So nothing is decided while the server is away, and the upload begins again with the next server.
 * - Before END the session has processes of the one node only. If they all go, the session ends, and a waiting process
 *   joins the next one. A waiting process that disconnects leaves as soon as it has joined, and does not count as lost.
 *   The transition always completes once started, even if no process waits any more.
 */
import { CHANNEL_REQUESTS_MAX } from "../base/limits.ts";
import type { MapBytes } from "../memory/map-bytes.ts";
import { encode, ProtocolError } from "../wire/frame.ts";
import { ChangeOp, CopyOp, Kind } from "../wire/kinds.ts";
import type { Channel } from "./channels.ts";
import { encodeUpload, MapUpload, UPLOAD_PACE, type UploadPace } from "./map-upload.ts";
import type { NodeProcess, ProcessTable } from "./processes.ts";
import type { Proposals } from "./proposals.ts";
import type { ReplicaOutput } from "./replica-output.ts";

/** A frame that waits for the end of direct mode. */
export interface DeferredFrame {
  channel: Channel;
  frame: Uint8Array;
}

/** The parts of the replica that the exit uses. */
export interface ExitHost {
  readonly node: number;
  readonly memory: MapBytes;
  readonly processes: ProcessTable;
  readonly out: Pick<ReplicaOutput, "reply">;
  readonly proposals: Proposals;
  readonly propose: (frame: Uint8Array) => void;
  /** Direct mode is about to end. */
  readonly onBegin: () => void;
}

/** The end of direct mode on the node that has all processes. */
export class DirectModeExit {
  readonly #host: ExitHost;
  pace: UploadPace = UPLOAD_PACE;
  /** True from the request to the processes to close the map until END is proposed. */
  #isUnderWay = false;
  #upload: MapUpload | null = null;
  /** The connection to the server is broken: nothing goes on. */
  isPaused = false;
  readonly #deferred: DeferredFrame[] = [];

  constructor(host: ExitHost) {
    this.#host = host;
  }

  get isUnderWay(): boolean {
    return this.#isUnderWay;
  }

  /** Asks all processes that may write to the map to close it. */
  begin(): void {
    if (this.#isUnderWay) return;
    this.#host.onBegin();
    this.#isUnderWay = true;
    for (const process of this.#host.processes.all()) this.#askToClose(process);
  }

  #askToClose({ channel, mayWrite, isWatching }: NodeProcess): void {
    if (mayWrite && isWatching) this.#host.out.reply(channel, encode({ kind: Kind.CHANGE, op: ChangeOp.CLOSE }));
  }

  /** WATCH: the process waits to be told to close the map. CLOSED: the process has closed it. */
  onMessage(channel: Channel, process: NodeProcess, op: number): void {
    const isKnown = op === ChangeOp.WATCH || op === ChangeOp.CLOSED;
    if (!channel.isMainOf(process) || !isKnown) throw new ProtocolError("change: no such flag");
    if (op === ChangeOp.CLOSED) {
      process.mayWrite = false;
    } else {
      process.isWatching = true;
      if (this.#isUnderWay) this.#askToClose(process);
    }
  }

  /** Defers a frame that would change the map, or that follows such a frame on its channel. */
  defer(channel: Channel, frame: Uint8Array): void {
    if (channel.deferred >= CHANNEL_REQUESTS_MAX) throw new ProtocolError("too many requests under way");
    channel.deferred += 1;
    this.#deferred.push({ channel, frame });
  }

  /** Begins the upload again: the node has another server, which may have nothing of the map. */
  restartUpload(): void {
    this.#upload = null;
  }

  /**
   * Uploads the map, piece by piece, as the server accepts the pieces; begins when no process can write to the map any
   * more. Returns the deferred frames once END is proposed; null: not yet.
   */
  advance(): DeferredFrame[] | null {
    const { memory, node, processes } = this.#host;
    if (this.isPaused || !this.#isUnderWay || !this.#host.proposals.allDecided) return null;
    for (const { mayWrite } of processes.all()) if (mayWrite) return null;
    if (this.#upload === null) {
      this.#upload = new MapUpload(memory, node, this.pace);
      this.#host.propose(encodeUpload(CopyOp.BEGIN, node));
    }
    while (this.#host.proposals.bytesInFlight < this.pace.inFlightMax) {
      const piece = this.#upload.next();
      if (piece === null) {
        this.#host.propose(encodeUpload(CopyOp.END, node));
        this.#isUnderWay = false;
        this.#upload = null;
        for (const { channel } of this.#deferred) channel.deferred = 0;
        return this.#deferred.splice(0);
      }
      this.#host.propose(piece);
    }
    return null;
  }
}
