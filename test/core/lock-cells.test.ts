/** LockCells: which locks have cells, and what the arbiter learns when it takes them. */
import { expect, test } from "bun:test";
import { LockCells } from "../../src/core/replica/cells/lock-cells.ts";
import {
  CELL_ARBITER,
  CELL_FREE,
  CELL_OWNED,
  CELLS_SIZE,
  LOCK_CELLS_AT,
  NAMED_CELL_SIZE,
  NAMED_CELLS_MAX,
} from "../../src/core/wire/cell-layout.ts";

function make(): { cells: LockCells; words: Int32Array; at: (cell: number) => number; woken: number[] } {
  const memory = new Uint8Array(CELLS_SIZE);
  const woken: number[] = [];
  return {
    woken,
    cells: new LockCells(memory, (at) => void woken.push(at)),
    words: new Int32Array(memory.buffer),
    at: (cell) => (LOCK_CELLS_AT + cell * NAMED_CELL_SIZE) / 4,
  };
}

/** Gives the lock a cell, and returns its number, or -1. */
const request = (cells: LockCells, name: string): number => cells.assign(name) - 1;

test("a lock keeps its cell, which is the arbiter's until it is free", () => {
  const { cells, words, at } = make();
  const cell = request(cells, "a");
  expect(request(cells, "a")).toBe(cell);
  expect(words[at(cell)]).toBe(CELL_ARBITER);
  cells.free("a");
  expect(words[at(cell)]).toBe(CELL_FREE);
  expect(cells.take("a")).toBe(-1);
  expect(words[at(cell)]).toBe(CELL_ARBITER);
  expect(cells.take("a lock that no process has asked for")).toBe(-1);
});

test("taking a cell tells who has the lock, and taking all tells it of each", () => {
  const { cells, words, at } = make();
  const places = ["a", "b", "c"].map((name) => at(request(cells, name)));
  for (const name of ["a", "b", "c"]) cells.free(name);
  words[places[0] as number] = CELL_OWNED;
  words[places[2] as number] = CELL_OWNED + 5;
  expect(cells.take("a")).toBe(0);
  expect(cells.take("a")).toBe(-1);
  expect(cells.takeAll()).toEqual([{ name: "c", rank: 5 }]);
  expect(places.map((place) => words[place])).toEqual([CELL_ARBITER, CELL_ARBITER, CELL_ARBITER]);
});

test("who sleeps on a cell is woken when the arbiter takes it", () => {
  const { cells, words, at, woken } = make();
  const place = at(request(cells, "a"));
  cells.take("a");
  expect(woken).toEqual([]);
  cells.free("a");
  cells.take("a");
  expect(woken).toEqual([4 * place]);
  words[place] = CELL_OWNED;
  cells.takeAll();
  cells.takeAll();
  expect(woken).toEqual([4 * place, 4 * place]);
});

test("no two locks share a cell, the first ones no cache line either, and the last ones have none", () => {
  const { cells } = make();
  const given = Array.from({ length: NAMED_CELLS_MAX + 3 }, (_, n) => request(cells, `lock ${n}`));
  expect(given.slice(NAMED_CELLS_MAX)).toEqual([-1, -1, -1]);
  const used = given.slice(0, NAMED_CELLS_MAX);
  expect(new Set(used).size).toBe(NAMED_CELLS_MAX);
  expect(Math.max(...used)).toBe(NAMED_CELLS_MAX - 1);
  const lines = used.map((cell) => Math.floor((cell * NAMED_CELL_SIZE) / 64));
  expect(new Set(lines.slice(0, NAMED_CELLS_MAX / 4)).size).toBe(NAMED_CELLS_MAX / 4);
});
