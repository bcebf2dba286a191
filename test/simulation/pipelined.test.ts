/** Runs the simulator of pipelined sessions over many seeds (DSM_SEEDS=N: N of them). */
import { describe, expect, test } from "bun:test";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { Replica } from "../../src/core/replica/replica.ts";
import { StoreBatch } from "../../src/core/replica/store-batch.ts";
import { StoreBufferMap } from "../../src/core/replica/store-buffer-map.ts";
import { type RecordTaker, Ring, type RingLock } from "../../src/core/replica/store-ring.ts";
import { setUint64 } from "../../src/core/wire/frame.ts";
import { Kind, PublishOp } from "../../src/core/wire/kinds.ts";
import { RING_SIZE } from "../../src/core/wire/ring-layout.ts";
import { Cluster, processHello, Violation } from "../support/core-cluster.ts";
import { viewOf } from "../support/core-frames.ts";
import { emptyRing, RingWriter } from "../support/core-ring-writer.ts";
import { expectMore, runSeeds } from "./kinds.ts";
import { type SimulatorOptions, simulate } from "./pipelined/simulator.ts";

test("every promise is kept", () => {
  const least = {
    entries: 20,
    queued: 15,
    fences: 1,
    doorbells: 2,
    shadowed: 1,
    broken: 0.1,
    redone: 0.05,
    full: 0.001,
    together: 0.01,
    sections: 1,
    leased: 0.2,
  };
  expectMore(runSeeds("pipelined"), least);
}, 300_000);

test("one seed is one run", () => {
  expect(simulate(3)).toEqual(simulate(3, { trace: () => {} }));
});

/** A ring in which nothing is found while it is blind. */
class BlindRing extends Ring {
  isBlind = false;
  override take(taker: RecordTaker): number {
    return this.isBlind ? 0 : super.take(taker);
  }
}

/** A replica that does not look into its ring while `method` runs, but behind it. */
function replicaThatLooksAfter(method: "receiveEntries" | "receive"): SimulatorOptions {
  return {
    makeRing: (bytes, lock) => new BlindRing(bytes, lock),
    makeReplica: (welcome, out, options) =>
      new (class extends Replica {
        #blindly(work: () => void): void {
          const ring = options.ring as BlindRing;
          ring.isBlind = true;
          work();
          ring.isBlind = false;
          this.drainQueue();
        }
        override receiveEntries(chunk: Uint8Array): void {
          if (method === "receiveEntries") this.#blindly(() => super.receiveEntries(chunk));
          else super.receiveEntries(chunk);
        }
        override receive(index: number, chunk: Uint8Array): void {
          if (method === "receive") this.#blindly(() => super.receive(index, chunk));
          else super.receive(index, chunk);
        }
      })(welcome, out, options),
  };
}

const ringOf = (Type: typeof Ring): SimulatorOptions => ({ makeRing: (bytes, lock) => new Type(bytes, lock) });
const lockThat = (change: (lock: RingLock) => Partial<RingLock>): SimulatorOptions => ({
  makeRing: (bytes, lock) => new Ring(bytes, { ...lock, ...change(lock) }),
});

/** Runs `work` with a method of StoreBufferMap replaced. */
function withOverlay<Name extends "store" | "atomic" | "equals" | "zero" | "redo">(
  name: Name,
  replacement: (original: StoreBufferMap[Name]) => StoreBufferMap[Name],
): (work: () => void) => void {
  return (work) => {
    const original = StoreBufferMap.prototype[name];
    StoreBufferMap.prototype[name] = replacement(original);
    try {
      work();
    } finally {
      StoreBufferMap.prototype[name] = original;
    }
  };
}

const nothing = (): void => {};

describe("a record is refused that is", () => {
  const damaged: [string, (frame: DataView) => void][] = [
    ["no store", (frame) => frame.setUint8(4, Kind.ATOMIC)],
    ["a part of a publication", (frame) => [frame.setUint8(4, Kind.PUBLISH), frame.setUint8(5, PublishOp.PART)]],
    ["of a process that is not there", (frame) => frame.setUint16(6, 1, true)],
    ["outside the map", (frame) => setUint64(frame, 24, 4096 - 7)],
    ["far outside the map", (frame) => setUint64(frame, 24, 2 ** 52)],
    ["longer than its frame", (frame) => frame.setUint32(32, 16, true)],
    ["empty", (frame) => frame.setUint32(32, 0, true)],
  ];
  test.each(damaged)("%s", (_what, damage) => {
    const ring = emptyRing();
    const cluster = new Cluster(
      {
        name: "s",
        instance: "1",
        processes: 1,
        size: 4096,
        base: 0x2000_0000_0000,
        order: "pipelined",
        onLoss: "fail",
      },
      { ring: () => new Ring(ring, { acquire: () => false, release: () => {} }) },
    );
    const node = cluster.node("a");
    cluster.settle();
    const channel = node.connect("p", nothing, nothing);
    channel.up.push(processHello("s", 7, { noDirect: true }));
    cluster.settle();
    const writer = new RingWriter(ring, node.memory, 7);
    const at = writer.tail % RING_SIZE;
    writer.store(0, [8, new Uint8Array(8).fill(1)]);
    expect(node.replica?.drainQueue()).toBe(1);
    cluster.settle();
    const second = writer.tail % RING_SIZE;
    expect(second).toBe(at + 56);
    writer.store(0, [16, new Uint8Array(8).fill(2)]);
    damage(viewOf(writer.data.subarray(second)));
    expect(() => node.replica?.drainQueue()).toThrow("a process of this node has damaged the ring of its stores");
    cluster.settle();
    expect(Buffer.compare(cluster.memory, new Uint8Array(4096).fill(1, 8, 16))).toBe(0);
  });
});

