/**
 * The wire format, as golden-frames.json has it: a change of it is seen in review, and demands a new PROTOCOL_VERSION. After
 * raising that, `DSM_RECORD=1 bun test test/core/golden-frames.test.ts` writes the file anew. For a new kind add a frame
 * with its fields to the file, `"hex": ""`, and do the same.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Status } from "../../src/core/base/errors.ts";
import { PROTOCOL_VERSION } from "../../src/core/base/limits.ts";
import { FRAMES } from "../../src/core/wire/fields.ts";
import {
  AtomicOp,
  ChangeOp,
  CopyOp,
  Kind,
  NO_TAG,
  ObjectKind,
  PingOp,
  PublishOp,
  StateOp,
  StatusOp,
} from "../../src/core/wire/kinds.ts";
import { JOINED, JOINED_SIZE, PROCESS_HELLO, PROCESS_HELLO_SIZE } from "../../src/core/wire/process-hello.ts";
import { writeMaskedRun, writeRun } from "../../src/core/wire/runs.ts";
import { ShareOp } from "../../src/core/wire/shared-parts.ts";
import { bodyBytes, frameBytes, fromHex, type Golden, readFrame, record, toHex } from "../support/core-golden.ts";

const FILE = join(import.meta.dir, "golden-frames.json");
const CHANGED = "the wire format has changed: raise PROTOCOL_VERSION, then record (see the head of this test)";

const golden = (await Bun.file(FILE).json()) as Golden;

const numbers = {
  ...{ Kind, Status, ObjectKind, AtomicOp, StatusOp, PingOp, ChangeOp, CopyOp, PublishOp, StateOp, ShareOp },
  special: { NO_TAG },
};
const layouts = {
  PROCESS_HELLO: [PROCESS_HELLO, PROCESS_HELLO_SIZE],
  JOINED: [JOINED, JOINED_SIZE],
} as const;

/** Runs of three bytes, and of four bytes in two words. */
function runs(): Record<string, string> {
  const written = (write: (view: DataView) => number): string => {
    const bytes = new Uint8Array(64);
    return toHex(bytes.subarray(0, write(new DataView(bytes.buffer))));
  };
  return {
    plain: written((view) => writeRun(view, 0, 0x1_0000_1003, Uint8Array.of(1, 2, 3))),
    masked: written((view) =>
      writeMaskedRun(view, 0, 0x1008, Uint8Array.of(0b0000_0101, 0b1100_0000), Uint8Array.of(1, 2, 3, 4)),
    ),
  };
}

/** The file as it would be written now. */
function current(): Golden {
  return {
    protocolVersion: PROTOCOL_VERSION,
    numbers,
    frames: golden.frames.map((frame) => readFrame(frame, frameBytes(frame))),
    bodies: Object.fromEntries(
      Object.entries(golden.bodies).map(([name, { fields }]) => {
        const [layout, size] = layouts[name as keyof typeof layouts];
        return [name, { fields, hex: toHex(bodyBytes(layout, size, fields)) }];
      }),
    ),
    runs: runs(),
  };
}

if (process.env.DSM_RECORD === "1") {
  await Bun.write(FILE, `${JSON.stringify(record(golden, current()), null, 2)}\n`);
  throw new Error(`${FILE} is written: format it and look at what changed`);
}

test("the version of the file is that of the protocol", () => {
  expect(golden.protocolVersion, "PROTOCOL_VERSION was raised: record (see the head of this test)").toBe(
    PROTOCOL_VERSION,
  );
});

for (const frame of golden.frames) {
  test(`${frame.name}: from its fields come its bytes, and from its bytes its fields`, () => {
    expect(toHex(frameBytes(frame)), CHANGED).toBe(frame.hex);
    expect(readFrame(frame, fromHex(frame.hex)), CHANGED).toEqual(frame);
  });
}

test("kinds, statuses and operations have their numbers", () => {
  expect(numbers as Golden["numbers"], CHANGED).toEqual(golden.numbers);
});

test("the bodies of a process's HELLO and of the reply to it", () => {
  expect(Object.keys(golden.bodies).sort()).toEqual(Object.keys(layouts).sort());
  for (const [name, [layout]] of Object.entries(layouts)) {
    expect(Object.keys(golden.bodies[name]?.fields ?? {}).sort()).toEqual(Object.keys(layout).sort());
  }
  expect(current().bodies, CHANGED).toEqual(golden.bodies);
});

test("runs", () => {
  expect(runs(), CHANGED).toEqual(golden.runs);
});

test("every kind has a frame, and every field that has a name a value", () => {
  expect(new Set(golden.frames.map(({ kind }) => kind))).toEqual(new Set(Object.keys(Kind) as (keyof typeof Kind)[]));
  const missing = Object.entries(FRAMES).flatMap(([shape, fields]) => {
    const given = golden.frames.filter(({ shapes }) => (shapes as string[]).includes(shape));
    return Object.keys(fields)
      .filter((field) => !given.some((frame) => field in frame.fields))
      .map((field) => `${shape}.${field}`);
  });
  expect(missing).toEqual([]);
});

test("the tables of the README are those of the code", async () => {
  const readme = await Bun.file(join(import.meta.dir, "../../src/core/wire/README.md")).text();
  const rows = [...readme.matchAll(/^\| (.*) \|$/gm)].map(([, cells]) =>
    (cells as string).split(" | ").map((cell) => cell.trim()),
  );
  const inTable = rows.filter(([number, kind]) => /^\d+$/.test(number as string) && (kind as string) in Kind);
  expect(Object.fromEntries(inTable.map(([number, kind]) => [kind, Number(number)]))).toEqual(Kind);
  for (const [, kind, sender, , shapes] of inTable) {
    const used = new Set(golden.frames.filter((frame) => frame.kind === kind).flatMap((frame) => frame.shapes));
    expect([kind, shapes === "—" ? [] : shapes?.split(", ").sort()]).toEqual([kind, [...used].sort()]);
    expect(sender).not.toBe("");
  }
  const places = rows.filter(([shape, ...others]) => others.length === 1 && (shape as string) in FRAMES);
  const described = Object.entries(FRAMES).map(([shape, fields]) => {
    const cells = Object.entries(fields as Record<string, string | { body: number }>).map(([name, place]) => {
      const where = typeof place === "string" ? place : place.body === 0 ? "body" : `body+${place.body}`;
      return `\`${name}\` ${where}`;
    });
    return [shape, cells.join(", ")];
  });
  expect(places).toEqual(described);
});

test("a change is not recorded under the same version", () => {
  const [first, ...others] = golden.frames;
  const changed = { ...golden, frames: [{ ...first!, hex: `${first!.hex}00` }, ...others] };
  expect(() => record(golden, changed)).toThrow("raise PROTOCOL_VERSION");
  const raised = { ...changed, protocolVersion: golden.protocolVersion + 1 };
  expect(record(golden, raised)).toBe(raised);
  expect(record(golden, golden)).toBe(golden);
});
