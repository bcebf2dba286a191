/** What `dsm run` and `dsm node` say to each other, and how it is checked. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { LAUNCH_FRAME_MAX } from "../../src/core/base/limits.ts";
import { Launch, type LaunchFrame, LaunchReader, launchFrame } from "../../src/core/launch/start-frames.ts";
import {
  readNodeHello,
  readNodeOrders,
  readNodeProblem,
  readRankEnd,
  readSignal,
} from "../../src/core/launch/start-messages.ts";
import { ProtocolError } from "../../src/core/wire/frame.ts";

const frame = fc.record({
  kind: fc.constantFrom(...Object.values(Launch)),
  rank: fc.integer({ min: 0, max: 1023 }),
  payload: fc.uint8Array({ maxLength: 200 }),
});

describe("frames", () => {
  test("arrive as they were sent, however the stream is cut", () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 10 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 50 })),
        (sent, cuts) => {
          const stream = Buffer.concat(sent.map(({ kind, rank, payload }) => launchFrame(kind, rank, payload)));
          const reader = new LaunchReader();
          const got: LaunchFrame[] = [];
          for (let at = 0; at < stream.length; ) {
            const end = at + (cuts.next().value as number);
            got.push(...reader.push(stream.subarray(at, end)));
            at = end;
          }
          expect(got).toEqual(sent);
        },
      ),
    );
  });

  test("carry JSON and text", () => {
    const [json, text] = new LaunchReader().push(
      Buffer.concat([launchFrame(Launch.EXIT, 3, { code: 7, signal: null }), launchFrame(Launch.SIGNAL, 0, "SIGINT")]),
    ) as [LaunchFrame, LaunchFrame];
    expect(json.rank).toBe(3);
    expect(JSON.parse(new TextDecoder().decode(json.payload))).toEqual({ code: 7, signal: null });
    expect(new TextDecoder().decode(text.payload)).toBe("SIGINT");
  });

  test.each([
    ["a text", Buffer.from("Welcome to n1!\n")],
    ["one of an unknown kind", Buffer.from([0, 0, 0, 0, 15, 0, 0, 0])],
    ["one of kind 0", Buffer.from([0, 0, 0, 0, 0, 0, 0, 0])],
    ["one that is too large", Buffer.from([1, 0, 0x40, 0, 1, 0, 0, 0])],
  ])("%s is refused", (_, bytes) => {
    expect(() => new LaunchReader().push(bytes)).toThrow("this is not a launch frame");
  });

  test("too large ones are not made", () => {
    expect(() => launchFrame(Launch.STDOUT, 0, new Uint8Array(LAUNCH_FRAME_MAX + 1))).toThrow(RangeError);
  });
});

describe("what a host says is checked:", () => {
  const of = (kind: Launch, content: unknown): LaunchFrame => ({
    ...{ kind, rank: 0 },
    payload: new TextEncoder().encode(JSON.stringify(content)),
  });

  test("as it is when it is good", () => {
    const hello = { version: "0.1.0", connection: "" };
    expect(readNodeHello(of(Launch.HELLO, hello))).toEqual(hello);
    for (const end of [
      { code: 0, signal: null, unseen: false },
      { code: 255, signal: null, unseen: false },
      { code: null, signal: "SIGSEGV", unseen: true },
      { code: null, signal: 34, unseen: false },
    ]) {
      expect(readRankEnd(of(Launch.EXIT, end))).toEqual(end);
    }
    const problem = { message: "there is no program", exitCode: 127 };
    expect(readNodeProblem(of(Launch.PROBLEM, problem))).toEqual(problem);
  });

  test.each([
    [readNodeHello, { version: 1, connection: "" }],
    [readNodeHello, { version: "1" }],
    [readRankEnd, { code: 0, signal: null }],
    [readRankEnd, { code: "0", signal: null, unseen: false }],
    [readRankEnd, { code: 256, signal: null, unseen: false }],
    [readRankEnd, { code: null, signal: null, unseen: false }],
    [readRankEnd, { code: 1, signal: "SIGTERM", unseen: false }],
    [readRankEnd, { code: null, signal: "\u001b[2J", unseen: false }],
    [readRankEnd, { code: null, signal: 1e9, unseen: false }],
    [readNodeProblem, { message: null, exitCode: 1 }],
    [readNodeProblem, { message: "", exitCode: 0 }],
    [readNodeProblem, { message: "", exitCode: 1.5 }],
    [readNodeProblem, null],
    [readNodeProblem, []],
  ] as const)("%p does not take %j", (read, content) => {
    expect(() => read(of(Launch.EXIT, content))).toThrow(ProtocolError);
  });
});

describe("what dsm run says is checked:", () => {
  const orders = {
    ...{ first: 2, count: 2, node: "n1", daemon: "127.0.0.1:4200", token: null, folder: "/tmp" },
    ...{ environment: { A: "1" }, words: ["./x", ""], file: { size: 7 } },
  };
  const of = (content: unknown): LaunchFrame => ({
    ...{ kind: Launch.ORDERS, rank: 0 },
    payload: new TextEncoder().encode(JSON.stringify(content)),
  });

  test("as it is when it is good", () => {
    expect(readNodeOrders(of(orders))).toEqual(orders);
    expect(readNodeOrders(of({ ...orders, file: null, token: "t" }))).toEqual({ ...orders, file: null, token: "t" });
  });

  for (const [field, lies] of [
    ["first", [undefined, -1, 1024, 0.5]],
    ["count", [undefined, 0, 1023, "1"]],
    ["node", [undefined, 1]],
    ["daemon", [undefined, "", "host", 1]],
    ["token", [undefined, 1]],
    ["environment", [undefined, { A: 1 }, "A=1"]],
    ["folder", [undefined, null]],
    ["words", [undefined, [], [1], "./x"]],
    ["file", [undefined, {}, { size: -1 }]],
  ] as [string, unknown[]][]) {
    test(`${field} says where a lie is`, () => {
      for (const lie of lies) {
        expect(() => readNodeOrders(of({ ...orders, [field]: lie }))).toThrow(
          new RegExp(`^what dsm run says \\(frame of kind 2\\) is damaged: ${field}\\b`),
        );
      }
    });
  }

  test("a signal has a name", () => {
    const signal = (text: string): LaunchFrame => ({ kind: Launch.SIGNAL, rank: 0, payload: Buffer.from(text) });
    expect(readSignal(signal("SIGUSR1"))).toBe("SIGUSR1");
    for (const text of ["", "9", "KILL", "SIGX\n", "sigint"])
      expect(() => readSignal(signal(text))).toThrow(ProtocolError);
  });
});
