/** The shared memory in C, over two nodes: stores of every width, vectors, atomics, threads, pointers, order. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

describe("stores are seen by the other node", () => {
  test("of 1, 2, 4 and 8 bytes, aligned and not, and none writes more than its bytes", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    await a.do("stos 0 8192 0xaa");
    for (const [width, value] of [
      [1, 0x12],
      [2, 0x1234],
      [4, 0x12345678],
      [8, 0x123456789abcd],
    ] as const) {
      // The last one crosses a page.
      for (const offset of [64, 129, 4096 - 1]) {
        await a.do(`store ${width} ${offset} ${value}`);
        expect(await b.number(`load ${width} ${offset}`)).toBe(value);
        expect(await a.number(`peek ${width} ${offset}`)).toBe(value);
        expect(await b.do(`peek 1 ${offset - 1}`)).toBe("170");
        expect(await b.do(`peek 1 ${offset + width}`)).toBe("170");
        await b.do(`stos ${offset} ${width} 0xaa`);
      }
    }
    expect(await a.number("count 0 8192 0xaa")).toBe(8192);
    await Promise.all([a.leave(), b.leave()]);
  });

  test("of vector registers and repeated string instructions", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    for (const width of [16, 32, 64]) {
      for (const offset of [256, 1001, 8192 - 5]) {
        await a.do(`vector ${width} ${offset} ${width}`);
        expect(await b.number(`count ${offset - 8} ${width + 16} ${width}`)).toBe(width);
        await a.do(`vector ${width} ${offset} 0`);
      }
    }
    await b.do("stos 100 10000 7");
    expect(await a.number("count 0 65536 7")).toBe(10_000);
    await a.do("store 1 101 9");
    // Overlapping on purpose: byte by byte upwards, the source of each byte is the byte written before.
    await a.do("movs 20001 20000 5");
    await a.do("movs 30000 100 10000");
    expect(await b.number("count 30000 10000 7")).toBe(9999);
    expect(await b.number("load 1 30001")).toBe(9);
    await Promise.all([a.leave(), b.leave()]);
  });

  test("of several processes on one node, whose replica they share", async () => {
    const [a, b, c] = (await cluster.actors(["a", "a", "c"])) as [Actor, Actor, Actor];
    await a.do("store 8 0 1");
    await b.do("store 8 8 2");
    await c.do("store 8 16 3");
    for (const actor of [a, b, c]) {
      for (const [offset, value] of [
        [0, 1],
        [8, 2],
        [16, 3],
      ]) {
        expect(await actor.number(`load 8 ${offset}`)).toBe(value as number);
      }
    }
    await Promise.all([a.leave(), b.leave(), c.leave()]);
  });

  test("from any thread", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    await a.do("thread store 4 4 44");
    await b.do("thread add 8 5");
    expect(await b.number("thread load 4 4")).toBe(44);
    expect(await a.number("load 8 8")).toBe(5);
    await Promise.all([a.leave(), b.leave()]);
  });
});

test("2 processes on 2 nodes, each adding 50,000 times to one counter, end at 100,000", async () => {
  const said = await cluster.runWell([cluster.program("memory"), "counter", "50000"], {
    session: cluster.session(),
    nodes: ["a", "b"],
  });
  expect(said).toEqual(["100000\n", "100000\n"]);
});

test("and so they do with Atomics.add in TypeScript", async () => {
  const program = join(ROOT, "test/e2e/programs/counter.ts");
  const { code, stdout, stderr } = await cluster.dsm(["run", "-n", "2", "--nodes", "2", "--", program, "50000"]);
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "100000\n100000\n", stderr: "" });
});

test("every atomic operation of every width, by 4 processes on 2 nodes at once", async () => {
  await cluster.runWell([cluster.program("memory"), "atomics"], {
    session: cluster.session(),
    nodes: ["a", "a", "b", "b"],
  });
});

test("several threads of each process store, add and use semaphores at once", async () => {
  await cluster.runWell([cluster.program("memory"), "threads"], { session: cluster.session(), nodes: ["a", "b", "b"] });
});

test("the map has one address in all processes, and pointers into it mean the same", async () => {
  const nodes = ["a", "b", "b", "c"];
  const said = await cluster.runWell([cluster.program("memory"), "pointers"], { session: cluster.session(), nodes });
  expect(said[0]).toMatch(/^0x(?:2[0-9a-f]|55)[0-9a-f]{10}\n$/);
  expect(said).toEqual(nodes.map(() => said[0] as string));
});

test("aligned stores are never seen torn", async () => {
  await cluster.runWell([cluster.program("memory"), "torn"], { session: cluster.session(), nodes: ["a", "a", "b"] });
});

test("what sequential consistency rules out is not seen", async () => {
  await cluster.runWell([cluster.program("memory"), "order"], {
    session: cluster.session(),
    nodes: ["a", "b", "c", "d"],
  });
});
