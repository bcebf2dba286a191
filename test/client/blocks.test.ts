/** Blocks of the map: allocated, freed, and known by name, the same in every process. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster, type Puppet } from "./cluster.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(180_000);

let cluster: Cluster;

beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.endPuppets());
afterAll(() => cluster[Symbol.asyncDispose]());

/** Codes (or "none") of what the source of `calls` does, one by one. */
const codesOf = (
  puppet: Puppet,
  calls: ((session: import("dsm").Session, state: import("./cluster.ts").Stage["state"]) => unknown)[],
) =>
  puppet.run(
    ({ session, state }, sources) =>
      sources.map((source) => {
        try {
          new Function(`return (${source})`)()(session, state);
          return "none";
        } catch (error) {
          return (error as import("dsm").DsmError).code ?? String(error);
        }
      }),
    calls.map(String),
  );

describe.each([
  ["sequential, two nodes", 2, { DSM_ORDER: "sequential" }],
  ["release, two nodes", 2, { DSM_ORDER: "release" }],
  ["pipelined, two nodes", 2, { DSM_ORDER: "pipelined" }],
  ["direct", 1, { DSM_ORDER: "sequential" }],
])("%s", (_, nodes, environment) => {
  const two = async (size: string | number = "64KiB"): Promise<[Puppet, Puppet]> =>
    (await cluster.join({ processes: 2, nodes, size, environment })) as [Puppet, Puppet];

  test("views of every shape, aligned, zeroed, not overlapping", async () => {
    const [puppet] = await two();
    const shapes = await puppet.run(({ session }) => {
      const views = [
        session.alloc(3),
        session.alloc(Float64Array, 10),
        session.alloc(Uint8Array, 5, { align: 1 }),
        session.alloc(BigInt64Array, 2, { align: 4096 }),
        session.alloc(DataView, 7),
        session.alloc(100, { align: 64 }),
        session.named("a", 3),
        session.named("b", Int16Array, 3),
        session.named("c", DataView, 3),
      ];
      const ranges = views.map((view) => [view.byteOffset, view.byteOffset + view.byteLength] as [number, number]);
      ranges.sort(([a], [b]) => a - b);
      const apart = ranges.every(([from], i) => i === 0 || from >= (ranges[i - 1] as [number, number])[1]);
      const aligns = [16, 16, 1, 4096, 16, 64, 64, 64, 64];
      const aligned = views.every((view, i) => view.byteOffset % (aligns[i] as number) === 0);
      return [views.map((view) => `${view.constructor.name} ${view.byteLength}`), apart, aligned];
    });
    expect(shapes).toEqual([
      [
        "Uint8Array 3",
        "Float64Array 80",
        "Uint8Array 5",
        "BigInt64Array 16",
        "DataView 7",
        "Uint8Array 100",
        "Uint8Array 3",
        "Int16Array 6",
        "DataView 3",
      ],
      true,
      true,
    ]);
  });

  test("one process frees what another allocated, and it comes back zeroed", async () => {
    const [first, second] = await two();
    const offset = await first.run(async ({ session, state }) => {
      state.block = session.alloc(Int32Array, 5000);
      state.block.fill(-1);
      await session.semaphore("s").post();
      return state.block.byteOffset as number;
    });
    const sums = await second.run(({ session }, offset) => {
      // Written without a synchronising operation before it is freed.
      const block = session.view(Int32Array, offset, 5000);
      block.fill(5);
      session.free(block);
      const again = session.alloc(Int32Array, 5000);
      return [again.byteOffset, again.reduce((sum, value) => sum + value, 0)];
    }, offset);
    expect(sums).toEqual([offset, 0]);
    const seen = await first.run(async ({ session, state }) => {
      await session.semaphore("s").post();
      return state.block.reduce((sum: number, value: number) => sum + value, 0) as number;
    });
    expect(seen).toBe(0);
    expect(await codesOf(first, [(session, state) => session.free(state.block)])).toEqual(["none"]);
    expect(await codesOf(first, [(session, state) => session.free(state.block)])).toEqual(["DSM_INVALID"]);
  });

  test("a name means the same block in every process, whichever comes first", async () => {
    const puppets = await two();
    const names = ["grid", "Gitter", "網", "x".repeat(63)];
    const offsets = puppets.map((puppet, index) =>
      puppet.run(
        async ({ session }, names, index) => {
          const offsets: Record<string, number> = {};
          for (const name of names) {
            const view = session.named(name, Float64Array, 100);
            view[index] = index + 0.5;
            offsets[name] = view.byteOffset;
          }
          await session.barrier();
          const right = names.every((name) => {
            const view = session.named(name, Float64Array, 100);
            return view[0] === 0.5 && view[1] === 1.5 && view[2] === 0;
          });
          return [offsets, right];
        },
        index === 0 ? names : names.toReversed(),
        index,
      ),
    );
    const [first, second] = await Promise.all(offsets);
    expect(first).toEqual(second as typeof first);
    expect(first?.[1]).toBe(true);
    expect(new Set(Object.values(first?.[0] as Record<string, number>)).size).toBe(names.length);
  });

  test("what cannot be is refused", async () => {
    const [first, second] = await two();
    await first.run(({ session }) => void session.named("taken", Float64Array, 10));
    const codes = await codesOf(second, [
      // The same number of bytes is the same block.
      (session) => session.named("taken", Int8Array, 80),
      (session) => session.named("taken", Float64Array, 11),
      (session) => session.named("taken", 10),
      (session) => session.alloc(0),
      (session) => session.alloc(-1),
      (session) => session.alloc(1.5),
      (session) => session.alloc(Number.NaN),
      (session) => session.alloc(Float64Array, undefined as never),
      (session) => session.alloc(Float64Array, 1, { align: 4 }),
      (session) => session.alloc(8, { align: 0 }),
      (session) => session.alloc(8, { align: 24 }),
      (session) => session.alloc(8, { align: 8192 }),
      (session) => session.alloc(8, { align: 1.5 }),
      (session) => session.alloc(8, { align: -16 }),
      (session) => session.named("", 8),
      (session) => session.named("a/b", 8),
      (session) => session.named("x".repeat(64), 8),
      (session) => session.named("n", 0),
      (session) => session.free(new Uint8Array(8)),
      (session) => session.free(session.view(Uint8Array, 60_000)),
      (session) => session.free(session.view(Uint8Array, session.size)),
      (session) => session.free(session.named("taken", 80).subarray(1)),
      (session) => session.alloc(65_537),
      (session) => session.alloc(Float64Array, 2 ** 50),
      (session) => session.alloc(65_536),
      (session) => session.named("large", 65_536),
    ]);
    expect(codes).toEqual([
      "none",
      ...new Array(2).fill("DSM_MISMATCH"),
      ...new Array(19).fill("DSM_INVALID"),
      ...new Array(4).fill("DSM_NO_MEMORY"),
    ]);
  });

  test("a refusal says what was wrong", async () => {
    const [puppet] = await two();
    const said = await puppet.run(({ session }) => {
      const block = session.alloc(8);
      session.free(block);
      const calls = [
        () => session.free(block),
        () => session.alloc(8, { align: 3 }),
        () => session.alloc(100_000),
        () => session.named("n", Int32Array, 1) && session.named("n", Int32Array, 2),
      ];
      return calls.map((call) => {
        try {
          call();
          return "nothing";
        } catch (error) {
          return (error as Error).message;
        }
      });
    });
    expect(said[0]).toMatch(/^no block begins at 0x[0-9a-f]+; was it freed before\?$/);
    expect(said.slice(1)).toEqual([
      "align is 3; give a power of two from 1 to 4096",
      expect.stringMatching(
        /^a block of 100000 bytes does not fit in the map of 65536 bytes of session ".*"; give the map at least 98KiB; try --size 128KiB \(DSM_SIZE=128KiB\)$/,
      ),
      expect.stringMatching(/^block "n" has 4 bytes in session ".*", not 8; give all processes the same size$/),
    ]);
  });

  test("the map is used to its end, and all of it again after it was freed", async () => {
    const puppets = await two();
    // Both take pages until there are none left.
    const taken = await Promise.all(
      puppets.map((puppet) =>
        puppet.run(({ session, state }) => {
          state.blocks = [];
          for (;;) {
            try {
              state.blocks.push(session.alloc(4096, { align: 4096 }));
            } catch (error) {
              if ((error as import("dsm").DsmError).code !== "DSM_NO_MEMORY") throw error;
              return state.blocks.map((block: Uint8Array) => block.byteOffset) as number[];
            }
          }
        }),
      ),
    );
    expect(taken.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, i) => 4096 * i));
    for (const puppet of puppets) {
      await puppet.run(({ session, state }) => {
        for (const block of state.blocks) session.free(block);
      });
    }
    expect(await puppets[0].run(({ session }) => session.alloc(65_536).byteOffset)).toBe(0);
  });
});

test("views over blocks are typed", () => {
  type Session = import("dsm").Session;
  // Compiled, not run: the type checker is what is tested.
  const check = (session: Session): void => {
    const bytes: Uint8Array<ArrayBuffer> = session.alloc(10);
    const floats: Float64Array<ArrayBuffer> = session.alloc(Float64Array, 10, { align: 64 });
    const data: DataView<ArrayBuffer> = session.named("d", DataView, 10);
    const grid: Float32Array<ArrayBuffer> = session.named("g", Float32Array, 10);
    // @ts-expect-error It needs a length.
    session.alloc(Float64Array);
    // @ts-expect-error An element of this one is a bigint.
    void session.waitFor(session.alloc(BigInt64Array, 1), 0, 0);
    // @ts-expect-error A float cannot be slept on.
    void session.waitFor(floats, 0, 0);
    void [bytes, data, grid];
  };
  expect(check).toBeFunction();
});
