/** A welcome is taken whole or not at all, whatever part of it lies. */
import { describe, expect, test } from "bun:test";
import { ADDRESS_FIRST, ADDRESS_STRIDE } from "../../src/core/limits.ts";
import { MapBytes } from "../../src/core/memory.ts";
import { encode, encodeText, Kind, ProtocolError } from "../../src/core/protocol.ts";
import type { NodeHello, Welcome } from "../../src/core/sequencer.ts";
import { Session } from "../../src/core/session.ts";
import { parseWelcome } from "../../src/core/welcome.ts";

const SIZE = 8192;
const hello: NodeHello = {
  ...{ session: "s", node: "n", processes: 0, size: 0, order: "", onLoss: "" },
  ...{ secret: "", reconnectMs: 0, heartbeatMs: 0, process: "", resume: null },
};
const effects = { watching: false, wrote() {}, complete() {}, ranked() {}, gone() {}, ended() {} };

/** A session with something of everything in it, as its server would send it. */
function welcome(): Welcome {
  const config = { name: "s", instance: "0123456789abcdef", processes: 3, size: SIZE, base: ADDRESS_FIRST };
  const session = new Session(
    { ...config, order: "sequential", onLoss: "fail" },
    new MapBytes(new Uint8Array(SIZE)),
    effects,
  );
  const apply = (frame: Parameters<typeof encode>[0]): void => {
    session.apply(new DataView(encode(frame).buffer), 0);
  };
  for (let rank = 0; rank < 3; rank += 1) {
    apply({ kind: Kind.JOIN, node: 1 + rank, tag: rank, offset: 100 + rank, body: encodeText("n") });
  }
  apply({ kind: Kind.SEM_WAIT, node: 1, tag: 7, rank: 0, body: encodeText("turn") });
  apply({ kind: Kind.SLEEP, node: 2, tag: 8, rank: 1, offset: 8, length: 8, body: new Uint8Array(8) });
  apply({ kind: Kind.ALLOC, node: 3, tag: 9, rank: 2, offset: 100, aux: 8 });
  apply({ kind: Kind.NAMED, node: 3, tag: 9, rank: 2, offset: 100, aux: 64, body: encodeText("grid") });
  apply({ kind: Kind.BARRIER, node: 3, tag: 10, rank: 2 });
  apply({ kind: Kind.LEAVE, op: 0, node: 3, tag: 11, rank: 2 });
  apply({ kind: Kind.JOIN, node: 3, tag: 12, offset: 103, body: encodeText("n") });
  return { node: 4, snapshot: session.snapshot(), epoch: 1, starts: [0], base: 0 };
}

test("what a server sends is taken as it is", () => {
  const sent = welcome();
  const { semaphores, sleepers, blocks, waitingJoins, processes } = sent.snapshot;
  const counts = [semaphores, sleepers, blocks, waitingJoins, processes].map(({ length }) => length);
  expect(counts).toEqual([1, 1, 2, 1, 3]);
  expect(parseWelcome(JSON.stringify(sent), hello)).toEqual(sent);
});

type Path = (string | number)[];

/** Paths of all values that are not objects, the arrays and objects themselves included. */
function paths(value: unknown, path: Path = []): Path[] {
  if (typeof value !== "object" || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, inner]) => paths(inner, [...path, key]))];
}

function replaced(path: Path, lie: unknown): string {
  if (path.length === 0) return JSON.stringify(lie) ?? "";
  const copy = structuredClone(welcome()) as unknown as Record<string, unknown>;
  let at = copy;
  for (const key of path.slice(0, -1)) at = at[key] as Record<string, unknown>;
  at[path.at(-1) as string] = lie;
  return JSON.stringify(copy);
}

describe("a lie in its place is found:", () => {
  for (const path of paths(welcome())) {
    test(path.join(".") || "all of it", () => {
      for (const lie of [undefined, null, -2, 0.5, 2 ** 60, {}, "\u0007", true]) {
        const value = path.reduce<unknown>((at, key) => (at as Record<string, unknown>)[key as string], welcome());
        // Both are possible there.
        if (lie === true && typeof value === "boolean") continue;
        if (path.at(-1) === "nodeName" && typeof lie === "string") continue;
        const text = replaced(path, lie);
        expect(() => parseWelcome(text, hello)).toThrow(ProtocolError);
      }
    });
  }

  for (const [what, path, lie] of [
    ["another session", ["snapshot", "config", "name"], "t"],
    ["half a page", ["snapshot", "config", "size"], 6000],
    ["a map larger than any", ["snapshot", "config", "size"], 2 ** 33],
    ["a base between two slots", ["snapshot", "config", "base"], ADDRESS_FIRST + 4096],
    ["a base beyond the last slot", ["snapshot", "config", "base"], ADDRESS_FIRST + 512 * ADDRESS_STRIDE],
    ["a rank too high", ["snapshot", "processes", 0, "rank"], 3],
    ["more processes than there are", ["snapshot", "processes"], Array(4).fill({})],
    ["a block across the end", ["snapshot", "blocks", 1, "size"], SIZE],
    ["blocks over each other", ["snapshot", "blocks", 1, "offset"], 8],
    ["a sleeper outside", ["snapshot", "sleepers", 0, "offset"], SIZE],
  ] as [string, Path, unknown][]) {
    test(what, () => {
      expect(() => parseWelcome(replaced(path, lie), hello)).toThrow(ProtocolError);
    });
  }

  test("no JSON", () => {
    for (const text of ["", "{", "[]", "7", "null"]) expect(() => parseWelcome(text, hello)).toThrow(ProtocolError);
  });
});
