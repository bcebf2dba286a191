/** Holes: private until filled, then exactly the changed bytes, published as one entry. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const PAGE = 4096;

/** Two processes on one node and one on another. */
async function three(size = "64KiB"): Promise<[Actor, Actor, Actor]> {
  return (await cluster.actors(["a", "a", "b"], { size })) as [Actor, Actor, Actor];
}

async function leave(actors: Actor[]): Promise<void> {
  await Promise.all(actors.map((actor) => actor.leave()));
}

/** Bytes the session has published: stores, atomics and filled holes. */
const published = async (actor: Actor): Promise<number> => (await cluster.status(actor.session)).bytes;
const entries = async (actor: Actor): Promise<number> => (await cluster.status(actor.session)).entries;

describe("what is written in a hole", () => {
  for (const [name, offset, length] of [
    ["of whole pages", PAGE, 2 * PAGE],
    ["inside one page", PAGE + 100, 50],
    ["over the edge of two pages", 2 * PAGE - 20, 40],
    ["of whole pages and parts of the pages beside them", PAGE - 10, 2 * PAGE + 20],
    ["of one byte", 77, 1],
    ["that is the whole map", 0, 16 * PAGE],
    ["at the end of the map", 16 * PAGE - 3, 3],
  ] as const) {
    test(`${name} is the process's own until it is filled`, async () => {
      const [a, neighbour, b] = await three();
      await b.do(`stos ${offset} ${length} 1`);
      await a.do("load 1 0");
      const hole = await a.number(`dig ${offset} ${length}`);
      const before = await published(a);
      await a.do(`stos ${offset} ${length} 2`);
      expect(await a.number(`count ${offset} ${length} 2`)).toBe(length);
      for (const other of [neighbour, b]) expect(await other.number(`count ${offset} ${length} 1`)).toBe(length);
      expect(await published(a)).toBe(before);
      const entriesBefore = await entries(a);
      await a.do(`fill ${hole}`);
      expect(await entries(a)).toBe(entriesBefore + 1);
      expect(await published(a)).toBe(before + length);
      for (const actor of [a, neighbour, b]) {
        expect(await actor.number(`count ${offset} ${length} 2`)).toBe(length);
        expect(await actor.number("count 0 65536 2")).toBe(length);
      }
      await leave([a, neighbour, b]);
    });
  }
});

test("only changed bytes are published: what others wrote beside them in the meantime stays", async () => {
  const [a, neighbour, b] = await three();
  const hole = await a.number(`dig 0 ${4 * PAGE}`);
  // Even bytes by the hole's owner, odd ones by the others, in the pages the owner has copies of.
  for (let i = 0; i < 20; i += 1) {
    await a.do(`store 1 ${PAGE + 2 * i} ${100 + i}`);
    await (i % 2 === 0 ? neighbour : b).do(`store 1 ${PAGE + 2 * i + 1} ${200 + i}`);
  }
  // The same byte by both: the fill comes later in the order.
  await a.do("store 1 0 11");
  await b.do("store 1 0 12");
  // Written, but with the value it had: not changed, so not published.
  await a.do("store 1 8 0");
  await b.do("store 1 8 13");
  const before = await published(a);
  await a.do(`fill ${hole}`);
  expect(await published(a)).toBe(before + 21);
  for (const actor of [a, neighbour, b]) {
    for (let i = 0; i < 20; i += 1) {
      expect(await actor.number(`load 1 ${PAGE + 2 * i}`)).toBe(100 + i);
      expect(await actor.number(`load 1 ${PAGE + 2 * i + 1}`)).toBe(200 + i);
    }
    expect(await actor.number("load 1 0")).toBe(11);
    expect(await actor.number("load 1 8")).toBe(13);
  }
  await leave([a, neighbour, b]);
});

