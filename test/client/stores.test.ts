/** Every way to store through a view is seen, byte for byte, by a process on another node. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster, type Puppet } from "./cluster.ts";
import { AREA_SIZE, ARRAY_TYPES, FAMILIES, type Family } from "./fixtures/stores.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(180_000);

let cluster: Cluster;

beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.endPuppets());
afterAll(() => cluster[Symbol.asyncDispose]());

const bytesAtBarrier = (puppet: Puppet): Promise<Uint8Array> =>
  puppet.run(async ({ session, load }) => {
    await session.barrier();
    const { AREA_SIZE } = await load("stores.ts");
    const bytes = new Uint8Array(session.buffer.slice(0, AREA_SIZE));
    await session.barrier();
    return bytes;
  });

/** The first word in the name of a case of typed arrays or atomics is a type; of some others it is not. */
const typeOf = (name: string): string => {
  const [word = ""] = name.split(" ");
  return ARRAY_TYPES.some((type) => type.name === word) ? word : "other views";
};

/** The first process stores, the second, on another node, only looks. With `type`: only the cases of that type. */
async function compareWithPlainMemory(
  family: Family,
  environment: Record<string, string>,
  type?: string,
): Promise<void> {
  const [writer, reader] = (await cluster.join({ processes: 2, nodes: 2, environment })) as [Puppet, Puppet];
  const plain = new ArrayBuffer(AREA_SIZE);
  for (const [index, { name, run }] of FAMILIES[family]().entries()) {
    if (type !== undefined && typeOf(name) !== type) continue;
    const expected = run(plain);
    const got = await writer.run(
      async ({ session, load }, family, index) =>
        (await load("stores.ts")).FAMILIES[family]()[index].run(session.buffer),
      family,
      index,
    );
    const [here, there] = await Promise.all([bytesAtBarrier(writer), bytesAtBarrier(reader)]);
    expect({ name, got }).toEqual({ name, got: expected });
    const bytes = new Uint8Array(plain);
    expect({ name, difference: firstDifference(here, bytes) }).toEqual({ name, difference: null });
    expect({ name, difference: firstDifference(there, bytes) }).toEqual({ name, difference: null });
  }
}

function firstDifference(got: Uint8Array, expected: Uint8Array): object | null {
  const offset = expected.findIndex((byte, index) => got[index] !== byte);
  return offset < 0 ? null : { offset, got: got[offset], expected: expected[offset] };
}

describe.each([
  ["JIT-compiled and interpreted", {}],
  ["interpreted only", { BUN_JSC_useJIT: "0" }],
])("%s", (_, environment) => {
  // A test for each type: each store waits for its place in the order, and there are thousands.
  for (const [family, what] of [
    ["typedArrays", "typed arrays"],
    ["atomics", "Atomics"],
  ] as const) {
    const types = new Set(FAMILIES[family]().map(({ name }) => typeOf(name)));
    test.each([...types])(`${what}: %s`, (type) => compareWithPlainMemory(family, environment, type));
  }
  test("DataView setters", () => compareWithPlainMemory("dataViews", environment));
});

test("Atomics.add is atomic across nodes", async () => {
  const puppets = await cluster.join({ processes: 2, nodes: 2 });
  await Promise.all(
    puppets.map((puppet) =>
      puppet.run(({ session }) => {
        const counter = session.view(Int32Array, 0, 1);
        for (let i = 0; i < 3000; i += 1) Atomics.add(counter, 0, 1);
      }),
    ),
  );
  const counters = await Promise.all(
    puppets.map((puppet) =>
      puppet.run(async ({ session }) => {
        await session.barrier();
        return session.view(Int32Array, 0, 1)[0];
      }),
    ),
  );
  expect(counters).toEqual([6000, 6000]);
});
