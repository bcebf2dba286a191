/** Succession as a protocol: which server is started when, whatever happens meanwhile. No process and no socket is real. */
import { describe, expect, test } from "bun:test";
import { DsmError } from "../../src/core/base/errors.ts";
import { EPOCH_MAX } from "../../src/core/base/limits.ts";
import type { SuccessionRequest } from "../../src/core/messages/daemon-api.ts";
import { InstanceHistory } from "../../src/daemon/instance-history.ts";
import type { LaunchRequest } from "../../src/daemon/server-launch.ts";
import type { ServerState } from "../../src/daemon/server-probe.ts";
import type { SessionRecord } from "../../src/daemon/session-record.ts";
import type { SpawnedServer } from "../../src/daemon/spawn.ts";
import { Succession } from "../../src/daemon/succession.ts";

const facts = {
  ...{ name: "s", instance: "00000000000000aa", slot: 7, processes: 2, size: 4096 },
  ...{ order: "sequential" as const, onLoss: "continue" as const, elastic: false },
};
const request: SuccessionRequest = { ...facts, epoch: 1, host: "127.0.0.1", port: 1001 };

interface Probe {
  host: string;
  port: number;
  answer(state: ServerState): void;
}

/** Lets everything happen that waits for nothing but itself. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

class World {
  record: SessionRecord | undefined;
  readonly history = new InstanceHistory();
  readonly probes: Probe[] = [];
  readonly launches: LaunchRequest[] = [];
  /** Thrown by the next launch. */
  refusal: DsmError | null = null;
  readonly killed: string[] = [];
  readonly succession = new Succession({
    record: () => this.record,
    hasEnded: (instance) => this.history.hasEnded(instance),
    newestEpoch: (instance) => this.history.newestEpoch(instance),
    probe: (host, port) => {
      const { promise, resolve } = Promise.withResolvers<ServerState>();
      this.probes.push({ host, port, answer: resolve });
      return promise;
    },
    replace: (record, launch) => {
      expect(record).toBe(this.record);
      if (this.refusal !== null) throw this.refusal;
      this.launches.push(launch);
      this.record = this.starting(launch.epoch, this.spawned(Promise.withResolvers<string>()));
      this.history.sawEpoch(launch.instance, launch.epoch);
      return this.record;
    },
  });

  spawned({ promise, resolve }: PromiseWithResolvers<string>): SpawnedServer {
    const kill = (signal: string): void => {
      this.killed.push(signal);
      resolve("it was ended");
    };
    return { pid: 5, ended: promise, kill };
  }

  starting(epoch: number, server: SpawnedServer | null): SessionRecord {
    const registered = Promise.withResolvers<void>();
    registered.promise.catch(() => {});
    return {
      ...{ ...facts, epoch, server, host: "", port: 0, pid: 5, mark: null, peer: "", registered },
      ...{ running: false, orphaned: null },
    };
  }

  running(epoch: number, server: SpawnedServer | null = null, port = 1001): SessionRecord {
    const record = this.starting(epoch, server);
    register(record, port);
    return record;
  }

  ask(change: Partial<SuccessionRequest> = {}): Promise<unknown> {
    return this.succession.findOrStartSuccessor({ ...request, ...change });
  }

  probe(number: number): Probe {
    return this.probes[number] as Probe;
  }
}

function register(record: SessionRecord, port: number): void {
  Object.assign(record, { host: "127.0.0.1", port, running: true, orphaned: null });
  record.registered.resolve();
}

function orphan(record: SessionRecord): void {
  Object.assign(record, { running: false, orphaned: Promise.withResolvers<void>() });
}

/** What a request comes to, or null while it waits. */
function outcome(asked: Promise<unknown>): () => unknown {
  let found: unknown = null;
  asked.then(
    (value) => {
      found = value;
    },
    (error: Error) => {
      found = error instanceof DsmError ? error.code : error;
    },
  );
  return () => found;
}

