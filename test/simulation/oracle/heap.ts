/** The heap: blocks that do not overlap, each at the lowest place where it fits. */
import { Status } from "../../../src/core/base/errors.ts";
import type { Block } from "../../../src/core/messages/session-state.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import type { Judged, Oracle, Say } from "./oracle.ts";

export class Heap implements Oracle {
  readonly #size: number;
  readonly #wordsFrom: number;
  blocks: Block[] = [];
  /** Blocks given out so far, those that a rewind takes back included. */
  given = 0;
  /** A block lay over the map's last words, from `wordsFrom` on, and has zeroed them. */
  wordsZeroed = false;

  constructor(size: number, wordsFrom: number) {
    this.#size = size;
    this.#wordsFrom = wordsFrom;
  }

  judge(entry: Judged, say: Say): Block | null {
    if (entry.kind === Kind.FREE) this.#free(entry, say);
    if (entry.kind === Kind.ALLOC || entry.kind === Kind.NAMED) return this.#allocate(entry, say);
    return null;
  }

  #free({ at, offset, hasLeft }: Judged, say: Say): void {
    const block = this.blocks.find((one) => one.offset === offset);
    if (hasLeft) {
      say(at, Status.LEFT);
      return;
    }
    say(at, block === undefined ? Status.INVALID : Status.OK);
    this.blocks = this.blocks.filter((other) => other !== block);
  }

  /** `offset` is the block's size and `count` its alignment. */
  #allocate({ at, offset: size, count: alignment, name, hasLeft }: Judged, say: Say): Block | null {
    const known = name === "" ? undefined : this.blocks.find((block) => block.name === name);
    if (hasLeft) {
      say(at, Status.LEFT);
      return null;
    }
    if (known !== undefined) {
      if (known.size === size) say(at, Status.OK, known.offset);
      else say(at, Status.MISMATCH, known.size);
      return null;
    }
    const offset = firstFit(this.blocks, size, alignment, this.#size);
    // Without a size of the map there is always a place.
    if (offset === null) say(at, Status.NO_MEMORY, (firstFit(this.blocks, size, alignment, Infinity) as number) + size);
    else say(at, Status.OK, offset);
    if (offset === null) return null;
    const block = { offset, size, name };
    this.blocks.push(block);
    this.given += 1;
    this.wordsZeroed ||= offset + size > this.#wordsFrom;
    return block;
  }

  reset(): void {
    this.blocks = [];
  }
}

/** The lowest aligned place that `size` bytes have between blocks: the map's first byte or one behind a block. */
function firstFit(blocks: readonly Block[], size: number, alignment: number, mapSize: number): number | null {
  const places = [0, ...blocks.map((block) => Math.ceil((block.offset + block.size) / alignment) * alignment)];
  places.sort((a, b) => a - b);
  const fits = (place: number): boolean =>
    place + size <= mapSize &&
    blocks.every((block) => place + size <= block.offset || block.offset + block.size <= place);
  return places.find(fits) ?? null;
}
