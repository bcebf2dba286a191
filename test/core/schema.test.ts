/** What is said of a message that is damaged: one line, with the place of the first fault. */
import { describe, expect, test } from "bun:test";
import { FindRequestSchema, RegistrationSchema } from "../../src/core/messages/daemon-api.ts";
import { parseHello } from "../../src/core/messages/node-handshake.ts";
import { parseSavedSession } from "../../src/core/messages/saved-session.ts";
import { check, list, parseMessage, record, sentence, text, whole } from "../../src/core/messages/schema.ts";
import { LOCKS_LISTED_MAX } from "../../src/core/messages/session-state.ts";
import { readDetail, readStatus } from "../../src/core/messages/status-check.ts";
import { parseTraceInfo } from "../../src/core/messages/trace-info.ts";
import { ProtocolError } from "../../src/core/wire/frame.ts";

const config = { name: "s", instance: "1", processes: 2, size: 8192, base: 0x2000_0000_0000 };
const saved = {
  config: { ...config, order: "release", onLoss: "fail" },
  ...{ seq: 1, semaphores: [], blocks: [] },
  locks: [
    { name: "a", died: -1 },
    { name: "b", died: 0 },
  ],
};

const faultOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return (error as Error).message;
  }
  return "none";
};

describe("a fault says where it is and what is wrong", () => {
  test.each([
    ["it is not an object", 7],
    ["config is missing", { ...saved, config: undefined }],
    ["config.name: the session name has a slash; leave it out", { ...saved, config: { ...saved.config, name: "a/b" } }],
    ["config.size is not a number of whole pages", { ...saved, config: { ...saved.config, size: 5000 } }],
    ["seq is -1; it must be a whole number from 0 to 9007199254740991", { ...saved, seq: -1 }],
    ["locks[1].died is missing or not a number", { ...saved, locks: [saved.locks[0], { name: "b", died: "x" }] }],
    ["locks[0].name is missing", { ...saved, locks: [{ died: -1 }] }],
    ["locks is not a list", { ...saved, locks: {} }],
    [
      `locks has ${LOCKS_LISTED_MAX + 1} items; the limit is ${LOCKS_LISTED_MAX}`,
      { ...saved, locks: Array(LOCKS_LISTED_MAX + 1).fill({}) },
    ],
    ["locks has an item at 8192, outside the map", { ...saved, locks: [{ name: "\u0001m2000", died: 0 }] }],
    ["locks[0].name: no lock can lie there", { ...saved, locks: [{ name: "\u0001s40", died: 0 }] }],
    ["rwLocks has an item whose died is 2; the highest is 1", { ...saved, rwLocks: [{ offset: 8, died: 2 }] }],
    [
      "rwLocks has an item whose offset is 8192; the highest is 8191",
      { ...saved, rwLocks: [{ offset: 8192, died: 1 }] },
    ],
    ["locks has two items of one name", { ...saved, locks: [saved.locks[0], saved.locks[0]] }],
    ["locks has an item whose died is 2; the highest is 1", { ...saved, locks: [{ name: "a", died: 2 }] }],
    [
      "blocks has blocks that do not fit the map, or overlap",
      { ...saved, blocks: [{ offset: 1, size: 8192, name: "" }] },
    ],
  ])("%s", (words, value) => {
    const json = JSON.parse(JSON.stringify(value));
    expect(faultOf(() => parseSavedSession(json))).toBe(words);
  });

  test("in a message to a server or a node", () => {
    const schema = record({ deep: record({ items: list(2, record({ at: whole(1, 5) })) }) });
    const parse = (value: unknown): unknown => parseMessage(schema, JSON.stringify(value), "it all");
    expect(parse({ deep: { items: [{ at: 5 }] }, more: 1 })).toEqual({ deep: { items: [{ at: 5 }] } });
    expect(() => parse({ deep: { items: [{ at: 5 }, { at: 6 }] } })).toThrow(
      new ProtocolError("it all is damaged: deep.items[1].at is 6; it must be a whole number from 1 to 5"),
    );
    expect(() => parseMessage(schema, "{", "it all")).toThrow(new ProtocolError("it all is damaged: it is not JSON"));
    expect(() => parseTraceInfo('{"session":"s","time_ms":1,"direct":0,"ranks":[]}')).toThrow(
      new ProtocolError("the beginning of the trace is damaged: direct is not true or false"),
    );
  });

  test("in a request to the daemon, where a sentence of its own stands alone", () => {
    const words = (schema: typeof FindRequestSchema | typeof RegistrationSchema, value: unknown): string => {
      const result = check(schema, value);
      return result.fault === null ? "none" : sentence(result.fault);
    };
    expect(words(FindRequestSchema, {})).toBe("name is missing");
    expect(words(FindRequestSchema, { name: 1 })).toBe("name is missing or not a text");
    expect(words(FindRequestSchema, { name: "a", processes: 0 })).toBe("processes is 0; a session has 1 or more");
    expect(words(FindRequestSchema, { name: "a", order: "weak" })).toStartWith('there is no order "weak"; choose');
    expect(words(FindRequestSchema, { name: "a", after: "x" })).toBe("after is not an instance id of 16 hex digits");
    expect(words(FindRequestSchema, { name: "a", elastic: 1 })).toBe("elastic is not true or false");
    expect(words(RegistrationSchema, { host: "::1", instance: "0".repeat(16), epoch: 0 })).toBe(
      "epoch is 0; it must be a whole number from 1 to 100000",
    );
  });
});

