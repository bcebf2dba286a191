/**
 * Processes in containers that share /dev/shm: process namespaces in which each has process id 1, /tmp private or
 * shared, user namespaces, and pods. All must work, or be refused with a reason. Needs root, or a kernel that lets all
 * make namespaces.
 */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { RING } from "../../src/core/wire/ring-layout.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, eventually, type ProcessOptions } from "../support/e2e-cluster.ts";
import { RingHeader, ringNumber } from "../support/ring-header.ts";

setDefaultTimeout(120_000);

/** A container: its first process, and so each program in it, has process id 1. All of it ends with that. */
const CONTAINER = ["unshare", "-m", "-p", "-f", "--mount-proc", "--kill-child"];
const USER_CONTAINER = ["unshare", "-U", "--map-user=1000", ...CONTAINER.slice(1)];

/** What runs `command` in the container after a shell has prepared it. */
const prepared = (script: string, ...command: string[]): string[] => [
  ...CONTAINER,
  ...["sh", "-c", `${script}; exec "$@"`, "sh"],
  ...command,
];
const works = (command: string[]): boolean => Bun.spawnSync([...command, "true"]).exitCode === 0;
const mayContain = works(CONTAINER);
const mayContainUsers = works(USER_CONTAINER);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const ORDERS = ["sequential", "release", "pipelined"] as const;
/** Bytes at which each of two processes works on what the other does not. */
const SIZE = "4MiB";
const LARGE = 1_500_000;

type Place = { node: string; as: string[]; environment?: Record<string, string> };

/**
 * A process in each of the places, in one session. The first comes first: its container has the arbiter of its node.
 */
async function joined(places: Place[], environment: Record<string, string> = {}): Promise<Actor[]> {
  const session = cluster.session();
  const actors = places.map((place, rank) => actorIn(place, { session, rank, processes: places.length, environment }));
  const opened: Promise<string>[] = [];
  for (const [i, actor] of actors.entries()) {
    opened.push(actor.do("open"));
    if (i < actors.length - 1) await cluster.untilPresent(session, i + 1);
  }
  await Promise.all(opened);
  return actors;
}

function actorIn({ node, as, environment: own }: Place, options: ProcessOptions): Actor {
  const environment = { ...options.environment, ...own };
  return cluster.actor({ size: SIZE, ...options, node, environment }, [...as, cluster.program("actor")]);
}

/** An arbiter ends with its container: those who came first leave last. */
async function leave(actors: Actor[]): Promise<void> {
  for (const actor of actors.toReversed()) await actor.leave();
}

/** Process id, as we see it, of what runs in the container that the actor is. */
async function inner(actor: Actor): Promise<number> {
  const children = (): string => readFileSync(`/proc/${actor.pid}/task/${actor.pid}/children`, "latin1").trim();
  await eventually("the container has a process", () => children() !== "");
  return Number(children());
}

/**
 * Stores, atomics and holes of two processes, all at once: small and large holes, whose first and last pages they
 * share, and what the other stores there meanwhile.
 */
async function work(actors: Actor[], direct: boolean): Promise<void> {
  const [a, b] = actors as [Actor, Actor];
  const from = [100_100, 100_100 + LARGE + 1000];
  await Promise.all(
    actors.map(async (actor, i) => {
      for (let round = 0; round < 50; round += 1) await actor.do("add 0 1");
      await actor.do(`publish ${4200 + 10_000 * i} 9000 ${i + 1}`);
      await actor.do(`publish ${from[i]} ${LARGE} ${i + 1}`);
    }),
  );
  // A hole that covers one page in part: its owner sees what the other stores beside it, and the other nothing of it.
  const hole = await a.do("dig 40000 100");
  await a.do("store 8 40008 11");
  await b.do("store 8 40120 22");
  await b.do("fence");
  await a.do("fence");
  if (!direct) expect([await a.number("load 8 40120"), await b.number("load 8 40008")]).toEqual([22, 0]);
  await a.do(`fill ${hole}`);
  await Promise.all(actors.map((actor) => actor.do("barrier")));
  for (const actor of actors) {
    expect(await actor.number("load 8 0")).toBe(100);
    for (const i of [0, 1]) {
      expect(await actor.number(`count ${4200 + 10_000 * i} 9000 ${i + 1}`)).toBe(9000);
      expect(await actor.number(`count ${from[i]} ${LARGE} ${i + 1}`)).toBe(LARGE);
    }
    expect([await actor.number("load 8 40008"), await actor.number("load 8 40120")]).toEqual([11, 22]);
  }
}

