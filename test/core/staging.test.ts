/** Parts of a publication that a process puts into its staging area, for the arbiter to take from there. */
import { expect, test } from "bun:test";
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import { encode } from "../../src/core/wire/frame.ts";
import { Kind, PublishOp } from "../../src/core/wire/kinds.ts";
import { PUBLISH_PART_MAX, STAGING_SIZE } from "../../src/core/wire/runs.ts";
import { type Channel, Cluster, processHello } from "../support/core-cluster.ts";
import { type Run, runs, viewOf } from "../support/core-frames.ts";

const SIZE = 1 << 16;
const config: SessionConfig = {
  name: "s",
  instance: "0",
  processes: 2,
  size: SIZE,
  base: 0,
  order: "sequential",
  onLoss: "fail",
};

interface Actor {
  channel: Channel;
  heard: string[];
  area: Uint8Array;
  /** Puts the runs at `offset` of the area and tells the arbiter of them. */
  stage(offset: number, list: Run[], tag?: number): void;
  /** The last part. */
  finish(list: Run[], tag?: number): void;
}

/** A process on each of the nodes, in a session that runs. */
function running(
  names: string[],
  onSent?: (sent: () => void) => void,
  shares = true,
): { cluster: Cluster; actors: Actor[] } {
  const areas = new Map<Channel, Uint8Array>();
  const cluster = new Cluster(config, {
    ...(onSent && { onSent }),
    lend: (channel) => (shares ? { staging: areas.get(channel) as Uint8Array } : null),
  });
  for (const name of new Set(names)) cluster.node(name);
  cluster.settle();
  const nodes = [...new Set(names)].map((_, index) => cluster.nodes[index]);
  const actors = names.map((name, process): Actor => {
    const heard: string[] = [];
    const area = new Uint8Array(STAGING_SIZE);
    const node = nodes[[...new Set(names)].indexOf(name)];
    const channel = (node as NonNullable<typeof node>).connect(
      name,
      (frame) => heard.push(`${frame[4]} ${frame[5]} ${viewOf(frame).getUint32(24, true)}`),
      () => heard.push("closed"),
    );
    areas.set(channel, area);
    channel.up.push(processHello("s", process + 1, { processes: 2 }));
    return {
      channel,
      heard,
      area,
      stage: (offset, list, tag = 0) => {
        const body = runs(list);
        area.set(body, offset);
        const frame = { kind: Kind.PUBLISH, op: PublishOp.PART_IN_STAGING, tag, offset, length: body.length } as const;
        channel.up.push(encode(frame));
      },
      finish: (list, tag = 0) => channel.up.push(encode({ kind: Kind.PUBLISH, tag, body: runs(list) })),
    };
  });
  cluster.settle();
  for (const { channel } of actors) channel.up.push(encode({ kind: Kind.MEMORY }));
  cluster.settle();
  for (const { heard } of actors) heard.length = 0;
  return { cluster, actors };
}

const TAKEN = (offset: number): string => `${Kind.TAKEN} 0 ${offset}`;
const DONE = `${Kind.REPLY} 0 0`;

test("they are taken one by one and seen all at once", () => {
  const { cluster, actors } = running(["a", "b"]);
  const [a] = actors as [Actor, Actor];
  const big = new Uint8Array(50_000).fill(5);
  a.stage(0, [[0, big]]);
  cluster.settle();
  expect(a.heard.splice(0)).toEqual([TAKEN(0)]);
  // What was taken is the arbiter's: the area may be used for anything.
  a.area.fill(0xff);
  a.stage(PUBLISH_PART_MAX, [[60_000, Uint8Array.of(1, 2), Uint8Array.of(0x11)]]);
  a.stage(0, [[60_008, 8]]);
  cluster.settle();
  expect(a.heard.splice(0)).toEqual([TAKEN(PUBLISH_PART_MAX), TAKEN(0)]);
  a.area.fill(0xff);
  for (const { memory } of cluster.nodes) expect(memory.every((byte) => byte === 0)).toBe(true);
  a.finish([]);
  cluster.settle();
  expect(a.heard.splice(0)).toEqual([DONE]);
  const expected = new Uint8Array(SIZE);
  expected.set(big);
  expected.set([1, 0, 0, 0, 2, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8], 60_000);
  for (const { memory } of cluster.nodes) expect(Buffer.compare(memory, expected)).toBe(0);
});

test("those of a process that is killed are forgotten, and its place in the area means nothing to the next", () => {
  const { cluster, actors } = running(["a", "b"]);
  const [a, b] = actors as [Actor, Actor];
  for (let part = 0; part < 3; part += 1) a.stage(part % 2 === 0 ? 0 : PUBLISH_PART_MAX, [[part * 9000, 9000]]);
  cluster.settle();
  a.channel.up.end();
  cluster.settle();
  b.finish([[1, 1]]);
  cluster.settle();
  expect(b.heard.splice(0)).toEqual([DONE]);
  const { memory } = cluster.nodes[1] as (typeof cluster.nodes)[1] & object;
  expect([memory[1], memory.filter((byte) => byte !== 0).length]).toEqual([1, 1]);
});

