/**
 * What is generated from the tables of src/core/wire: at.ts, the places of all fields by name, for TypeScript, and
 * native/src/link/wire.h for C. Both are committed, so that the sources can be read and compiled as they are; `--check` fails
 * when one is stale.
 */
import { join } from "node:path";
import {
  ADDRESS_FIRST,
  ADDRESS_NARROW_FIRST,
  ADDRESS_NARROW_SLOTS,
  ADDRESS_NARROW_STRIDE,
  ADDRESS_STRIDE,
  ADDRESS_WIDE_SLOTS,
  BLOCKS_MAX,
  FRAME_MAX,
  PROTOCOL_VERSION,
} from "../src/core/base/limits.ts";
import {
  BARRIER_CELL_AT,
  BARRIER_COUNT_BITS,
  BARRIER_GIVEN,
  BARRIER_MARKS_AT,
  BARRIER_PHASE,
  BARRIER_SLEEPERS,
  CELL_ARBITER,
  CELL_FREE,
  CELL_KEPT,
  CELL_OWNED,
  CELL_SLEEPERS,
  CELL_STARVING,
  CELL_STATE,
  CELLS_SIZE,
  LOCK_CELLS_AT,
  NAMED_CELL_SIZE,
  NAMED_CELLS_MAX,
  OPEN_UNTIL_AT,
  SEMAPHORE_CELL_GIVEN,
  SEMAPHORE_CELL_SLEEPERS,
  SEMAPHORE_CELL_STEP,
  SEMAPHORE_CELL_VALUE_MAX,
  SEMAPHORE_CELLS_AT,
} from "../src/core/wire/cell-layout.ts";
import { FRAMES, HEADER, HEADER_SIZE, placeOf } from "../src/core/wire/fields.ts";
import { MAGIC_HIGH, MAGIC_LOW } from "../src/core/wire/handshake.ts";
import { ChangeOp, Kind, NO_TAG, ObjectKind, PublishOp } from "../src/core/wire/kinds.ts";
import { JOINED, JOINED_SIZE, PROCESS_HELLO, PROCESS_HELLO_SIZE } from "../src/core/wire/process-hello.ts";
import {
  RING,
  RING_ARBITER,
  RING_HEADER_SIZE,
  RING_RECORD_MAX,
  RING_SIZE,
  RING_WRAP,
} from "../src/core/wire/ring-layout.ts";
import {
  PUBLISH_PART_MAX,
  RUN_BYTES_BITS,
  RUN_DENSE,
  RUN_LENGTH_MAX,
  RUN_MASKED,
  RUN_WORDS_MAX,
  STAGING_SIZE,
} from "../src/core/wire/runs.ts";
import { BuildError, replaceFile, root, runScript } from "./steps.ts";

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const capitalized = (name: string): string => `${name[0]?.toUpperCase()}${name.slice(1)}`;

/** src/core/wire/at.ts. Values are literals, which the engine reads as fast as numbers in the code. */
export function fieldPlaces(): string {
  const lines = [
    "/**",
    " * Where each field begins in its frame, by name. Generated from fields.ts by scripts/wire.ts: do not edit.",
    " */",
    `export const HEADER_SIZE = ${HEADER_SIZE};`,
    "",
    "/** Fields of the header, by the names they have in every frame. */",
  ];
  const object = (name: string, places: Record<string, number>): void => {
    const one = `export const ${name} = { ${Object.entries(places)
      .map(([field, place]) => `${field}: ${place}`)
      .join(", ")} } as const;`;
    if (one.length <= 120) lines.push(one);
    else {
      lines.push(`export const ${name} = {`);
      for (const [field, place] of Object.entries(places)) lines.push(`  ${field}: ${place},`);
      lines.push("} as const;");
    }
  };
  object("At", Object.fromEntries(Object.entries(HEADER).map(([name, [offset]]) => [name, offset])));
  lines.push("", "/** The same in words of 4 bytes, for loops over a Uint32Array. */");
  const words = Object.entries(HEADER).flatMap(([name, [offset, bytes]]) => {
    if (offset % 4 !== 0) return [];
    const first: [string, number] = [name, offset / 4];
    return bytes === 8 ? [first, [`${name}High`, offset / 4 + 1] as [string, number]] : [first];
  });
  object("WordAt", Object.fromEntries(words));
  lines.push("");
  for (const [frame, fields] of Object.entries(FRAMES)) {
    const places = Object.entries(fields).map(([field, place]) => [field, placeOf(place)] as const);
    object(`${capitalized(frame)}At`, Object.fromEntries(places));
  }
  lines.push("");
  return lines.join("\n");
}