const PRIVATE_TMP = 'mount -t tmpfs -o mode=700 tmpfs "$XDG_RUNTIME_DIR"';
const PRIVATE_SHM = "mount -t tmpfs tmpfs /dev/shm";
const x = (as: string[]): Place => ({ node: "x", as });
const y = (as: string[]): Place => ({ node: "y", as });

describe.skipIf(!mayContain)("two processes", () => {
  for (const order of ORDERS) {
    for (const direct of ["0", "1"]) {
      for (const [where, places, samePids] of [
        ["in two containers, on one node", [x(CONTAINER), x(CONTAINER)], true],
        ["in two containers, each a node", [x(CONTAINER), y(CONTAINER)], true],
        ["of the host and a container, on one node", [x([]), x(CONTAINER)], false],
        ["of a container and the host, on one node", [x(CONTAINER), x([])], false],
        [
          "of pods with /dev/shm and /tmp of their own",
          [x(prepared(`${PRIVATE_SHM}; ${PRIVATE_TMP}`)), y(prepared(`${PRIVATE_SHM}; ${PRIVATE_TMP}`))],
          true,
        ],
        ["of pods with one /dev/shm and a /tmp each", [x(prepared(PRIVATE_TMP)), y(prepared(PRIVATE_TMP))], true],
      ] as const) {
        test(`${where}: ${order} order${direct === "1" ? ", direct mode where it can be" : ""}`, async () => {
          const actors = await joined([...places], { DSM_ORDER: order, DSM_DIRECT: direct });
          const { ranks } = await cluster.status(actors[0]?.session ?? "");
          const pids = new Set(ranks.map(({ pid }) => pid));
          expect(pids.size).toBe(samePids ? 1 : 2);
          await work(actors, direct === "1" && places[0].node === places[1].node);
          await leave(actors);
        });
      }
    }
    test.skipIf(!mayContainUsers)(`of two user namespaces, on one node: ${order} order`, async () => {
      for (const places of [
        [x([]), x(USER_CONTAINER)],
        [x(USER_CONTAINER), x([])],
        [x(USER_CONTAINER), x(USER_CONTAINER)],
      ]) {
        const actors = await joined(places, { DSM_ORDER: order, DSM_DIRECT: "0" });
        await work(actors, false);
        await leave(actors);
      }
    });
  }

  test("the first container, in which their arbiter is, ends when the other has left too", async () => {
    const [a, b] = (await joined([x(CONTAINER), x(CONTAINER)], { DSM_DIRECT: "0" })) as [Actor, Actor];
    // With its process the container would end, and the arbiter.
    const ended = a.leave();
    await cluster.untilState(a.session, 0, "left");
    await b.do("store 8 0 5");
    await b.do("fence");
    await b.leave();
    await ended;
  });

  test("of one process id: one that dies with the ring's lock does not hold up the other", async () => {
    const actors = await joined([x(CONTAINER), x(CONTAINER), y([])], { DSM_ORDER: "pipelined" });
    const [a, b, c] = actors as [Actor, Actor, Actor];
    using ring = new RingHeader(cluster.daemonAddress, a.session, "x", 4 << 20);
    const number = ringNumber(await inner(b));
    for (const actor of actors) await actor.do("fence");
    // No process stores, and the rest is as if it had died in the middle of a store.
    ring.set(RING.lock, number);
    b.kill("SIGKILL");
    await b.end();
    expect(await a.ask("barrier")).toMatch(/^DSM_LOST process 1 /);
    await c.do("store 8 4096 5");
    await c.do("fence");
    await a.do("store 8 8192 6");
    await a.do("fence");
    await c.do("fence");
    expect([await a.number("load 8 4096"), await c.number("load 8 8192")]).toEqual([5, 6]);
    await leave([a, c]);
  });
});

