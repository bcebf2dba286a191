/** Objects in the map: what is forgotten, what counts, what is saved. What requests get is in scenarios/*.txt. */
import { describe, expect, test } from "bun:test";
import { Status } from "../../src/core/base/errors.ts";
import {
  LOCKS_MAX,
  OBJECT_LEASES_MAX,
  OVERTAKES_MAX,
  PROCESSES_MAX,
  READERS_MAX,
  RW_LOCKS_MAX,
  SEMAPHORES_MAX,
  WAITING_MAX,
} from "../../src/core/base/limits.ts";
import { checkName, checkResourceName, objectName, placeInName, shownName } from "../../src/core/base/names.ts";
import { PlaceIndex } from "../../src/core/base/place-index.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { parseSavedSession } from "../../src/core/messages/saved-session.ts";
import type { SessionConfig, SessionState } from "../../src/core/messages/session-state.ts";
import { type Effects, NO_EFFECTS } from "../../src/core/session/effects.ts";
import { Session } from "../../src/core/session/session.ts";
import { encode, encodeText, type Frame } from "../../src/core/wire/frame.ts";
import { Kind, NO_TAG, ObjectKind } from "../../src/core/wire/kinds.ts";
import { Random } from "../support/core-random.ts";

const SIZE = 1 << 20;
const config = (processes: number): SessionConfig => ({
  ...{ name: "s", instance: "1", processes, size: SIZE, base: 2 ** 45 },
  ...{ order: "sequential", onLoss: "continue" },
});

/** A session that runs, of ranks 0, 1, 2 ... on nodes 1, 2, 1, 2 ..., and what it says: "tag status" for each answer. */
class Machine {
  readonly said: string[] = [];
  value = 0;
  session: Session;
  readonly #effects: Effects;

