/** Holes of the package: what is seen of them, and when. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster, type Puppet } from "./cluster.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(180_000);

let cluster: Cluster;

beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.endPuppets());
afterAll(() => cluster[Symbol.asyncDispose]());

const two = async (size: string | number = "64KiB"): Promise<[Puppet, Puppet]> =>
  (await cluster.join({ processes: 2, nodes: 2, size })) as [Puppet, Puppet];

/** Sums of parts of the map as both processes see them after a barrier. */
const sums = (puppets: Puppet[], ...ends: number[]): Promise<number[][]> =>
  Promise.all(
    puppets.map((puppet) =>
      puppet.run(async ({ session }, ends) => {
        await session.barrier();
        const bytes = new Uint8Array(session.buffer);
        const sums = ends.slice(1).map((end, i) => bytes.subarray(ends[i], end).reduce((sum, byte) => sum + byte, 0));
        await session.barrier();
        return sums;
      }, ends),
    ),
  );

test("what is written in a hole is seen by others when it is filled, what is written beside it at once", async () => {
  const puppets = await two();
  const [first, second] = puppets;
  // From the middle of a page, over whole pages, to the middle of a page.
  await first.run(({ session, state }) => {
    const bytes = session.view(Uint8Array);
    state.hole = session.hole(bytes.subarray(100, 20_000));
    bytes.fill(1, 0, 20_100);
  });
  expect(await sums(puppets, 0, 100, 20_000, 20_100)).toEqual([
    [100, 19_900, 100],
    [100, 0, 100],
  ]);
  // Another process writes into the same place meanwhile: bytes that the hole did not change stay as they are.
  await second.run(({ session }) => void session.view(Uint8Array).fill(5, 20_100, 20_200));
  await first.run(({ state }) => state.hole.fill());
  expect(await sums(puppets, 0, 100, 20_000, 20_100, 20_200)).toEqual([
    [100, 19_900, 100, 500],
    [100, 19_900, 100, 500],
  ]);
});

test("only bytes that changed are published", async () => {
  const puppets = await two();
  const [first, second] = puppets;
  await first.run(({ session, state }) => {
    state.hole = session.hole({ offset: 0, length: 8192 });
    const bytes = session.view(Uint8Array);
    bytes[10] = 1;
    bytes[5000] = 2;
  });
  await second.run(({ session }) => void session.view(Uint8Array).fill(7, 0, 8192));
  await first.run(({ state }) => state.hole.fillSync());
  const expected = [7 * 10, 1, 7 * 4989, 2, 7 * 3191];
  expect(await sums(puppets, 0, 10, 11, 5000, 5001, 8192)).toEqual([expected, expected]);
});

test("filling a large hole leaves the event loop free", async () => {
  const puppets = await two("32MiB");
  const [first] = puppets;
  const order = await first.run(async ({ session }) => {
    const words = session.view(Uint32Array);
    const hole = session.hole(words);
    words.fill(0x01010101);
    const order: string[] = [];
    const filling = hole.fill().then(() => order.push("filled"));
    await new Promise((resolve) => setTimeout(resolve, 0));
    order.push("timer");
    await filling;
    return order;
  });
  expect(order).toEqual(["timer", "filled"]);
  expect(await sums(puppets, 0, 2 ** 25)).toEqual([[2 ** 25], [2 ** 25]]);
});

test("leaving waits for holes being filled, and drops open ones", async () => {
  const puppets = await two("8MiB");
  const [first, second] = puppets;
  const busy = await first.run(async ({ session }) => {
    const bytes = session.view(Uint8Array);
    session.hole({ offset: 0, length: 4096 });
    const hole = session.hole({ offset: 4096, length: 2 ** 22 });
    bytes.fill(1);
    const filling = hole.fill();
    let busy = "none";
    try {
      session.leaveSync();
    } catch (error) {
      busy = (error as import("dsm").DsmError).code;
    }
    await session.leave();
    await filling;
    return busy;
  });
  expect(busy).toBe("DSM_BUSY");
  expect(await sums([second], 0, 4096, 4096 + 2 ** 22, 2 ** 23)).toEqual([[0, 2 ** 22, 2 ** 22 - 4096]]);
});

test("a hole is filled at the end of its scope", async () => {
  const puppets = await two();
  await puppets[0].run(async ({ session, load }) => (await load("scopes.ts")).holes(session));
  const expected = [10, 20, 30, 40, 0];
  expect(await sums(puppets, 0, 10, 20, 30, 40, 100)).toEqual([expected, expected]);
});

test("bad holes", async () => {
  const [puppet] = (await cluster.join({ processes: 1 })) as [Puppet];
  const codes = await puppet.run(async ({ session }) => {
    const codes: string[] = [];
    const attempt = async (call: () => unknown): Promise<void> => {
      try {
        await call();
        codes.push("none");
      } catch (error) {
        codes.push((error as import("dsm").DsmError).code);
      }
    };
    const hole = session.hole({ offset: 100, length: 100 });
    await attempt(() => session.hole({ offset: 0, length: 0 }));
    await attempt(() => session.hole({ offset: -1, length: 10 }));
    await attempt(() => session.hole({ offset: 65_536, length: 1 }));
    await attempt(() => session.hole({ offset: 65_000, length: 1000 }));
    await attempt(() => session.hole({ offset: 0, length: 0.5 }));
    await attempt(() => session.hole(new Uint8Array(100)));
    await attempt(() => session.hole({ offset: 150, length: 100 }));
    await hole.fill();
    await attempt(() => hole.fill());
    await attempt(() => hole.fillSync());
    for (let i = 0; i < 64; i += 1) session.hole({ offset: 1024 * i, length: 1000 });
    await attempt(() => session.hole({ offset: 1010, length: 1 }));
    return codes;
  });
  expect(codes).toEqual([...new Array(9).fill("DSM_INVALID"), "DSM_LIMIT"]);
});