/** The names of the header's fields in C: each its own, then those that kinds give it. All are members of one struct. */
function namesInC(): Map<string, string[]> {
  const fieldOf = new Map<string, string>();
  const add = (name: string, field: string): void => {
    if ((fieldOf.get(name) ?? field) !== field) {
      throw new BuildError(
        `src/core/wire/fields.ts: "${name}" is the name of two fields of the header; choose another`,
      );
    }
    fieldOf.set(name, field);
  };
  for (const field of Object.keys(HEADER)) add(field, field);
  for (const fields of Object.values(FRAMES)) {
    for (const [name, place] of Object.entries(fields)) if (typeof place === "string") add(snakeCase(name), place);
  }
  return Map.groupBy(fieldOf.keys(), (name) => fieldOf.get(name) as string);
}

/** native/src/link/wire.h. */
export function wireHeader(): string {
  const lines = [
    "/* Frame layouts. Generated from the tables of src/core/wire by scripts/wire.ts: do not edit. */",
    "#ifndef DSM_WIRE_H",
    "#define DSM_WIRE_H",
    "",
    "#include <stddef.h>",
    "#include <stdint.h>",
    "",
    `#define WIRE_VERSION ${PROTOCOL_VERSION}u`,
    `#define WIRE_MAGIC 0x${MAGIC_HIGH.toString(16).padStart(8, "0")}${MAGIC_LOW.toString(16).padStart(8, "0")}ull`,
    `#define WIRE_FRAME_MAX ${FRAME_MAX}u`,
    `#define WIRE_PUBLISH_PART_MAX ${PUBLISH_PART_MAX}u`,
    `#define WIRE_RUN_LENGTH_MAX ${RUN_LENGTH_MAX}u`,
    `#define WIRE_RUN_MASKED ${RUN_MASKED}u`,
    `#define WIRE_RUN_DENSE ${RUN_DENSE}u`,
    `#define WIRE_RUN_WORDS_MAX ${RUN_WORDS_MAX}u`,
    `#define WIRE_RUN_BYTES_BITS ${RUN_BYTES_BITS}u`,
    `#define WIRE_STAGING_SIZE ${STAGING_SIZE}u`,
    `#define WIRE_NO_TAG ${NO_TAG}u`,
    `#define WIRE_BLOCKS_MAX ${BLOCKS_MAX}u`,
    `#define WIRE_CELLS_SIZE ${CELLS_SIZE}u`,
    `#define WIRE_BARRIER_CELL_AT ${BARRIER_CELL_AT}u`,
    `#define WIRE_BARRIER_MARKS_AT ${BARRIER_MARKS_AT}u`,
    `#define WIRE_BARRIER_GIVEN ${BARRIER_GIVEN}u`,
    `#define WIRE_BARRIER_PHASE ${BARRIER_PHASE}u`,
    `#define WIRE_BARRIER_COUNT_BITS ${BARRIER_COUNT_BITS}u`,
    `#define WIRE_BARRIER_SLEEPERS ${BARRIER_SLEEPERS}u`,
    `#define WIRE_OPEN_UNTIL_AT ${OPEN_UNTIL_AT}u`,
    `#define WIRE_LOCK_CELLS_AT ${LOCK_CELLS_AT}u`,
    `#define WIRE_SEMAPHORE_CELLS_AT ${SEMAPHORE_CELLS_AT}u`,
    `#define WIRE_NAMED_CELLS_MAX ${NAMED_CELLS_MAX}u`,
    `#define WIRE_NAMED_CELL_SIZE ${NAMED_CELL_SIZE}u`,
    `#define WIRE_CELL_ARBITER ${CELL_ARBITER}u`,
    `#define WIRE_CELL_FREE ${CELL_FREE}u`,
    `#define WIRE_CELL_KEPT ${CELL_KEPT}u`,
    `#define WIRE_CELL_OWNED ${CELL_OWNED}u`,
    `#define WIRE_CELL_STATE 0x${CELL_STATE.toString(16)}u`,
    `#define WIRE_CELL_STARVING 0x${CELL_STARVING.toString(16)}u`,
    `#define WIRE_CELL_SLEEPERS 0x${CELL_SLEEPERS.toString(16)}u`,
    `#define WIRE_SEMAPHORE_CELL_GIVEN ${SEMAPHORE_CELL_GIVEN}u`,
    `#define WIRE_SEMAPHORE_CELL_SLEEPERS ${SEMAPHORE_CELL_SLEEPERS}u`,
    `#define WIRE_SEMAPHORE_CELL_STEP ${SEMAPHORE_CELL_STEP}u`,
    `#define WIRE_SEMAPHORE_CELL_VALUE_MAX ${SEMAPHORE_CELL_VALUE_MAX}u`,
    `#define WIRE_RING_HEADER_SIZE ${RING_HEADER_SIZE}u`,
    `#define WIRE_RING_SIZE ${RING_SIZE}u`,
    `#define WIRE_RING_RECORD_MAX ${RING_RECORD_MAX}u`,
    `#define WIRE_RING_WRAP ${RING_WRAP}u`,
    `#define WIRE_RING_ARBITER ${RING_ARBITER}u`,
    ...Object.entries(RING).map(([name, [offset]]) => `#define WIRE_RING_${name.toUpperCase()} ${offset}u`),
    `#define WIRE_ADDRESS_FIRST 0x${ADDRESS_FIRST.toString(16)}ull`,
    `#define WIRE_ADDRESS_STRIDE 0x${ADDRESS_STRIDE.toString(16)}ull`,
    `#define WIRE_ADDRESS_SLOTS ${ADDRESS_WIDE_SLOTS}u`,
    `#define WIRE_ADDRESS_NARROW_FIRST 0x${ADDRESS_NARROW_FIRST.toString(16)}ull`,
    `#define WIRE_ADDRESS_NARROW_STRIDE 0x${ADDRESS_NARROW_STRIDE.toString(16)}ull`,
    `#define WIRE_ADDRESS_NARROW_SLOTS ${ADDRESS_NARROW_SLOTS}u`,
    "",
  ];
  const numbers = (type: string, prefix: string, values: Record<string, number>): void => {
    lines.push(`enum ${type} {`);
    for (const [name, value] of Object.entries(values)) lines.push(`  ${prefix}${name} = ${value},`);
    lines.push("};", "");
  };
  numbers("wire_kind", "WIRE_", Kind);
  numbers("wire_object_kind", "WIRE_OBJECT_", ObjectKind);
  numbers("wire_publish_op", "WIRE_PUBLISH_", PublishOp);
  numbers("wire_change_op", "WIRE_CHANGE_", ChangeOp);
  type Fields = Record<string, readonly [number, number]>;
  const struct = (name: string, fields: Fields, size: number, namesOf: (field: string) => string[]): void => {
    const type = (bytes: number): string => (bytes > 8 ? "char" : `uint${bytes * 8}_t`);
    lines.push(`struct wire_${name} {`);
    for (const [field, [, bytes]] of Object.entries(fields)) {
      const names = namesOf(field);
      const array = bytes > 8 ? `[${bytes}]` : "";
      if (names.length === 1) lines.push(`  ${type(bytes)} ${names[0]}${array};`);
      else {
        lines.push("  union {");
        for (const one of names) lines.push(`    ${type(bytes)} ${one}${array};`);
        lines.push("  };");
      }
    }
    lines.push("};");
    for (const [field, [offset]] of Object.entries(fields)) {
      for (const one of namesOf(field)) {
        lines.push(`_Static_assert(offsetof(struct wire_${name}, ${one}) == ${offset}, "${name}.${one}");`);
      }
    }
    lines.push(`_Static_assert(sizeof(struct wire_${name}) == ${size}, "${name}");`, "");
  };
  lines.push("/* A field of the header has several names: its own, and those that kinds of frames give it. */");
  const names = namesInC();
  struct("header", HEADER, HEADER_SIZE, (field) => names.get(field) ?? []);
  struct("process_hello", PROCESS_HELLO, PROCESS_HELLO_SIZE, (field) => [snakeCase(field)]);
  struct("joined", JOINED, JOINED_SIZE, (field) => [snakeCase(field)]);
  lines.push("#endif", "");
  return lines.join("\n");
}

const GENERATED: readonly { path: string; content: () => string }[] = [
  { path: join(root, "src/core/wire/at.ts"), content: fieldPlaces },
  { path: join(root, "native/src/link/wire.h"), content: wireHeader },
];

async function isFresh({ path, content }: (typeof GENERATED)[number]): Promise<boolean> {
  const file = Bun.file(path);
  return (await file.exists()) && (await file.text()) === content();
}

/** Whether what is generated is what the tables say. */
export async function wireIsFresh(): Promise<boolean> {
  return (await Promise.all(GENERATED.map(isFresh))).every((fresh) => fresh);
}

/** Writes what is stale. */
export async function writeWire(): Promise<void> {
  for (const one of GENERATED) if (!(await isFresh(one))) await replaceFile(one.path, one.content());
}

if (import.meta.main) {
  await runScript(async () => {
    if (!process.argv.includes("--check")) return writeWire();
    if (!(await wireIsFresh())) {
      throw new BuildError(
        "src/core/wire/at.ts or native/src/link/wire.h is stale: run `npm run build` and commit it.",
      );
    }
  });
}