describe("in a page that a hole covers in part", () => {
  test("the owner sees what others write outside the hole, and its own stores there are shared", async () => {
    const [a, neighbour, b] = await three();
    const hole = await a.number(`dig ${PAGE - 64} ${PAGE + 128}`);
    let value = 1;
    // Before the hole in its first page, and behind it in its last.
    for (const offset of [PAGE - 72, 64, 2 * PAGE + 64, 3 * PAGE - 8]) {
      for (const [writer, readers] of [
        [neighbour, [a, b]],
        [b, [a, neighbour]],
        [a, [neighbour, b]],
      ] as const) {
        await writer.do(`store 8 ${offset} ${value}`);
        for (const reader of [writer, ...readers]) expect(await reader.number(`load 8 ${offset}`)).toBe(value);
        value += 1;
      }
    }
    // And atomics and publications of others.
    await b.do("add 64 5");
    expect(await a.number("load 8 64")).toBe(value - 7 + 5);
    const other = await b.number("dig 0 32");
    await b.do("store 8 0 77");
    await b.do(`fill ${other}`);
    expect(await a.number("load 8 0")).toBe(77);
    await a.do(`fill ${hole}`);
    await leave([a, neighbour, b]);
  });

  test("stores across its edge are shared outside and private inside", async () => {
    const [a, , b] = await three().then(async (all) => {
      await all[1].leave();
      return all;
    });
    const hole = await a.number("dig 1000 9000");
    await a.do("store 8 996 0x1111111122222222");
    await a.do("vector 32 9984 0x33");
    expect(await b.number("load 4 996")).toBe(0x22222222);
    expect(await b.number("load 4 1000")).toBe(0);
    expect(await b.number("count 9984 32 0x33")).toBe(16);
    expect(await b.number("count 10000 16 0x33")).toBe(16);
    expect(await a.number("count 9984 32 0x33")).toBe(32);
    await a.do(`fill ${hole}`);
    expect(await b.number("load 4 1000")).toBe(0x11111111);
    expect(await b.number("count 9984 32 0x33")).toBe(32);
    await leave([a, b]);
  });

  test("two holes of one process, adjoining, are filled one without the other", async () => {
    const [a, neighbour, b] = await three();
    const low = await a.number("dig 100 100");
    const high = await a.number("dig 200 100");
    await a.do("store 8 196 0x0807060504030201"); // across the two
    expect(await b.number("load 8 196")).toBe(0);
    await a.do(`fill ${high}`);
    expect(await b.number("load 4 196")).toBe(0);
    expect(await b.number("load 4 200")).toBe(0x08070605);
    // What is filled follows the order again, beside the hole that is still open.
    await neighbour.do("store 4 200 9");
    expect(await a.number("load 4 200")).toBe(9);
    await a.do("store 4 204 10");
    expect(await b.number("load 4 204")).toBe(10);
    expect(await a.number("load 4 196")).toBe(0x04030201);
    await a.do(`fill ${low}`);
    expect(await b.number("load 4 196")).toBe(0x04030201);
    await leave([a, neighbour, b]);
  });

  test("adjoining holes of different processes do not disturb each other", async () => {
    const [a, neighbour, b] = await three();
    const holes = await Promise.all([
      a.number("dig 0 1000"),
      neighbour.number("dig 1000 1000"),
      b.number("dig 2000 2096"),
    ]);
    await Promise.all([a.do("stos 0 1000 1"), neighbour.do("stos 1000 1000 2"), b.do("stos 2000 2096 3")]);
    for (const [actor, byte, length] of [
      [a, 1, 1000],
      [neighbour, 2, 1000],
      [b, 3, 2096],
    ] as const) {
      expect(await actor.number(`count 0 4096 ${byte}`)).toBe(length);
      expect(await actor.number("count 0 4096 0")).toBe(4096 - length);
    }
    await neighbour.do(`fill ${holes[1]}`);
    for (const actor of [a, b]) expect(await actor.number("count 0 4096 2")).toBe(1000);
    await Promise.all([a.do(`fill ${holes[0]}`), b.do(`fill ${holes[2]}`)]);
    for (const actor of [a, neighbour, b]) {
      expect(await actor.number("count 0 1000 1")).toBe(1000);
      expect(await actor.number("count 1000 1000 2")).toBe(1000);
      expect(await actor.number("count 2000 2096 3")).toBe(2096);
    }
    await leave([a, neighbour, b]);
  });
});

test("64 holes can be open at once, and be filled in any order", async () => {
  const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
  const holes: number[] = [];
  for (let i = 0; i < 64; i += 1) holes.push(await a.number(`dig ${i * 700} 700`));
  expect(await a.ask("dig 60000 1")).toMatch(/^DSM_LIMIT .*64/);
  for (let i = 0; i < 64; i += 1) await a.do(`stos ${i * 700} 700 ${i + 1}`);
  expect(await b.number("count 0 65536 0")).toBe(65536);
  for (let i = 0; i < 64; i += 1) {
    const which = (i * 37) % 64;
    await a.do(`fill ${holes[which]}`);
    expect(await b.number(`count ${which * 700} 700 ${which + 1}`)).toBe(700);
    expect(await b.number("count 0 65536 0")).toBe(65536 - (i + 1) * 700);
  }
  await leave([a, b]);
});

test("a hole of several MiB is published in parts but as one", async () => {
  const [a, b] = (await cluster.actors(["a", "b"], { size: "12MiB" })) as [Actor, Actor];
  const [offset, length] = [PAGE - 1, 9 << 20];
  const hole = await a.number(`dig ${offset} ${length}`);
  await a.do(`stos ${offset} ${length} 6`);
  await b.do("store 1 0 5");
  const [entriesBefore, bytesBefore] = [await entries(a), await published(a)];
  await a.do(`fill ${hole}`);
  expect(await entries(a)).toBe(entriesBefore + 1);
  expect(await published(a)).toBe(bytesBefore + length);
  expect(await b.number(`count 0 ${12 << 20} 6`)).toBe(length);
  expect(await b.number(`count ${offset} ${length} 6`)).toBe(length);
  expect(await a.number("load 1 0")).toBe(5);
  await leave([a, b]);
});