const plainly = (work: () => void): void => work();

describe("the simulator notices a replica that", () => {
  const broken: [string, SimulatorOptions, ((work: () => void) => void)?][] = [
    ["looks into the ring after a request instead of before", replicaThatLooksAfter("receive")],
    ["looks into the ring after it has changed the map", replicaThatLooksAfter("receiveEntries")],
    [
      "writes over pending stores",
      {},
      (work) => {
        let settles = false;
        const { settle } = StoreBufferMap.prototype;
        StoreBufferMap.prototype.settle = function (apply) {
          settles = true;
          settle.call(this, apply);
          settles = false;
        };
        withOverlay(
          "store",
          (original) =>
            function (this: StoreBufferMap, ...args) {
              (settles ? original : MapBytes.prototype.store).apply(this, args);
            },
        )(work);
        StoreBufferMap.prototype.settle = settle;
      },
    ],
    [
      "forgets what an entry of its own leaves below a later store",
      {},
      (work) => {
        const { settle } = StoreBufferMap.prototype;
        StoreBufferMap.prototype.settle = function (apply) {
          settle.call(this, () => withOverlay("store", () => nothing)(apply));
        };
        work();
        StoreBufferMap.prototype.settle = settle;
      },
    ],
    ["executes an atomic on what its processes see", {}, withOverlay("atomic", () => MapBytes.prototype.atomic)],
    ["compares a sleep with what its processes see", {}, withOverlay("equals", () => MapBytes.prototype.equals)],
    ["zeroes a block with pending stores", {}, withOverlay("zero", () => MapBytes.prototype.zero)],
    ["does not do again what a process has left half done", {}, withOverlay("redo", () => nothing)],
    ["assumes that no process dies with the lock", lockThat((lock) => ({ acquire: () => lock.acquire() && false }))],
    [
      "puts stores of two processes into one entry",
      {},
      (work) => {
        const { takes } = StoreBatch.prototype;
        StoreBatch.prototype.takes = () => true;
        try {
          work();
        } finally {
          StoreBatch.prototype.takes = takes;
        }
      },
    ],
    [
      "takes a store whose entry came back for done",
      ringOf(
        class extends Ring {
          override last(...taker: Parameters<Ring["last"]>): DataView | null {
            return this.taken === this.returned ? null : super.last(...taker);
          }
        },
      ),
    ],
    [
      "does the newest store again although its process has given the lock away",
      ringOf(
        class extends Ring {
          override release(): void {
            this.lock.release();
          }
        },
      ),
    ],
    [
      "gives room back when it has taken a store",
      ringOf(
        class extends Ring {
          override closeEntry(): void {
            super.closeEntry();
            super.giveBack();
          }
          override giveBack(): void {}
        },
      ),
    ],
    [
      "sleeps without looking again",
      ringOf(
        class extends Ring {
          override sleep(): boolean {
            super.sleep();
            return true;
          }
          override get awake(): boolean {
            return false;
          }
        },
      ),
    ],
    [
      "never says that pages are shadowed",
      ringOf(
        class extends Ring {
          override set shadowed(_shadowed: boolean) {}
        },
      ),
    ],
    [
      "answers a fence one store too early",
      ringOf(
        class extends Ring {
          constructor(...parts: ConstructorParameters<typeof Ring>) {
            super(...parts);
            let returned = 0;
            Object.defineProperty(this, "returned", {
              get: () => Math.min(this.taken, returned + 1),
              set: () => {
                returned += 1;
              },
            });
          }
        },
      ),
    ],
  ];
  const notices = (_name: string, options: SimulatorOptions, around = plainly): void => {
    let caught = 0;
    around(() => {
      for (let seed = 0; seed < 200 && caught < 3; seed += 1) {
        try {
          simulate(seed, options);
        } catch (error) {
          if (!(error instanceof Violation)) throw error;
          caught += 1;
        }
      }
    });
    expect(caught).toBeGreaterThan(0);
  };
  test.each(broken)("%s", notices, 60_000);
});