test("a handshake leaves out optional fields without a value, and nothing else", () => {
  const hello = { session: "s", node: "n", processes: 0, size: 0, order: "" as const };
  expect(parseHello(JSON.stringify(hello))).toEqual({
    ...hello,
    ...{ onLoss: "", elastic: false, secret: "", reconnectMs: 0, heartbeatMs: 0, process: "", resume: null },
  });
  const where = {
    instance: "1",
    node: 1,
    seq: 0,
    applied: 0,
    epoch: 1,
    promised: 1,
    whole: true,
    nodes: [],
    joining: false,
  };
  expect(parseHello(JSON.stringify({ ...hello, resume: where })).resume).toEqual(where);
  for (const [field, lies, lack] of [
    ["session", [undefined, 1], "a name"],
    ["node", [undefined, 1], "a name"],
    ["processes", [undefined, "1", 0.5], "a number"],
    ["size", [undefined, -1], "a number"],
    ["order", [undefined, "weak"], "an order"],
    ["onLoss", ["weak", 1], "an answer to losses"],
    ["secret", [1, "x".repeat(65)], "a secret or a process"],
    ["process", [1, "x".repeat(201)], "a secret or a process"],
    ["reconnectMs", [-1, 3_600_001, "1"], "a time to keep its place for"],
    ["heartbeatMs", [1, 99, "1"], "a time to be silent"],
    ["resume", [1, {}, { ...where, nodes: [-1] }, { ...where, whole: 1 }, { ...where, seq: -1 }], "where its node is"],
  ] as [string, unknown[], string][]) {
    for (const lie of lies) {
      expect(() => parseHello(JSON.stringify({ ...hello, [field]: lie }))).toThrow(`the greeting lacks ${lack}`);
    }
  }
  expect(() => parseHello(JSON.stringify({ ...hello, node: "a/b" }))).toThrow("the node name has a slash");
});

describe("the description of a session", () => {
  const status = {
    ...{ instance: "1", epoch: 1, direct: false, started: true, present: 1, entries: 1, bytes: 1 },
    ranks: [
      {
        ...{ rank: 0, node: "n", pid: 1, state: "lock", on: "a", holds: ["b"] },
        ...{ stateMs: 1, entries: 1, bytes: 1, lastWriteMs: null, roundTripUs: 3 },
      },
    ],
    ...{ time_ms: 1, started_ms: 1, barriers: 0, logBytes: 0 },
    ...{ semaphores: [{ name: "s", value: 1, waiters: [0] }], semaphoresLeftOut: 0 },
    ...{ locks: [{ name: "a", owner: null, waiters: [] }], locksLeftOut: 0 },
    objects: [
      { object: "rwlock", offset: 8, holders: [0], isWritten: true, count: 0, waiting: 1, waiters: [0] },
      { object: "barrier", offset: 16, holders: [], isWritten: false, count: 3, waiting: 1, waiters: [0] },
    ],
    objectsLeftOut: 0,
    ...{ blocks: [{ name: "b", offset: 0, size: 8 }], blocksLeftOut: 0 },
    heat: { cell: 64, writers: [-1, 0], writes: [0, 7] },
  };
  const report = {
    ...status,
    ...{ name: "s", phase: "running", order: "release", onLoss: "fail", elastic: false },
    ...{ size: 4096, base: "0x2000", processes: 1, nodes: ["n"] },
  };
  const { base: _, nodes: __, phase: ___, ...known } = report;
  const detail = { ...known, host: "::1", port: 80, pid: 1, spawned: true, answered: true, news: 1 };

  test("is taken as it is, what a later version adds too", () => {
    expect(readStatus({ ...report, news: 1 })).toEqual({ ...report, news: 1 } as never);
    expect(readDetail(detail)).toEqual(detail as never);
  });

  test("and refused if any of it is a lie", () => {
    const lies = [null, -2, 0.5, 2 ** 60, {}, [{}], true, { length: 1 }];
    const replace = (value: unknown, path: string[], lie: unknown): unknown => {
      const [key, ...more] = path;
      if (key === undefined) return lie;
      const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as Record<string, unknown>;
      copy[key] = replace(copy[key], more, lie);
      return copy;
    };
    const paths = (value: unknown, path: string[] = []): string[][] =>
      typeof value !== "object" || value === null
        ? [path]
        : [path, ...Object.entries(value).flatMap(([key, inner]) => paths(inner, [...path, key]))];
    let checked = 0;
    for (const path of paths(status)) {
      const value = path.reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], status);
      for (const lie of lies) {
        const isPossible = typeof lie === typeof value && typeof lie === "boolean";
        const isNull = lie === null && ["lastWriteMs", "roundTripUs", "owner"].includes(path.at(-1) as string);
        if (isPossible || isNull) continue;
        checked += 1;
        expect([path, lie, readStatus(replace(report, path, lie))]).toEqual([path, lie, null]);
        expect([path, lie, readDetail(replace(detail, path, lie))]).toEqual([path, lie, null]);
      }
    }
    expect(checked).toBeGreaterThan(300);
  });
});

test("a text has its limit", () => {
  expect(check(text(3), "abc").fault).toBeNull();
  expect(check(text(3), "abcd").fault).toEqual({ path: "", message: "is longer than 3" });
});