test("fills of several MiB by two nodes at once do not mix", async () => {
  const [a, b] = (await cluster.actors(["a", "b"], { size: "4MiB" })) as [Actor, Actor];
  for (let round = 1; round <= 3; round += 1) {
    const [mine, yours] = await Promise.all([a.number(`dig 0 ${4 << 20}`), b.number(`dig 0 ${4 << 20}`)]);
    await Promise.all([a.do(`stos 0 ${4 << 20} ${2 * round}`), b.do(`stos 0 ${4 << 20} ${2 * round + 1}`)]);
    await Promise.all([a.do(`fill ${mine}`), b.do(`fill ${yours}`)]);
    // One came last, and all bytes are its.
    const winner = await a.number("load 1 0");
    expect([2 * round, 2 * round + 1]).toContain(winner);
    for (const actor of [a, b]) expect(await actor.number(`count 0 ${4 << 20} ${winner}`)).toBe(4 << 20);
  }
  await leave([a, b]);
});

test("sparse changes over a large hole publish only the changed bytes", async () => {
  const [a, b] = (await cluster.actors(["a", "b"], { size: "8MiB" })) as [Actor, Actor];
  const hole = await a.number(`dig 0 ${8 << 20}`);
  const before = await published(a);
  // The very first page first, and then all over.
  for (let i = 0; i < 100; i += 1) await a.do(`store 1 ${i * 83_777 + (i % 7)} ${i + 1}`);
  await a.do(`fill ${hole}`);
  expect(await published(a)).toBe(before + 100);
  await b.do("load 1 0");
  for (let i = 0; i < 100; i += 1) expect(await b.number(`peek 1 ${i * 83_777 + (i % 7)}`)).toBe(i + 1);
  expect(await b.number(`count 0 ${8 << 20} 0`)).toBe((8 << 20) - 100);
  // Every other byte changed: the worst there can be.
  await a.do(`dig 0 ${1 << 20}`);
  for (let i = 0; i < 200; i += 1) await a.do(`store 1 ${2 * i} 255`);
  await a.do(`fill ${hole + 1}`);
  expect(await b.number("count 0 400 255")).toBe(200);
  await leave([a, b]);
});

describe("every kind of access works in a hole", () => {
  for (const [name, offset] of [
    ["in whole pages", 2 * PAGE],
    ["in a part of a page", 512],
  ] as const) {
    test(name, async () => {
      const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
      await b.do(`store 8 ${offset} 40`);
      await a.do("load 1 0");
      const hole = await a.number(`dig ${offset} ${name === "in whole pages" ? 2 * PAGE : 1024}`);
      expect(await a.number(`add ${offset} 2`)).toBe(40);
      expect(await a.number(`thread add ${offset} 3`)).toBe(42);
      await a.do(`vector 16 ${offset + 16} 1`);
      await a.do(`vector 64 ${offset + 101} 1`);
      await a.do(`stos ${offset + 200} 50 1`);
      await a.do(`movs ${offset + 301} ${offset + 16} 16`);
      await a.do(`thread store 2 ${offset + 400} 0x0101`);
      expect(await a.number(`count ${offset} 1024 1`)).toBe(16 + 64 + 50 + 16 + 2);
      expect(await b.number(`load 8 ${offset}`)).toBe(40);
      expect(await b.number("count 0 65536 1")).toBe(0);
      await a.do(`thread fill ${hole}`);
      expect(await b.number(`load 8 ${offset}`)).toBe(45);
      expect(await b.number(`count ${offset} 1024 1`)).toBe(16 + 64 + 50 + 16 + 2);
      await leave([a, b]);
    });
  }

  test("an atomic operation across a hole's edge ends the process with a message", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    await a.do("dig 100 200");
    void a.ask("add 96 1");
    const { signal, stderr } = await a.end();
    expect(signal).toBe("SIGBUS");
    expect(stderr).toBe("dsm: an atomic operation across the edge of a hole is not possible\n");
    expect(await b.ask("barrier")).toMatch(/^DSM_LOST /);
    await b.do("leave");
  });
});

