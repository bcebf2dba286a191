/** "Did you mean": which name is offered for what was typed. */
import { expect, test } from "bun:test";
import { nearest } from "../../src/core/base/nearest.ts";

const NAMES = ["run", "remove", "processes", "nodes", "node", "order", "on-loss", "snapshot", "sessions"];

test.each([
  ["nods", "nodes"],
  ["rnu", "run"],
  ["rn", "run"],
  ["snapshto", "snapshot"],
  ["session", "sessions"],
  ["proc", "processes"],
  ["snap", "snapshot"],
  ["oder", "order"],
  ["onloss", "on-loss"],
  ["proccess", "processes"],
])("%s: did you mean %s?", (word, meant) => {
  expect(nearest(word, NAMES)).toBe(meant);
});

test.each(["", "x", "frobnicate", "--", "help", "abcd", "version"])('"%s" is near nothing', (word) => {
  expect(nearest(word, NAMES)).toBeNull();
});
