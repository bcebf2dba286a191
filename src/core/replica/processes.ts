/**
 * The processes of this node.
 *
 *     joining ──the session starts──▶ running ──LEAVE proposed──▶ leaving ──in the log──▶ left
 */
import type { MapBytes } from "../memory/map-bytes.ts";

export interface NodeProcess {
  /** Its main channel. */
  channel: number;
  pid: number;
  /** -1 until the log gave one. */
  rank: number;
  token: Uint8Array;
  state: "joining" | "running" | "leaving" | "left";
  /** The process is gone; its LEAVE is proposed as soon as its rank is known. */
  isDead: boolean;
  /** It was told that its time to join is over, and what it has waited for. */
  gaveUp: boolean;
  /** The process traps even while the session is in direct mode. */
  refusesDirect: boolean;
  /** It maps the region read-write (direct mode) and has not confirmed CLOSED. */
  mayWrite: boolean;
  /** The process waits to be told to CLOSE. */
  isWatching: boolean;
  channels: Set<number>;
  /** Bytes of its incomplete publications. */
  publishingBytes: number;
  /** Its staging area, once it has asked for one, and how many parts are in flight from it. */
  staging: Uint8Array | null;
  stagedParts: number;
  /** Its shadow of the whole map, once it has one. */
  shadow: MapBytes | null;
}

export class ProcessTable {
  readonly #processes = new Set<NodeProcess>();
  readonly #byRank = new Map<number, NodeProcess>();
  #hadProcess = false;

  /** Whether a process ever came. */
  get hadProcess(): boolean {
    return this.#hadProcess;
  }

  /** Whether no process is here, or known to the log as being here. */
  get isEmpty(): boolean {
    return this.#processes.size === 0 && this.#byRank.size === 0;
  }

  /** Whether the session has processes on this node. */
  get anyRanked(): boolean {
    return this.#byRank.size > 0;
  }

  all(): Iterable<NodeProcess> {
    return this.#processes;
  }

  get(rank: number): NodeProcess | undefined {
    return this.#byRank.get(rank);
  }

  add(channel: number, pid: number, token: Uint8Array, refusesDirect: boolean): NodeProcess {
    const process: NodeProcess = {
      channel,
      pid,
      rank: -1,
      token,
      state: "joining",
      isDead: false,
      gaveUp: false,
      refusesDirect,
      mayWrite: false,
      isWatching: false,
      channels: new Set([channel]),
      publishingBytes: 0,
      staging: null,
      stagedParts: 0,
      shadow: null,
    };
    this.#processes.add(process);
    this.#hadProcess = true;
    return process;
  }

  /** Records the rank that the log gave the process. */
  setRank(process: NodeProcess, rank: number): void {
    process.rank = rank;
    this.#byRank.set(rank, process);
  }

  /** Removes the process that has the rank: the log says that the rank is gone. */
  leave(rank: number): NodeProcess | undefined {
    const process = this.#byRank.get(rank);
    if (process === undefined) return undefined;
    this.#byRank.delete(rank);
    process.state = "left";
    // By now the process has unmapped the region or exited.
    process.mayWrite = false;
    if (process.isDead) this.#processes.delete(process);
    return process;
  }

  /** Removes a process that is gone or was refused. */
  remove(process: NodeProcess): void {
    this.#processes.delete(process);
  }
}