test("a string instruction that runs into and out of holes writes each byte where it belongs", async () => {
  const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
  const first = await a.number(`dig 300 ${PAGE}`);
  const second = await a.number(`dig ${2 * PAGE} ${PAGE}`);
  await a.do(`stos 0 ${4 * PAGE} 7`);
  expect(await a.number(`count 0 ${4 * PAGE} 7`)).toBe(4 * PAGE);
  expect(await b.number(`count 0 ${4 * PAGE} 7`)).toBe(2 * PAGE);
  await a.do(`fill ${first}`);
  expect(await b.number(`count 0 ${4 * PAGE} 7`)).toBe(3 * PAGE);
  await a.do(`fill ${second}`);
  expect(await b.number(`count 0 ${4 * PAGE} 7`)).toBe(4 * PAGE);
  await leave([a, b]);
});

test("threads may write into a hole while another thread fills it: nothing is lost", async () => {
  await cluster.runWell([cluster.program("holes"), "threads"], {
    session: cluster.session(),
    nodes: ["a", "b"],
    size: "1MiB",
  });
});

test.each(["sequential", "pipelined", "release"])(
  "threads see their own stores, while another thread makes holes of their page: %s",
  async (order) => {
    await cluster.runWell([cluster.program("holes"), "page"], {
      ...{ session: cluster.session(), nodes: ["a", "b"], size: "64KiB", environment: { DSM_ORDER: order } },
    });
  },
);

test("a hole may be written in more places than the kernel allows mappings", async () => {
  await cluster.runWell([cluster.program("holes"), "scattered"], {
    ...{ session: cluster.session(), nodes: ["a", "b"], size: "384MiB" },
  });
});

test("a process that may have no further mapping gets no hole in direct mode, rather than one that is not private", async () => {
  await cluster.runWell([cluster.program("holes"), "mappings"], {
    ...{ session: cluster.session(), nodes: ["a"], size: "1MiB" },
  });
});

test("random writes through random holes by 4 processes on 2 nodes end as the sequential program has them", async () => {
  const said = await cluster.runWell([cluster.program("holes"), "random"], {
    ...{ session: cluster.session(), nodes: ["a", "a", "b", "b"], size: "64KiB" },
  });
  expect(new Set(said).size).toBe(1);
});

test("a process that leaves with open holes drops them, and its copy shows the session's state", async () => {
  const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
  await b.do("store 8 100 3");
  await b.do(`store 8 ${PAGE} 4`);
  await a.do("load 1 0");
  await a.do(`dig 90 ${2 * PAGE}`);
  await a.do("store 8 100 5");
  await a.do(`store 8 ${PAGE} 6`);
  await a.do("leave");
  expect(await b.number("load 8 100")).toBe(3);
  expect(await b.number(`load 8 ${PAGE}`)).toBe(4);
  expect(await a.number("peek 8 100")).toBe(3);
  expect(await a.number(`peek 8 ${PAGE}`)).toBe(4);
  await b.leave();
});

describe("bad holes", () => {
  test("are refused, and change nothing", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    for (const [command, reason] of [
      ["dig 0 0", "DSM_INVALID the hole is empty; give it 1 byte or more"],
      [
        "dig 65536 1",
        "DSM_INVALID a hole of 1 bytes at byte 65536 is not inside the map of 65536 bytes; give the map at least 65KiB; try --size 128KiB (DSM_SIZE=128KiB)",
      ],
      [
        "dig 65535 2",
        "DSM_INVALID a hole of 2 bytes at byte 65535 is not inside the map of 65536 bytes; give the map at least 65KiB; try --size 128KiB (DSM_SIZE=128KiB)",
      ],
      ["dig -1 1", "DSM_INVALID the hole is not inside the map of 65536 bytes"],
      [
        "dig 1 0xffffffffffffffff",
        "DSM_INVALID a hole of 18446744073709551615 bytes at byte 1 is not inside the map of 65536 bytes; a map has at most 4 GiB",
      ],
      ["fill 1", "DSM_INVALID there is no hole 1; was it filled before?"],
      ["fill 0", "DSM_INVALID there is no hole 0; was it filled before?"],
    ] as const) {
      expect(await a.ask(command)).toBe(reason);
    }
    const hole = await a.number("dig 100 100");
    for (const [offset, length] of [
      [100, 100],
      [150, 1],
      [0, 101],
      [199, 500],
      [0, 65536],
    ]) {
      expect(await a.ask(`dig ${offset} ${length}`)).toBe(
        `DSM_INVALID the hole overlaps hole ${hole}; fill that one first`,
      );
    }
    await a.do("store 1 150 1");
    await a.do(`fill ${hole}`);
    expect(await a.ask(`fill ${hole}`)).toBe(`DSM_INVALID there is no hole ${hole}; was it filled before?`);
    expect(await b.number("load 1 150")).toBe(1);
    // The place can be dug again.
    const again = await a.number("dig 100 100");
    await a.do("store 1 151 2");
    await a.do(`fill ${again}`);
    expect(await b.number("load 1 151")).toBe(2);
    await leave([a, b]);
  });
});
