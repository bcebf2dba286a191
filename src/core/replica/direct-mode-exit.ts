/**
 * An elastic session whose processes are all on one node begins in direct mode. When a process of another node (or one that
 * refuses direct mode) wants to join, it changes over to traps, for good:
 *
 * 1. The server holds the join back and asks the one node's arbiter to change over (CHANGE).
 * 2. The arbiter tells each process that may write to the map to close it. A thread of the process's own makes the map
 *    read-only and says so; from then on its stores trap and are operations. Whoever joins here from now on traps at once.
 * 3. When all are closed, or gone, the arbiter puts the map into the order: COPY, BEGIN to END. With END the session is not
 *    in direct mode any more, wherever it is applied.
 * 4. Behind END the server orders the joins it has held back, and the node's arbiter what its processes have stored.
 *
 * Invariants:
 * - From the first CLOSE to END the arbiter carries out no store, atomic operation or publication of a process: another
 *   process may still write to the map, and what we do to it in several steps is not atomic beside the processor's.
 * - BEGIN comes when no process can write any more, and all that the node asked for is decided. From then on the map changes
 *   by entries only, and a piece has its pages as they are at its place in the order, whatever comes between the pieces. So
 *   at END all who have followed since BEGIN, or have got a picture since, have the node's map.
 * - Until END only this node has the map, so only it can hand it to a server that takes over, which in direct mode gets none:
 *   nothing is decided while the server is away, and when one is there again the copy begins anew.
 * - Nobody but the one node's processes is in the session before END. If they all go, it ends, and whoever waits joins the
 *   next. Whoever waits and goes has left as soon as it has joined, and is lost to nobody. A change that has begun is brought
 *   to its end, also if nobody waits any more.
 */
import { CHANNEL_REQUESTS_MAX } from "../base/limits.ts";
import type { MapBytes } from "../memory/map-bytes.ts";
import { encode, ProtocolError } from "../wire/frame.ts";
import { ChangeOp, CopyOp, Kind } from "../wire/kinds.ts";
import type { Channel } from "./channels.ts";
import { encodeUpload, MapUpload, UPLOAD_PACE, type UploadPace } from "./map-upload.ts";
import type { ReplicaOutput } from "./output.ts";
import type { NodeProcess, ProcessTable } from "./processes.ts";
import type { Proposals } from "./proposals.ts";

/** A frame that waits for the end of direct mode. */
export interface DeferredFrame {
  channel: Channel;
  frame: Uint8Array;
}

/** What the exit needs of the replica. */
export interface ExitHost {
  readonly node: number;
  readonly memory: MapBytes;
  readonly processes: ProcessTable;
  readonly out: Pick<ReplicaOutput, "reply">;
  readonly proposals: Proposals;
  readonly propose: (frame: Uint8Array) => void;
}

/** The end of direct mode on the node that has all processes. */
export class DirectModeExit {
  readonly #host: ExitHost;
  pace: UploadPace = UPLOAD_PACE;
  /** From when the processes are asked to close the map until END is proposed. */
  #isUnderWay = false;
  #upload: MapUpload | null = null;
  readonly #deferred: DeferredFrame[] = [];

  constructor(host: ExitHost) {
    this.#host = host;
  }

  get isUnderWay(): boolean {
    return this.#isUnderWay;
  }

  /** All processes that may write to the map are asked to close it. */
  begin(): void {
    if (this.#isUnderWay) return;
    this.#isUnderWay = true;
    for (const process of this.#host.processes.all()) this.#askToClose(process);
  }

  #askToClose({ channel, mayWrite, isWatching }: NodeProcess): void {
    if (mayWrite && isWatching) this.#host.out.reply(channel, encode({ kind: Kind.CHANGE, op: ChangeOp.CLOSE }));
  }

  /** A process says that it waits to be told to close the map, or that it has closed it. */
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

  /** What would change the map waits, and what comes behind it on its channel. */
  defer(channel: Channel, frame: Uint8Array): void {
    if (channel.deferred >= CHANNEL_REQUESTS_MAX) throw new ProtocolError("too many requests under way");
    channel.deferred += 1;
    this.#deferred.push({ channel, frame });
  }

  /** Another server has this node: it may have nothing of the map. */
  restartUpload(): void {
    this.#upload = null;
  }

  /**
   * When no process writes to the map any more, uploads it, piece by piece, as the server takes them. Returns the frames
   * that waited once END is proposed; null: not yet.
   */
  advance(): DeferredFrame[] | null {
    const { memory, node, processes } = this.#host;
    if (!this.#isUnderWay || !this.#host.proposals.allDecided) return null;
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