test("a process that publishes more than the map can need is stopped by its arbiter, without effect on others", () => {
  const { cluster, actors } = running(["a", "b"]);
  const [a, b] = actors as [Actor, Actor];
  const full: Run[] = [[0, new Uint8Array(SIZE)]];
  for (let part = 0; part < 40; part += 1) a.stage(0, full);
  cluster.settle();
  expect(a.heard.at(-1)).toBe("closed");
  expect(a.heard.filter((word) => word === TAKEN(0)).length).toBeLessThan(20);
  b.finish([[1, 1]]);
  cluster.settle();
  expect(b.heard).toEqual([DONE]);
});

test("a process is told that one is sent when it has left, and is never further ahead than its area is large", () => {
  const waiting: (() => void)[] = [];
  const { cluster, actors } = running(["a", "b"], (sent) => waiting.push(sent));
  const [a, b] = actors as [Actor, Actor];
  for (let at = 0; at < STAGING_SIZE; at += PUBLISH_PART_MAX) a.stage(at, [[(at / PUBLISH_PART_MAX) * 8, 8]]);
  cluster.settle();
  expect(a.heard).toEqual([]);
  waiting.shift()?.();
  cluster.settle();
  expect(a.heard.splice(0)).toEqual([TAKEN(0)]);
  a.stage(0, [[64, 8]]);
  cluster.settle();
  expect(a.heard).toEqual([]);
  a.stage(0, [[72, 8]]);
  cluster.settle();
  expect(a.heard.map((word) => word.split(" ")[0])).toEqual([String(Kind.FAIL), "closed"]);
  // What leaves only now has no receiver.
  for (const sent of waiting) sent();
  cluster.settle();
  expect(a.heard.length).toBe(2);
  b.finish([[1, 1]]);
  cluster.settle();
  expect(b.heard).toEqual([DONE]);
});

for (const [what, fields] of [
  ["beyond the area", { offset: STAGING_SIZE - 8, length: 16 }],
  ["at no place", { offset: 2 ** 52, length: 16 }],
  ["longer than a part", { length: PUBLISH_PART_MAX + 8 }],
  ["of half a word", { length: 12 }],
  ["of runs that are none", { length: 8 }],
] as const) {
  test(`a part ${what} ends only its process's channel`, () => {
    const { cluster, actors } = running(["a", "b"]);
    const [a, b] = actors as [Actor, Actor];
    a.area.set(runs([[0, 8]]));
    a.channel.up.push(encode({ kind: Kind.PUBLISH, op: PublishOp.PART_IN_STAGING, ...fields }));
    cluster.settle();
    expect(a.heard.map((word) => word.split(" ")[0])).toEqual([String(Kind.FAIL), "closed"]);
    b.finish([[1, 1]]);
    cluster.settle();
    expect(b.heard).toEqual([DONE]);
    expect(cluster.nodes.map(({ fault }) => fault)).toEqual([null, null]);
  });
}

test("where the arbiter can share no memory there is no area, and parts come as they are", () => {
  const { cluster, actors } = running(["a", "b"], undefined, false);
  const [a, b] = actors as [Actor, Actor];
  a.channel.up.push(
    encode({ kind: Kind.PUBLISH, op: PublishOp.PART, body: runs([[0, new Uint8Array(50_000).fill(5)]]) }),
  );
  a.finish([[60_000, 1]]);
  cluster.settle();
  expect(a.heard).toEqual([DONE]);
  for (const { memory } of cluster.nodes) expect([memory[49_999], memory[60_000]]).toEqual([5, 1]);
  b.stage(0, [[0, 8]]);
  cluster.settle();
  expect(b.heard.map((word) => word.split(" ")[0])).toEqual([String(Kind.FAIL), "closed"]);
});

test("in direct mode there are none", () => {
  const { cluster, actors } = running(["a", "a"]);
  const [a] = actors as [Actor, Actor];
  a.stage(0, [[0, 8]]);
  cluster.settle();
  expect(a.heard[0]).toStartWith(`${Kind.FAIL} `);
});

test("those of a process that is leaving are taken from it, and lead nowhere", () => {
  const { cluster, actors } = running(["a", "b"]);
  const [a, b] = actors as [Actor, Actor];
  a.channel.up.push(encode({ kind: Kind.LEAVE, tag: 3 }));
  a.stage(0, [[0, 8]]);
  a.finish([]);
  cluster.settle();
  expect(a.heard).toContain(TAKEN(0));
  expect(b.heard).toEqual([]);
  for (const { memory } of cluster.nodes) expect(memory.every((byte) => byte === 0)).toBe(true);
});
