/** Blocks: allocation of blocks in the map, with and without names. */
import { Status } from "../base/errors.ts";
import { checkName } from "../base/names.ts";
import type { MapBytes } from "../memory/map-bytes.ts";
import type { Block, Requester, SessionState } from "../messages/session-state.ts";
import type { Effects } from "./effects.ts";
import { Heap } from "./heap.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";

export class Blocks {
  readonly #members: Membership;
  readonly #replies: Replies;
  readonly #effects: Effects;
  readonly #memory: MapBytes;
  #heap: Heap;

  constructor(members: Membership, replies: Replies, effects: Effects, memory: MapBytes) {
    this.#members = members;
    this.#replies = replies;
    this.#effects = effects;
    this.#memory = memory;
    this.#heap = new Heap(memory.size);
  }

  get all(): readonly Block[] {
    return this.#heap.blocks;
  }

  /** Returns the block of that name, and allocates it if it does not exist. */
  named(name: string, size: number, alignment: number, from: Requester): void {
    if (!this.#admits(from)) return;
    const block = this.#heap.named(name);
    if (block === undefined && checkName("block", name) !== null) {
      this.#replies.status(from, Status.INVALID);
    } else if (block !== undefined && block.size !== size) {
      this.#replies.status(from, Status.MISMATCH, 0, block.size);
    } else if (block !== undefined) {
      this.#replies.status(from, Status.OK, 0, block.offset);
    } else {
      this.#allocate(size, alignment, name, from);
    }
  }

  allocate(size: number, alignment: number, from: Requester): void {
    if (this.#admits(from)) this.#allocate(size, alignment, "", from);
  }

  /** Bytes of the block that begins there; 0: none does. */
  sizeOf(offset: number): number {
    return this.#heap.sizeOf(offset);
  }

  free(offset: number, from: Requester): void {
    if (this.#admits(from)) this.#replies.status(from, this.#heap.free(offset) ? Status.OK : Status.INVALID);
  }

  #admits(from: Requester): boolean {
    if (this.#members.mayIssue(from.rank, from.node)) return true;
    this.#replies.status(from, Status.LEFT);
    return false;
  }

  #allocate(size: number, alignment: number, name: string, from: Requester): void {
    const offset = this.#heap.allocate(size, alignment, name);
    if (offset < 0) {
      this.#replies.status(from, Status.NO_MEMORY, 0, this.#heap.needs(size, alignment));
      return;
    }
    this.#memory.zero(offset, size);
    if (this.#effects.wantsWrites) this.#effects.onWrite(offset, size);
    this.#replies.ok(from.node, from.tag, offset);
  }

  save(): Pick<SessionState, "blocks"> {
    return { blocks: [...this.#heap.blocks] };
  }

  load(state: Pick<SessionState, "blocks">): void {
    this.#heap = new Heap(this.#memory.size, state.blocks);
  }
}
