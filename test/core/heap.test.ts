/** Blocks of the map, held against a naive heap. */
import { describe, expect, test } from "bun:test";
import { isAlignment } from "../../src/core/base/alignment.ts";
import { ALIGN_MAX, BLOCKS_MAX, SIZE_MAX } from "../../src/core/base/limits.ts";
import type { Block } from "../../src/core/messages/session-state.ts";
import { Heap } from "../../src/core/session/heap.ts";
import { Random } from "../support/core-random.ts";

const MAP = 4096;

/** The naive heap: who owns each byte. A block is where the first free stretch that begins aligned is long enough. */
class Reference {
  readonly #owner: number[];
  readonly blocks = new Map<number, Block>();

  constructor(size: number) {
    this.#owner = new Array(size).fill(-1);
  }

  allocate(size: number, align: number, name: string): number {
    for (let offset = 0; offset + size <= this.#owner.length; offset += align) {
      if (!this.#owner.slice(offset, offset + size).every((owner) => owner < 0)) continue;
      this.#owner.fill(offset, offset, offset + size);
      this.blocks.set(offset, { offset, size, name });
      return offset;
    }
    return -1;
  }

  free(offset: number): boolean {
    const block = this.blocks.get(offset);
    if (block === undefined) return false;
    this.#owner.fill(-1, offset, offset + block.size);
    return this.blocks.delete(offset);
  }

  sorted(): Block[] {
    return [...this.blocks.values()].sort((a, b) => a.offset - b.offset);
  }
}

describe("allocate", () => {
  test("needs() is the least map, with its blocks where they are, that has room", () => {
    const random = new Random(7);
    for (let round = 0; round < 200; round += 1) {
      const heap = new Heap(MAP);
      for (let i = random.between(0, 12); i > 0; i -= 1)
        heap.allocate(random.between(1, 600), random.pick([1, 16, 64]), "");
      for (const { offset } of [...heap.blocks]) if (random.oneIn(3)) heap.free(offset);
      const [size, align] = [random.between(1, 2 * MAP), random.pick([1, 16, 64, 4096])];
      if (heap.allocate(size, align, "") >= 0) continue;
      const least = heap.needs(size, align);
      expect(least).toBeGreaterThan(MAP);
      expect(new Heap(least - 1, heap.blocks).allocate(size, align, "")).toBe(-1);
      expect(new Heap(least, heap.blocks).allocate(size, align, "")).toBe(least - size);
    }
  });

  test("takes the first gap that is large enough, from the lowest address on", () => {
    const heap = new Heap(MAP);
    expect([100, 28, 64].map((size) => heap.allocate(size, 1, ""))).toEqual([0, 100, 128]);
    expect(heap.free(100)).toBe(true);
    expect(heap.allocate(29, 1, "")).toBe(192);
    expect(heap.allocate(28, 1, "")).toBe(100);
    expect(heap.free(0)).toBe(true);
    expect(heap.allocate(1, 1, "")).toBe(0);
    expect(heap.allocate(1, 1, "")).toBe(1);
  });

  test("aligns the block, and fills what lies before it later", () => {
    const heap = new Heap(4 * MAP);
    expect(heap.allocate(1, 1, "")).toBe(0);
    expect(heap.allocate(1, ALIGN_MAX, "")).toBe(ALIGN_MAX);
    expect(heap.allocate(64, 64, "")).toBe(64);
    expect(heap.allocate(63, 1, "")).toBe(1);
    // The gap up to the aligned block is long enough, but not from an aligned place on.
    expect(heap.allocate(ALIGN_MAX - 128 + 1, 128, "")).toBe(ALIGN_MAX + 128);
  });

  test("the whole map, and not a byte more", () => {
    for (const size of [MAP, SIZE_MAX]) {
      const heap = new Heap(size);
      expect(heap.allocate(size + 1, 1, "")).toBe(-1);
      expect(heap.allocate(Number.MAX_SAFE_INTEGER, 1, "")).toBe(-1);
      expect(heap.allocate(size, ALIGN_MAX, "")).toBe(0);
      expect(heap.allocate(1, 1, "")).toBe(-1);
      expect(heap.free(0)).toBe(true);
      expect(heap.allocate(size - 1, 1, "")).toBe(0);
      expect(heap.allocate(1, 2, "")).toBe(-1);
      expect(heap.allocate(1, 1, "")).toBe(size - 1);
    }
  });

  test("offsets beyond 32 bits stay exact", () => {
    const heap = new Heap(SIZE_MAX);
    expect(heap.allocate(2 ** 31 + 1, 1, "")).toBe(0);
    expect(heap.allocate(1, ALIGN_MAX, "")).toBe(2 ** 31 + ALIGN_MAX);
    expect(heap.allocate(2 ** 31 - 2 * ALIGN_MAX, ALIGN_MAX, "")).toBe(2 ** 31 + 2 * ALIGN_MAX);
    expect(heap.allocate(ALIGN_MAX, 1, "")).toBe(-1);
    expect(heap.free(2 ** 31 + 2 * ALIGN_MAX)).toBe(true);
  });

  test("at most BLOCKS_MAX blocks, and another once one is free", () => {
    const blocks = Array.from({ length: BLOCKS_MAX - 1 }, (_, index) => ({ offset: 16 * index, size: 16, name: "" }));
    const heap = new Heap(SIZE_MAX, blocks);
    expect(heap.allocate(8, 8, "last")).toBe(16 * (BLOCKS_MAX - 1));
    expect(heap.allocate(8, 8, "")).toBe(-1);
    expect(heap.free(16 * 1000)).toBe(true);
    expect(heap.allocate(8, 8, "")).toBe(16 * 1000);
    expect(heap.allocate(1, 1, "")).toBe(-1);
  });
});

describe("free", () => {
  test("only what a block begins with, and once", () => {
    const heap = new Heap(MAP);
    for (let block = 0; block < 5; block += 1) heap.allocate(64, 64, "");
    for (const wrong of [-64, -1, 1, 63, 65, 300, 320, MAP - 1, MAP, 2 ** 40]) expect(heap.free(wrong)).toBe(false);
    for (const offset of [0, 256, 128, 64, 192]) {
      expect(heap.free(offset)).toBe(true);
      expect(heap.free(offset)).toBe(false);
    }
    expect(heap.blocks).toEqual([]);
  });

  test("an empty heap has nothing to free", () => {
    expect(new Heap(MAP).free(0)).toBe(false);
  });
});

test("a name finds its block until that is freed", () => {
  const heap = new Heap(MAP);
  expect(heap.named("grid")).toBeUndefined();
  heap.allocate(64, 64, "");
  heap.allocate(100, 64, "grid");
  expect(heap.named("grid")).toEqual({ offset: 64, size: 100, name: "grid" });
  // A block without a name has none that could be asked for.
  expect(heap.named("")).toBeUndefined();
  heap.free(64);
  expect(heap.named("grid")).toBeUndefined();
  heap.free(0);
  heap.allocate(5, 1, "grid");
  expect(heap.named("grid")).toEqual({ offset: 0, size: 5, name: "grid" });
});

test("a heap of another's blocks goes on as that one, on its own copy", () => {
  const heap = new Heap(MAP);
  for (const name of ["", "a", "b", ""]) heap.allocate(100, 8, name);
  heap.free(104);
  const copy = new Heap(MAP, JSON.parse(JSON.stringify(heap.blocks)));
  const borrowed = new Heap(MAP, heap.blocks);
  for (const other of [copy, borrowed]) {
    expect(other.blocks).toEqual([...heap.blocks]);
    expect(other.named("a")).toBeUndefined();
    expect(other.named("b")).toEqual(heap.named("b") as Block);
    expect(other.allocate(50, 8, "c")).toBe(104);
    expect(other.free(0)).toBe(true);
  }
  expect(heap.blocks.map(({ offset }) => offset)).toEqual([0, 208, 312]);
  expect(heap.named("c")).toBeUndefined();
  expect(heap.allocate(50, 8, "c")).toBe(104);
});

test("agrees with the naive heap, whatever is allocated and freed", () => {
  for (let seed = 0; seed < 60; seed += 1) {
    const random = new Random(seed);
    const size = random.pick([64, 1000, 2048]);
    const heap = new Heap(size);
    const reference = new Reference(size);
    // Sizes and alignments of this seed: many small blocks, or few that hardly fit.
    const largest = random.pick([8, 100, size]);
    const alignments = random.pick([[1], [1, 2, 4, 8, 16], [8, 64, 256]]);
    for (let step = 0; step < 150; step += 1) {
      const name = random.oneIn(4) ? `n${step}` : "";
      if (random.oneIn(3) && reference.blocks.size > 0) {
        const offset = random.oneIn(4) ? random.below(size + 10) : random.pick([...reference.blocks.keys()]);
        const gone = reference.blocks.get(offset)?.name ?? "";
        expect(heap.free(offset)).toBe(reference.free(offset));
        expect(heap.named(gone)).toBeUndefined();
      } else {
        const bytes = random.between(1, largest);
        const align = random.pick(alignments);
        const offset = heap.allocate(bytes, align, name);
        expect(offset).toBe(reference.allocate(bytes, align, name));
        if (offset >= 0 && name !== "") expect(heap.named(name)).toEqual({ offset, size: bytes, name });
      }
    }
    expect([...heap.blocks]).toEqual(reference.sorted());
    for (const { offset } of reference.sorted()) expect(heap.free(offset)).toBe(true);
    expect(heap.allocate(size, 1, "")).toBe(0);
  }
});

test("alignments are powers of two up to a page", () => {
  for (let bits = 0; 2 ** bits <= ALIGN_MAX; bits += 1) expect(isAlignment(2 ** bits)).toBe(true);
  for (const bad of [0, -1, -8, 3, 6, 12, ALIGN_MAX - 1, ALIGN_MAX + 1, 2 * ALIGN_MAX, 2 ** 31, 2 ** 32]) {
    expect(isAlignment(bad)).toBe(false);
  }
  expect(isAlignment(Number.NaN)).toBe(false);
});