  constructor(processes: number, state?: SessionState) {
    this.#effects = {
      ...NO_EFFECTS,
      onReply: (_node, tag, { status, value }) => {
        this.said.push(`${tag} ${status}`);
        this.value = value;
      },
      onLease: (name, node) => this.said.push(`${shownName(name)} leased to ${node}`),
      onRecall: (name, node) => this.said.push(`${shownName(name)} recalled from ${node}`),
    };
    const memory = new MapBytes(new Uint8Array(SIZE));
    if (state !== undefined) {
      this.session = Session.fromState(state, memory, this.#effects);
      return;
    }
    this.session = new Session(config(processes), memory, this.#effects);
    for (let rank = 0; rank < processes; rank += 1)
      this.apply({ kind: Kind.JOIN, node: 1 + (rank % 2), tag: rank, op: 1, body: encodeText("n") });
  }

  apply(frame: Frame): string[] {
    this.said.length = 0;
    this.session.apply(new DataView(encode(frame).buffer), 0);
    return [...this.said];
  }

  ask(rank: number, frame: Omit<Frame, "rank" | "node">, tag = 1): string[] {
    return this.apply({ rank, node: 1 + (rank % 2), tag, ...frame } as Frame);
  }

  lock(rank: number, offset: number, tag = 1): string[] {
    return this.ask(rank, { kind: Kind.LOCK, body: encodeText(objectName("mutex", offset)) }, tag);
  }

  unlock(rank: number, offset: number): string[] {
    return this.ask(rank, { kind: Kind.UNLOCK, body: encodeText(objectName("mutex", offset)) });
  }

  post(rank: number, offset: number): string[] {
    return this.ask(rank, { kind: Kind.SEM_POST, offset: 1, body: encodeText(objectName("semaphore", offset)) });
  }

  try(rank: number, offset: number): string[] {
    return this.ask(rank, { kind: Kind.SEM_WAIT, op: 1, body: encodeText(objectName("semaphore", offset)) });
  }

  /** Another session with the state of this one. */
  copy(): Machine {
    return new Machine(0, JSON.parse(JSON.stringify(this.session.state())));
  }
}

const OK = [`1 ${Status.OK}`];

describe("names of objects", () => {
  test("are none that a program could give, and tell their place", () => {
    for (const offset of [0, 8, 0x1a40, 2 ** 32 - 8]) {
      const name = objectName("mutex", offset);
      expect(checkName("lock", name)).toContain("control character");
      expect(placeInName(name)).toBe(offset);
      expect(shownName(name)).toBe(`mutex at 0x${offset.toString(16)}`);
      expect(checkResourceName("lock", name, 2 ** 32)).toBeNull();
      expect(checkResourceName("semaphore", name, 2 ** 32)).not.toBeNull();
    }
    expect(shownName(objectName("semaphore", 64))).toBe("semaphore at 0x40");
  });

  test("lie in the map, aligned, and are written in one way only", () => {
    for (const name of [
      "\u0001m",
      "\u0001m01",
      "\u0001M1",
      "\u0001x8",
      "\u0001m8 ",
      "\u0001m-8",
      "\u0001m0x8",
      "\u00018",
    ]) {
      expect(placeInName(name)).toBe(-1);
      expect(checkResourceName("lock", name, SIZE)).not.toBeNull();
    }
    for (const offset of [4, SIZE, SIZE - 4, 2 ** 52])
      expect(checkResourceName("lock", objectName("mutex", offset), SIZE)).not.toBeNull();
    expect(checkResourceName("lock", objectName("mutex", SIZE - 8), SIZE)).toBeNull();
    expect(checkResourceName("lock", "door", SIZE)).toBeNull();
  });
});

describe("only objects in use count", () => {
  test("mutexes", () => {
    const machine = new Machine(2);
    for (let n = 0; n < LOCKS_MAX + 9; n += 1) {
      machine.lock(0, 8 * n);
      expect(machine.unlock(0, 8 * n)).toEqual(OK);
    }
    expect(machine.session.state().locks.length).toBeLessThanOrEqual(LOCKS_MAX);
    expect(machine.session.locks()).toEqual([]);
    for (let n = 0; n < LOCKS_MAX; n += 1) machine.lock(0, 8 * n);
    expect(machine.session.locks().length).toBe(LOCKS_MAX);
    expect(machine.lock(0, 8 * LOCKS_MAX)).toEqual([`1 ${Status.LIMIT}`]);
    expect(machine.unlock(0, 8 * 7)).toEqual(OK);
    expect(machine.lock(0, 8 * LOCKS_MAX)).toEqual(OK);
    // What a process has done by a cell is no request that could be refused.
    machine.apply({ kind: Kind.LOCK, node: 1, tag: NO_TAG, body: encodeText(objectName("mutex", 8 * 7)) });
    expect(machine.session.state().locks.length).toBe(LOCKS_MAX + 1);
    expect(machine.unlock(0, 8 * 7)).toEqual(OK);
    expect(machine.lock(0, 8 * LOCKS_MAX + 8)).toEqual([`1 ${Status.LIMIT}`]);
    expect(machine.session.state().locks.length).toBe(LOCKS_MAX);
  });

  test("a mutex with the mark of a dead owner is not forgotten", () => {
    const machine = new Machine(3);
    machine.lock(2, 0);
    machine.apply({ kind: Kind.LEAVE, node: 1, rank: 2, tag: 9 });
    for (let n = 1; n <= LOCKS_MAX + 1; n += 1) {
      machine.lock(0, 8 * n);
      machine.unlock(0, 8 * n);
    }
    expect(machine.lock(1, 0)).toEqual([`1 ${Status.OWNER_DIED}`]);
  });

  test("semaphores", () => {
    const machine = new Machine(1);
    for (let n = 0; n < SEMAPHORES_MAX + 9; n += 1) {
      machine.post(0, 8 * n);
      machine.try(0, 8 * n);
      expect(machine.try(0, 8 * n)).toEqual([`1 ${Status.AGAIN}`]);
    }
    for (let n = 0; n < SEMAPHORES_MAX; n += 1) machine.post(0, 8 * n);
    expect(machine.post(0, 8 * SEMAPHORES_MAX)).toEqual([`1 ${Status.LIMIT}`]);
    const init = { kind: Kind.OBJECT_INIT, op: ObjectKind.SEMAPHORE, aux: 1 };
    expect(machine.ask(0, { ...init, offset: 8 * SEMAPHORES_MAX })).toEqual([`1 ${Status.LIMIT}`]);
    expect(machine.try(0, 8)).toEqual(OK);
    expect(machine.ask(0, { ...init, offset: 8 * SEMAPHORES_MAX })).toEqual(OK);
    // The value that processes have made by the cell.
    const frame = { kind: Kind.SEM_VALUE, offset: 5, tag: NO_TAG, body: encodeText(objectName("semaphore", 8)) };
    machine.ask(0, frame, NO_TAG);
    expect(machine.session.idleValueOf(objectName("semaphore", 8))).toBe(5);
    expect(machine.session.idleValueOf(objectName("semaphore", 8 * 9999))).toBe(0);
    expect(machine.session.idleValueOf(objectName("semaphore", SIZE))).toBe(-1);
  });

  test("reader-writer locks, and their readers", () => {
    const machine = new Machine(PROCESSES_MAX);
    const lock = (rank: number, n: number, aux = 0) => machine.ask(rank, { kind: Kind.RW_LOCK, offset: 8 * n, aux });
    const unlock = (rank: number, n: number) => machine.ask(rank, { kind: Kind.RW_UNLOCK, offset: 8 * n });
    for (let n = 0; n < 99; n += 1) {
      lock(0, RW_LOCKS_MAX + n, n % 2);
      expect(unlock(0, RW_LOCKS_MAX + n)).toEqual(OK);
    }
    for (let n = 0; n < RW_LOCKS_MAX; n += 1) lock(0, n);
    expect(machine.session.objects().length).toBe(RW_LOCKS_MAX);
    expect(lock(0, RW_LOCKS_MAX)).toEqual([`1 ${Status.LIMIT}`]);
    let readers = RW_LOCKS_MAX;
    for (let rank = 1; readers < READERS_MAX; rank += 1) {
      for (let n = 0; n < RW_LOCKS_MAX && readers < READERS_MAX; n += 1, readers += 1) lock(rank, n);
    }
    expect(lock(1000, 0)).toEqual([`1 ${Status.LIMIT}`]);
    expect(lock(0, 0)).toEqual(OK);
    expect(unlock(1, 0)).toEqual(OK);
    expect(lock(1000, 0)).toEqual(OK);
    expect(lock(1001, 0)).toEqual([`1 ${Status.LIMIT}`]);
    // A process that ends takes its reads with it.
    machine.apply({ kind: Kind.LEAVE, op: 1, node: 2, rank: 3, tag: 9 });
    expect(lock(1001, 0)).toEqual(OK);
    expect(machine.session.state()).toEqual(machine.copy().session.state());
  }, 60_000);

  test("requests that wait", () => {
    const machine = new Machine(2);
    machine.ask(0, { kind: Kind.RW_LOCK, offset: 0, aux: 1 });
    for (let tag = 2; tag < 2 + WAITING_MAX; tag += 1) machine.ask(1, { kind: Kind.RW_LOCK, offset: 0 }, tag);
    const refused = [`1 ${Status.LIMIT}`];
    expect(machine.ask(0, { kind: Kind.RW_LOCK, offset: 0, aux: 1 })).toEqual(refused);
    expect(machine.ask(0, { kind: Kind.ARRIVE, offset: 64, aux: 2 })).toEqual(refused);
    // It has its mutex still.
    machine.lock(0, 128);
    const body = encodeText(objectName("mutex", 128));
    expect(machine.ask(0, { kind: Kind.COND_WAIT, offset: 192, body })).toEqual(refused);
    expect(machine.unlock(0, 128)).toEqual(OK);
    expect(machine.session.objects().length).toBe(1);
  });
});

test("a process that reads again overtakes a writer that waits, but not for ever", () => {
  const machine = new Machine(4);
  const lock = (rank: number, aux: number, tag = 1) => machine.ask(rank, { kind: Kind.RW_LOCK, offset: 64, aux }, tag);
  const unlock = (rank: number) => machine.ask(rank, { kind: Kind.RW_UNLOCK, offset: 64 });
  lock(0, 0);
  expect(lock(1, 1, 7)).toEqual([]);
  // Two threads take turns in reading.
  let turns = 0;
  for (; turns < 2 * OVERTAKES_MAX; turns += 1) {
    if (lock(0, 0, 8).length === 0) break;
    expect(unlock(0)).toEqual(OK);
  }
  expect(turns).toBe(OVERTAKES_MAX);
  expect(unlock(0)).toEqual([...OK, `7 ${Status.OK}`]);
  expect(lock(2, 1, 9)).toEqual([]);
  expect(unlock(1)).toEqual([...OK, `8 ${Status.OK}`]);
  expect(lock(0, 0)).toEqual(OK);
  // Those that wait for the first time wait.
  expect(lock(3, 0, 10)).toEqual([]);
  expect(JSON.stringify(machine.copy().session.state())).toBe(JSON.stringify(machine.session.state()));
});

test("a waiter of a condition gets its mutex although so many are in use", () => {
  const machine = new Machine(2);
  const body = encodeText(objectName("mutex", 0));
  machine.lock(0, 0);
  machine.ask(0, { kind: Kind.COND_WAIT, offset: 8, body }, 7);
  for (let n = 1; n <= LOCKS_MAX; n += 1) machine.lock(1, 8 * n);
  expect(machine.lock(1, 0)).toEqual([`1 ${Status.LIMIT}`]);
  expect(machine.ask(1, { kind: Kind.COND_SIGNAL, offset: 8, aux: 1 })).toEqual([`7 ${Status.OK}`, ...OK]);
  expect(machine.value).toBe(1);
  expect(machine.copy().unlock(0, 0)).toEqual(OK);
});

test("before there are more leases of mutexes than there may be, the oldest must be given back", () => {
  const machine = new Machine(2);
  const use = (rank: number, offset: number): string[] =>
    [1, 2].flatMap(() => [...machine.lock(rank, offset), ...machine.unlock(rank, offset)]);
  const leases = (): number => machine.session.state().locks.filter(({ lease }) => lease >= 0).length;
  for (let n = 0; n < OBJECT_LEASES_MAX; n += 1) use(n % 2, 64 * n);
  expect(leases()).toBe(OBJECT_LEASES_MAX);
  expect(use(1, 8)).toContain("mutex at 0x0 recalled from 1");
  expect(leases()).toBe(OBJECT_LEASES_MAX);
  // One that a process has still by its cell is in use from now on.
  const body = encodeText(objectName("mutex", 0));
  machine.apply({ kind: Kind.RETURN, op: 1, node: 1, tag: NO_TAG, body });
  expect(leases()).toBe(OBJECT_LEASES_MAX - 1);
  expect(use(1, 8)).toContain("mutex at 0x8 leased to 2");
  // Some are recalled at once, and once: none has come back since.
  const recalls = use(0, 16).filter((line) => line.includes("recalled"));
  expect([recalls.length, recalls[0]]).toEqual([64, "mutex at 0x40 recalled from 2"]);
  expect(use(0, 24).filter((line) => line.includes("recalled"))).toEqual([]);
  // Leases do not keep others from using as many mutexes as there may be; those of names do not count.
  for (let n = 2; n < LOCKS_MAX; n += 1) machine.lock(0, 64 * n + 32);
  expect(machine.ask(0, { kind: Kind.LOCK, body: encodeText("door") })).toEqual(OK);
  machine.ask(0, { kind: Kind.UNLOCK, body: encodeText("door") });
  machine.ask(0, { kind: Kind.LOCK, body: encodeText("door") });
  expect(machine.ask(0, { kind: Kind.UNLOCK, body: encodeText("door") })).toContain("door leased to 1");
  expect(machine.lock(0, 24)).toEqual([`1 ${Status.LIMIT}`]);
  expect(JSON.stringify(machine.copy().session.state())).toBe(JSON.stringify(machine.session.state()));
});

describe("the objects in a part of the map", () => {
  test("are found by place, whether there are few or many", () => {
    for (const count of [3, 1000]) {
      const index = new PlaceIndex();
      for (let n = count - 1; n >= 0; n -= 1) index.add(objectName("mutex", 16 * n));
      index.add("door");
      index.delete(objectName("mutex", 16));
      expect(index.within(1, 49)).toEqual(
        [32, 48].filter((at) => at < 16 * count).map((at) => objectName("mutex", at)),
      );
      expect(index.within(0, 16)).toEqual([objectName("mutex", 0)]);
      expect(index.within(0, 2 ** 32).length).toBe(count - 1);
      expect(index.within(8, 16)).toEqual([]);
    }
  });
});

test("all replicas forget the same, whenever they joined", () => {
  const random = new Random(7);
  const machine = new Machine(4);
  let copy = machine.copy();
  const held = new Map<number, number>();
  for (let step = 0; step < 12_000; step += 1) {
    const rank = random.below(4);
    const offset = 8 * (random.oneIn(3) ? random.below(20) : random.below(20 * LOCKS_MAX));
    const owner = held.get(offset);
    const frame: Omit<Frame, "rank" | "node"> = random.oneIn(4)
      ? { kind: Kind.SEM_POST, offset: random.below(2), body: encodeText(objectName("semaphore", offset)) }
      : owner === undefined
        ? { kind: Kind.LOCK, op: 1, body: encodeText(objectName("mutex", offset)) }
        : { kind: Kind.UNLOCK, body: encodeText(objectName("mutex", offset)) };
    const by = frame.kind === Kind.UNLOCK ? (owner as number) : rank;
    const said = machine.ask(by, frame);
    expect(copy.ask(by, frame)).toEqual(said);
    if (frame.kind === Kind.LOCK && said.includes(`1 ${Status.OK}`)) held.set(offset, rank);
    if (frame.kind === Kind.UNLOCK) held.delete(offset);
    for (const line of said.filter((one) => one.includes(" leased to ") && random.oneIn(2))) {
      const [, place, node] = /at 0x(\w+) leased to (\d)/.exec(line) as unknown as [string, string, string];
      const body = encodeText(objectName("mutex", Number.parseInt(place, 16)));
      for (const one of [machine, copy]) one.apply({ kind: Kind.RETURN, node: Number(node), tag: NO_TAG, body });
    }
    if (step % 2000 !== 0) continue;
    expect(JSON.stringify(copy.session.state())).toBe(JSON.stringify(machine.session.state()));
    if (random.oneIn(3)) copy = machine.copy();
  }
}, 60_000);

test("a session with objects goes on as the one it was taken from", () => {
  let machine = new Machine(4);
  const mutex = encodeText(objectName("mutex", 64));
  const steps: [rank: number, frame: Omit<Frame, "rank" | "node">, tag: number][] = [
    [0, { kind: Kind.LOCK, body: mutex }, 1],
    [0, { kind: Kind.COND_WAIT, offset: 128, body: mutex }, 2],
    [1, { kind: Kind.LOCK, body: mutex }, 3],
    [1, { kind: Kind.COND_WAIT, offset: 128, body: mutex }, 4],
    [2, { kind: Kind.LOCK, body: mutex }, 5],
    [2, { kind: Kind.COND_SIGNAL, offset: 128, aux: 1 }, 6],
    [1, { kind: Kind.SEM_CANCEL }, 4],
    [0, { kind: Kind.SEM_CANCEL }, 2],
    [2, { kind: Kind.UNLOCK, op: 1, body: mutex }, 7],
    [3, { kind: Kind.RW_LOCK, offset: 192, aux: 1 }, 8],
    [2, { kind: Kind.RW_LOCK, offset: 192 }, 9],
    [2, { kind: Kind.RW_LOCK, offset: 192 }, 10],
    [1, { kind: Kind.RW_LOCK, offset: 192, aux: 1 }, 11],
    [2, { kind: Kind.ARRIVE, offset: 256, aux: 3 }, 12],
    [3, { kind: Kind.ARRIVE, offset: 256, aux: 3 }, 13],
    [3, { kind: Kind.ARRIVE, offset: 256, aux: 2 }, 14],
    [0, { kind: Kind.OBJECT_INIT, op: ObjectKind.SEMAPHORE, offset: 320, aux: 9 }, 15],
    [3, { kind: Kind.LEAVE, op: 1 }, 16],
    [0, { kind: Kind.UNLOCK, body: mutex }, 17],
    [1, { kind: Kind.UNLOCK, body: mutex }, 18],
    [2, { kind: Kind.RW_UNLOCK, offset: 192 }, 19],
    [2, { kind: Kind.RW_UNLOCK, offset: 192 }, 20],
    [1, { kind: Kind.RW_UNLOCK, offset: 192 }, 21],
    [0, { kind: Kind.ARRIVE, offset: 256, aux: 3 }, 22],
    [1, { kind: Kind.ARRIVE, offset: 256, aux: 3 }, 23],
  ];
  const all: string[] = [];
  for (const [rank, frame, tag] of steps) {
    const copy = machine.copy();
    expect(copy.session.report()).toEqual(machine.session.report());
    const said = machine.ask(rank, frame, tag);
    expect(copy.ask(rank, frame, tag)).toEqual(said);
    expect(JSON.stringify(copy.session.state())).toBe(JSON.stringify(machine.session.state()));
    all.push(...said);
    machine = copy;
  }
  const { OK: ok, LEFT, TIMEOUT, MISMATCH, OWNER_DIED } = Status;
  expect(all).toEqual([
    ...[`1 ${ok}`, `3 ${ok}`, `5 ${ok}`, `6 ${ok}`, `2 ${ok}`, `7 ${ok}`, `8 ${ok}`, `14 ${MISMATCH}`, `15 ${ok}`],
    // The one that had written is gone: its arrival does not count, and all that lock hear of it, until one has mended.
    ...[`13 ${LEFT}`, `16 ${ok}`, `9 ${OWNER_DIED}`, `10 ${OWNER_DIED}`, `4 ${TIMEOUT}`, `17 ${ok}`, `18 ${ok}`],
    ...[`19 ${ok}`, `20 ${ok}`, `11 ${OWNER_DIED}`, `21 ${ok}`, `12 ${ok}`, `22 ${ok}`, `23 ${ok}`],
  ]);
});

test("a later session begins with values, and with the marks of those that had locks", () => {
  const machine = new Machine(3);
  machine.lock(0, 64);
  machine.lock(1, 72);
  machine.unlock(1, 72);
  machine.post(0, 128);
  machine.post(0, 136);
  machine.try(0, 136);
  machine.ask(1, { kind: Kind.RW_LOCK, offset: 192, aux: 1 });
  machine.ask(2, { kind: Kind.RW_LOCK, offset: 200 });
  machine.ask(2, { kind: Kind.ARRIVE, offset: 256, aux: 2 }, 3);
  const saved = parseSavedSession(JSON.parse(JSON.stringify(machine.session.save())));
  expect(saved.semaphores).toEqual([{ name: objectName("semaphore", 128), value: 1 }]);
  expect(saved.locks).toEqual([{ name: objectName("mutex", 64), died: 0 }]);
  expect(saved.rwLocks).toEqual([{ offset: 192, died: 1 }]);

  const session = new Session(config(1), new MapBytes(new Uint8Array(SIZE)), NO_EFFECTS);
  session.adopt(saved);
  const later = new Machine(0, session.state());
  later.apply({ kind: Kind.JOIN, node: 1, op: 1, body: encodeText("n") });
  expect(later.lock(0, 64)).toEqual([`1 ${Status.OWNER_DIED}`]);
  expect(later.lock(0, 72)).toEqual(OK);
  expect(later.try(0, 128)).toEqual(OK);
  expect(later.ask(0, { kind: Kind.RW_LOCK, offset: 192 })).toEqual([`1 ${Status.OWNER_DIED}`]);
  expect(later.ask(0, { kind: Kind.RW_LOCK, offset: 200, aux: 1 })).toEqual(OK);
  expect(later.ask(0, { kind: Kind.ARRIVE, offset: 256, aux: 1 })).toEqual(OK);
});