describe("a server that is there after all", () => {
  test("is the answer, and none is started", async () => {
    const world = new World();
    world.record = world.running(3);
    const found = world.ask();
    await settle();
    expect(world.probes).toMatchObject([{ host: "127.0.0.1", port: 1001 }]);
    world.probe(0).answer({ state: "there", epoch: 3 });
    expect(await found).toBe(world.record);
    expect(world.launches).toEqual([]);
  });

  test("that the daemon does not know is looked for where the arbiter knew it, and has the epoch that it says", async () => {
    const world = new World();
    const found = world.ask({ port: 1234 });
    await settle();
    expect(world.probes).toMatchObject([{ host: "127.0.0.1", port: 1234 }]);
    world.probe(0).answer({ state: "there", epoch: 6 });
    const { slot: _, ...known } = request;
    expect(await found).toEqual({ ...known, port: 1234, epoch: 6 });
  });
});

describe("a successor", () => {
  test("is started once for two nodes that ask at once", async () => {
    const world = new World();
    world.record = world.running(1);
    const [one, other] = [outcome(world.ask()), outcome(world.ask())];
    await settle();
    expect(world.probes.length).toBe(1);
    world.probe(0).answer({ state: "gone" });
    await settle();
    const successor = world.record;
    expect(world.launches).toMatchObject([{ epoch: 2, predecessor: "gone" }]);
    expect([one(), other()]).toEqual([null, null]);
    register(successor, 1002);
    await settle();
    expect(one()).toBe(successor);
    // The second node may know of a newer server than the first: it is not told what the first was.
    expect(world.probes[1]).toMatchObject({ port: 1002 });
    world.probe(1).answer({ state: "there", epoch: 2 });
    await settle();
    expect(other()).toBe(successor);
    expect(world.launches.length).toBe(1);
  });

  test("learns that its predecessor may still run if that is only silent", async () => {
    const world = new World();
    world.record = world.running(1);
    world.ask();
    await settle();
    world.probe(0).answer({ state: "silent" });
    await settle();
    expect(world.launches).toMatchObject([{ epoch: 2, predecessor: "silent" }]);
    expect(world.killed).toEqual([]);
  });

  test("of the daemon's own server waits until that one is killed", async () => {
    const world = new World();
    const end = Promise.withResolvers<string>();
    const server = { ...world.spawned(end), kill: (signal: string) => void world.killed.push(signal) };
    world.record = world.running(1, server);
    world.ask();
    await settle();
    world.probe(0).answer({ state: "silent" });
    await settle();
    expect(world.killed).toEqual(["SIGKILL"]);
    expect(world.launches).toEqual([]);
    end.resolve("it was ended");
    await settle();
    expect(world.launches).toMatchObject([{ epoch: 2, predecessor: "gone" }]);
  });

  test("that is starting is waited for", async () => {
    const world = new World();
    world.record = world.starting(2, null);
    const found = outcome(world.ask());
    await settle();
    expect([found(), world.probes.length]).toEqual([null, 0]);
    register(world.record, 1002);
    await settle();
    world.probe(0).answer({ state: "there", epoch: 2 });
    await settle();
    expect(found()).toBe(world.record);
  });

  test("that does not start is an error for those that waited, and another is started for the next", async () => {
    const world = new World();
    world.record = world.running(1);
    const [one, other] = [outcome(world.ask()), outcome(world.ask())];
    await settle();
    world.probe(0).answer({ state: "gone" });
    await settle();
    const failed = world.record;
    world.record = undefined;
    failed.registered.reject(new DsmError("DSM_SYSTEM", "no luck today"));
    await settle();
    expect(one()).toBe("DSM_SYSTEM");
    expect(world.probes.length).toBe(2);
    world.probe(1).answer({ state: "gone" });
    await settle();
    expect(other()).toBe(null);
    // The first may have been heard of: its number is not given again.
    expect(world.launches.map(({ epoch }) => epoch)).toEqual([2, 3]);
    register(world.record as never, 1003);
    await settle();
    expect(other()).toBe(world.record);
  });

  test("that cannot be started is an error, and the next request is looked into", async () => {
    const world = new World();
    world.record = world.running(1);
    world.refusal = new DsmError("DSM_LIMIT", "too many");
    const found = outcome(world.ask());
    await settle();
    world.probe(0).answer({ state: "gone" });
    await settle();
    expect(found()).toBe("DSM_LIMIT");
    world.refusal = null;
    world.ask();
    await settle();
    world.probe(1).answer({ state: "gone" });
    await settle();
    expect(world.launches).toMatchObject([{ epoch: 2 }]);
  });
});

