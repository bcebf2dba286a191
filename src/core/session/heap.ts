/**
 * Heap: which blocks of the map are allocated: first fit over the gaps between blocks, in address order. Allocation is
 * an operation of the session, so every replica makes the same calls and gets the same offsets; the map itself holds no
 * allocation data.
 */
import { BLOCKS_MAX } from "../base/limits.ts";
import type { Block } from "../messages/session-state.ts";

export class Heap {
  readonly #size: number;
  /** By offset, not overlapping. */
  #blocks: Block[] = [];
  readonly #named = new Map<string, Block>();

  constructor(size: number, blocks: readonly Block[] = []) {
    this.#size = size;
    for (const block of blocks) this.#insert(this.#blocks.length, { ...block });
  }

  get blocks(): readonly Block[] {
    return this.#blocks;
  }

  named(name: string): Block | undefined {
    return this.#named.get(name);
  }

  /** Allocates a block. Returns its offset, or -1 when no gap is large enough or there are BLOCKS_MAX blocks. */
  allocate(size: number, align: number, name: string): number {
    if (this.#blocks.length >= BLOCKS_MAX) return -1;
    let gap = 0;
    for (let index = 0; index <= this.#blocks.length; index += 1) {
      const next = this.#blocks[index];
      const offset = Math.ceil(gap / align) * align;
      if (offset + size <= (next?.offset ?? this.#size)) {
        this.#insert(index, { offset, size, name });
        return offset;
      }
      if (next !== undefined) gap = next.offset + next.size;
    }
    return -1;
  }

  /**
   * The bytes of a map in which a block that allocate() has no room for would lie behind all others; 0: there are
   * BLOCKS_MAX blocks, and none fits into any map.
   */
  needs(size: number, align: number): number {
    if (this.#blocks.length >= BLOCKS_MAX) return 0;
    const last = this.#blocks.at(-1);
    const end = last === undefined ? 0 : last.offset + last.size;
    return Math.min(Math.ceil(end / align) * align + size, Number.MAX_SAFE_INTEGER);
  }

  /** Bytes of the block that begins there; 0: none does. */
  sizeOf(offset: number): number {
    const block = this.#blocks[this.#indexOf(offset)];
    return block === undefined || block.offset !== offset ? 0 : block.size;
  }

  /** Frees the block. False when no block begins there. */
  free(offset: number): boolean {
    const index = this.#indexOf(offset);
    const block = this.#blocks[index];
    if (block === undefined || block.offset !== offset) return false;
    this.#blocks.splice(index, 1);
    if (block.name !== "") this.#named.delete(block.name);
    return true;
  }

  /** The index of the first block that begins there or behind. */
  #indexOf(offset: number): number {
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#blocks[middle] as Block).offset < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #insert(index: number, block: Block): void {
    this.#blocks.splice(index, 0, block);
    if (block.name !== "") this.#named.set(block.name, block);
  }
}
