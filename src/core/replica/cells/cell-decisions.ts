/**
 * CellDecisions: decides the requests of processes that also synchronise by cells, in direct mode. It takes the cell of
 * what a request names, makes the session know what the processes have done by it, lets the session decide, and gives the
 * cell back to the processes where it can.
 */
import { nameAt } from "../../session/session.ts";
import { At } from "../../wire/at.ts";
import { encode, encodeText } from "../../wire/frame.ts";
import { Kind, NO_TAG } from "../../wire/kinds.ts";
import type { DirectModeExit } from "../direct-mode-exit.ts";
import { type LeaseHost, Leases } from "./leases.ts";
import { LockCells } from "./lock-cells.ts";

export interface CellHost extends LeaseHost {
  readonly exit: DirectModeExit;
  /** Applies an operation of this node at once; the server follows. */
  readonly decide: (view: DataView, frame: Uint8Array) => void;
}

export class CellDecisions {
  readonly #host: CellHost;
  readonly #locks: LockCells;
  /** The locks that have cells outside direct mode. */
  readonly leases: Leases;
  /** The request that is being decided, and the value of the answer to it. */
  #tag = -1;
  #value = 0;

  /** `memory`: CELLS_SIZE bytes, zeroed, that the processes of the node share. */
  constructor(memory: Uint8Array, host: CellHost) {
    this.#host = host;
    this.#locks = new LockCells(memory);
    this.leases = new Leases(memory, this.#locks, host);
  }

  /** Decides an operation of a process of this node. */
  decide(kind: number, view: DataView, frame: Uint8Array): void {
    if (kind === Kind.LEAVE) this.takeAll();
    if (kind === Kind.LOCK || kind === Kind.UNLOCK) this.#lock(kind, view, frame);
    else this.#host.decide(view, frame);
  }

  /** Takes all cells, so that the session knows what the processes have done by them. */
  takeAll(): void {
    for (const { name, rank } of this.#locks.takeAll()) this.#own(name, rank);
  }

  /** The value of the answer to `tag`: 1 plus the cell of what it named, by which the process finds it; or 0. */
  valueFor(tag: number): number {
    return tag === this.#tag ? this.#value : 0;
  }

  /** Whether processes may synchronise by cells. Once one was lost they may not: it may run on and use a cell. */
  get #mayGive(): boolean {
    const { exit, session } = this.#host;
    return !exit.isUnderWay && session.lostRank < 0;
  }

  #lock(kind: number, view: DataView, frame: Uint8Array): void {
    const name = nameAt(view, 0);
    const owner = this.#locks.take(name);
    if (owner >= 0) this.#own(name, owner);
    if (kind === Kind.LOCK) {
      this.#tag = view.getUint32(At.tag, true);
      this.#value = this.#locks.assign(name);
    }
    this.#host.decide(view, frame);
    this.#tag = -1;
    if (kind === Kind.UNLOCK && this.#mayGive && this.#host.session.isLockFree(name)) this.#locks.free(name);
  }

  /** The process has the lock by its cell: makes it the owner in the session, too. */
  #own(name: string, rank: number): void {
    const { processes, session, decide } = this.#host;
    if (processes.get(rank) === undefined) return;
    const frame = encode({ kind: Kind.LOCK, rank, node: session.node, tag: NO_TAG, body: encodeText(name) });
    decide(new DataView(frame.buffer), frame);
  }
}
