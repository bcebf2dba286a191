/**
 * An arbiter that cannot call libc, because Bun runs without its JIT: it can send no descriptors and take no locks on files.
 * What works without works; the rest is refused with a reason.
 */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

const environment = { BUN_JSC_useJIT: "0" };
let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

for (const order of ["sequential", "release"]) {
  test(`${order}: holes of whole pages are published, in as many parts as it takes, and others are refused`, async () => {
    const options = { size: "4MiB", environment: { ...environment, DSM_ORDER: order } };
    const [a, b] = (await cluster.actors(["a", "b"], options)) as [Actor, Actor];
    await a.do(`publish 4096 ${3 << 20} 7`);
    await a.do("fence");
    expect(await b.number(`count 4096 ${3 << 20} 7`)).toBe(3 << 20);
    expect(await b.ask("dig 100 5000")).toBe(
      "DSM_SYSTEM this node's arbiter can share no memory with its processes, so holes must begin and end on pages (multiples of 4096)",
    );
    await b.do(`stos 0 ${1 << 20} 9`);
    await b.do("fence");
    expect(await a.number(`count 0 ${1 << 20} 9`)).toBe(1 << 20);
    await Promise.all([a.leave(), b.leave()]);
  });
}

test("the order pipelined is refused", async () => {
  const [session, processes] = [cluster.session(), 1];
  const actor = cluster.actor({
    session,
    processes,
    node: "a",
    environment: { ...environment, DSM_ORDER: "pipelined" },
  });
  expect(await actor.ask("open")).toBe(
    "DSM_SYSTEM an arbiter cannot serve the order pipelined while Bun runs without its JIT; unset BUN_JSC_useJIT",
  );
  expect(await actor.end()).toMatchObject({ code: 0, stderr: "" });
  await cluster.dsm(["remove", session]);
});

test("its map is not taken for one that was left over", async () => {
  const [a] = (await cluster.actors(["a"], { environment })) as [Actor];
  const maps = cluster.maps();
  const [b] = (await cluster.actors(["b"])) as [Actor];
  expect(cluster.maps()).toEqual(expect.arrayContaining(maps));
  await b.leave();
  await a.leave();
});