describe("an epoch", () => {
  test.each([
    ["of the record", { record: 7, asked: 2, remembered: 3 }, 8],
    ["that the arbiter knows", { record: 1, asked: 5, remembered: 3 }, 6],
    ["that is remembered of a record that is gone", { record: null, asked: 1, remembered: 9 }, 10],
  ])("is above that %s", async (_what, { record, asked, remembered }, expected) => {
    const world = new World();
    world.record = record === null ? undefined : world.running(record);
    world.history.sawEpoch(facts.instance, remembered);
    world.ask({ epoch: asked });
    await settle();
    world.probe(0).answer({ state: "gone" });
    await settle();
    expect(world.launches.map(({ epoch }) => epoch)).toEqual([expected]);
  });

  test("has a limit", async () => {
    const world = new World();
    const found = outcome(world.ask({ epoch: EPOCH_MAX }));
    await settle();
    world.probe(0).answer({ state: "gone" });
    await settle();
    expect([found(), world.launches]).toEqual(["DSM_LIMIT", []]);
  });
});

describe("a session that is over", () => {
  test("has no successor: it has ended, or another one has its name", async () => {
    const world = new World();
    world.history.end(facts.instance);
    const over = outcome(world.ask());
    const later = new World();
    later.record = { ...later.running(1), instance: "00000000000000bb" };
    const other = outcome(later.ask());
    await settle();
    expect([over(), other()]).toEqual(["DSM_ENDED", "DSM_ENDED"]);
    expect([world.probes, later.probes]).toEqual([[], []]);
  });

  test("or ends while its server is looked for", async () => {
    const world = new World();
    world.record = world.running(1);
    const found = outcome(world.ask());
    await settle();
    world.history.end(facts.instance);
    world.record = undefined;
    world.probe(0).answer({ state: "gone" });
    await settle();
    expect([found(), world.launches]).toEqual(["DSM_ENDED", []]);
  });
});

test("what changes while a probe is out makes it void", async () => {
  const world = new World();
  world.record = world.running(1);
  const found = outcome(world.ask());
  await settle();
  // Another server has registered meanwhile: that the old one is gone starts none.
  world.record = world.running(2, null, 1002);
  world.probe(0).answer({ state: "gone" });
  await settle();
  expect(world.launches).toEqual([]);
  expect(world.probe(1).port).toBe(1002);
  world.probe(1).answer({ state: "there", epoch: 2 });
  await settle();
  expect(found()).toBe(world.record);
});

test("that an old server is there is no answer once another has taken over", async () => {
  const world = new World();
  world.record = world.running(1);
  const found = outcome(world.ask());
  await settle();
  world.record = world.running(2, null, 1002);
  world.probe(0).answer({ state: "there", epoch: 1 });
  await settle();
  expect(found()).toBe(null);
  world.probe(1).answer({ state: "there", epoch: 2 });
  await settle();
  expect(found()).toBe(world.record);
});

test("an orphaned server is probed, and replaced if it does not listen", async () => {
  const world = new World();
  world.record = world.running(4);
  orphan(world.record);
  world.ask();
  await settle();
  world.probe(0).answer({ state: "gone" });
  await settle();
  expect(world.launches).toMatchObject([{ epoch: 5, predecessor: "gone" }]);
});

test("a request that keeps meeting other servers gives up", async () => {
  const world = new World();
  const found = outcome(world.ask());
  await settle();
  for (let look = 0; found() === null; look++) {
    expect(look).toBeLessThan(100);
    world.record = world.running(look + 2);
    world.probe(look).answer({ state: "gone" });
    await settle();
  }
  expect([found(), world.launches]).toEqual(["DSM_REFUSED", []]);
});

test("the oldest instances are forgotten, not those that were seen again", () => {
  const history = new InstanceHistory();
  const id = (number: number): string => number.toString(16).padStart(16, "0");
  for (let number = 0; number < 4096; number++) history.end(id(number));
  history.sawEpoch(id(0), 3);
  history.sawEpoch(id(0), 2);
  history.end("f".repeat(16));
  expect([history.hasEnded(id(0)), history.newestEpoch(id(0))]).toEqual([true, 3]);
  expect(history.hasEnded(id(1))).toBe(false);
  expect(history.hasEnded(id(2))).toBe(true);
});