describe.skipIf(!mayContain)("a second process of a node is refused with a reason", () => {
  const TWO_ARBITERS =
    /^DSM_(REFUSED|AGAIN) node "x" is in session "\w+" already[^\n]*; (set DSM_NODE to another name, or let containers of one node share \/dev\/shm and \/tmp \(or XDG_RUNTIME_DIR\)|give all processes the same XDG_RUNTIME_DIR \(containers share it, or \/tmp\), or set DSM_NODE to another name)$/;

  for (const order of ORDERS) {
    for (const direct of ["0", "1"]) {
      test(`with a /tmp of its own: ${order} order, DSM_DIRECT=${direct}`, async () => {
        const environment = { DSM_ORDER: order, DSM_DIRECT: direct };
        const session = cluster.session();
        const options = { session, processes: 2, environment };
        const a = actorIn(x(CONTAINER), options);
        const opened = a.do("open");
        await cluster.untilPresent(session, 1);
        const b = actorIn(x(prepared(PRIVATE_TMP)), options);
        expect(await b.ask("open")).toMatch(TWO_ARBITERS);
        expect(await b.end()).toMatchObject({ code: 0, stderr: "" });
        // The first is none the worse for it.
        const c = actorIn(x(CONTAINER), options);
        await Promise.all([opened, c.do("open")]);
        await work([a, c], direct === "1");
        await leave([a, c]);
      });
    }
  }

  test("with a /tmp of its own, in a session that runs in direct mode", async () => {
    const session = cluster.session();
    const options = { session, processes: 1, environment: { DSM_ELASTIC: "1" } };
    const a = actorIn(x(CONTAINER), options);
    await a.do("open");
    const b = actorIn(x(prepared(PRIVATE_TMP)), options);
    expect(await b.ask("open")).toMatch(TWO_ARBITERS);
    expect(await b.end()).toMatchObject({ code: 0, stderr: "" });
    await a.do("store 8 0 1");
    await a.leave();
  });

  test("with a /dev/shm of its own", async () => {
    const session = cluster.session();
    const options = { session, processes: 2 };
    const a = actorIn(x(CONTAINER), options);
    const opened = a.ask("open");
    await cluster.untilPresent(session, 1);
    const b = actorIn(x(prepared(PRIVATE_SHM)), options);
    expect(await b.ask("open")).toBe(
      "DSM_SYSTEM the map of node \"x\" is not in this process's /dev/shm; share /dev/shm with the node's other processes, or set DSM_NODE to another name",
    );
    expect(await b.end()).toMatchObject({ code: 0, stderr: "" });
    expect(await opened).toMatch(/^ok/);
    expect(await a.ask("barrier")).toMatch(/^DSM_LOST process 1 /);
    await a.leave();
  });
});

describe.skipIf(!mayContain)("files in a shared /dev/shm", () => {
  test("of a session that runs stay when one begins in another container, and go when all of theirs was killed", async () => {
    const options = {
      session: cluster.session(),
      processes: 1,
      environment: { DSM_ELASTIC: "1", DSM_ON_LOSS: "continue" },
    };
    const a = actorIn(x(CONTAINER), options);
    await a.do("open");
    await a.do("store 8 0 4711");
    const [map] = cluster.maps();
    const [b] = (await joined([y(CONTAINER)])) as [Actor];
    expect(cluster.maps()).toContain(map as string);
    expect(cluster.maps()).toHaveLength(2);
    const second = actorIn(x(CONTAINER), { ...options, rank: 1 });
    await second.do("open");
    expect(await second.number("load 8 0")).toBe(4711);
    await second.leave();
    // All of its container ends at once, the arbiter too, which has no time to remove anything.
    process.kill(cluster.arbiter(options.session, "x"), "SIGSTOP");
    a.kill("SIGKILL");
    await a.end();
    await eventually("its arbiter has ended", () => cluster.processes("arbiter", options.session).length === 0);
    expect(cluster.maps()).toContain(map as string);
    const [c] = (await joined([x([])])) as [Actor];
    expect(cluster.maps()).not.toContain(map as string);
    await b.leave();
    await c.leave();
    await cluster.dsm(["remove", options.session]);
  });
});
