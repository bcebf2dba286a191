/** session.readSync(): files and pipes into the shared memory, seen on another node. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster, type Puppet } from "./cluster.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.endPuppets());
afterAll(() => cluster[Symbol.asyncDispose]());

const content = Uint8Array.from({ length: 200_000 }, (_, i) => (i * 2654435761) >>> 13);

const bytes = (puppet: Puppet, offset: number, length: number): Promise<Uint8Array> =>
  puppet.run(
    async ({ session }, offset, length) => {
      await session.barrier();
      const copy = new Uint8Array(session.buffer.slice(offset, offset + length));
      await session.barrier();
      return copy;
    },
    offset,
    length,
  );

test("a file is read to where it is asked for, and the other node sees it", async () => {
  const [reader, other] = (await cluster.join({ processes: 2, nodes: 2, size: "512KiB" })) as [Puppet, Puppet];
  const path = join(cluster.environment.TMPDIR ?? "/tmp", `dsm-read-${process.pid}`);
  writeFileSync(path, content);
  const got = await reader.run(async ({ session }, path) => {
    const { openSync, closeSync, unlinkSync } = await import("node:fs");
    const file = openSync(path, "r");
    unlinkSync(path);
    const view = session.view(Uint16Array, 1000, 150_000);
    const got = [
      session.readSync(file, view, { length: 5 }),
      session.readSync(file, view, { offset: 5, length: 150_000 }),
      session.readSync(file, view, { offset: 160_000, length: 100, position: 7 }),
      session.readSync(file, view, { offset: 200_000, length: 100, position: 199_990n }),
      session.readSync(file, view, { offset: 210_000 }),
      session.readSync(file, view),
    ];
    closeSync(file);
    return got;
  }, path);
  expect(got).toEqual([5, 150_000, 100, 10, 49_995, 0]);
  const wanted = new Uint8Array(300_000);
  wanted.set(content.subarray(0, 150_005), 0);
  wanted.set(content.subarray(7, 107), 160_000);
  wanted.set(content.subarray(199_990), 200_000);
  wanted.set(content.subarray(150_005), 210_000);
  const [here, there] = await Promise.all([bytes(reader, 1000, 300_000), bytes(other, 1000, 300_000)]);
  expect(Buffer.compare(here, wanted)).toBe(0);
  expect(Buffer.compare(there, wanted)).toBe(0);
});

test("what cannot be read says why", async () => {
  const [alone] = (await cluster.join({ processes: 1 })) as [Puppet];
  const errors = await alone.run(async ({ session }) => {
    const { closeSync, openSync } = await import("node:fs");
    const view = session.view(Uint8Array, 100, 50);
    const directory = openSync("/", "r");
    const attempts = [
      () => session.readSync(directory, view),
      () => session.readSync(1_000_000, view),
      () => session.readSync(-1, view),
      () => session.readSync(directory, new Uint8Array(10)),
      () => session.readSync(directory, view, { offset: 51 }),
      () => session.readSync(directory, view, { offset: 10, length: 41 }),
      () => session.readSync(directory, view, { length: 0.5 }),
      () => session.readSync(directory, view, { position: -1 }),
    ];
    const messages = [];
    for (const attempt of attempts) {
      try {
        messages.push(`read ${attempt()}`);
      } catch (error) {
        messages.push(`${(error as { code: string }).code}: ${(error as Error).message}`);
      }
    }
    closeSync(directory);
    return messages.map((message) => message.replace(`descriptor ${directory} `, "descriptor N "));
  });
  expect(errors).toEqual([
    "DSM_SYSTEM: descriptor N cannot be read: EISDIR",
    "DSM_SYSTEM: descriptor 1000000 cannot be read: EBADF",
    "DSM_INVALID: -1 is not a file descriptor",
    "DSM_INVALID: the view is not over this session's buffer",
    "DSM_INVALID: -1 bytes at byte 51 cannot be read to; give whole numbers, 0 or more",
    "DSM_INVALID: 41 bytes at byte 10 are not in the view of 50 bytes",
    "DSM_INVALID: 0.5 bytes at byte 0 cannot be read to; give whole numbers, 0 or more",
    "DSM_INVALID: a file has no position -1",
  ]);
});

test("fs.readSync() reads into the map too, and elsewhere as ever", async () => {
  const [reader, other] = (await cluster.join({ processes: 2, nodes: 2, size: "64KiB" })) as [Puppet, Puppet];
  const path = join(cluster.environment.TMPDIR ?? "/tmp", `dsm-fs-read-${process.pid}`);
  writeFileSync(path, content);
  const got = await reader.run(async ({ session }, path) => {
    const { default: fs } = await import("node:fs");
    const file = fs.openSync(path, "r");
    fs.unlinkSync(path);
    const view = session.view(Uint8Array);
    const elsewhere = new Uint8Array(10);
    const got = [
      fs.readSync(file, view, 0, 5, null),
      fs.readSync(file, view, 5, 10, -1),
      fs.readSync(file, view, { offset: 15, length: 10, position: 100 }),
      fs.readSync(file, view.subarray(25, 45)),
      fs.readSync(file, elsewhere, 0, 10, 200),
      ...elsewhere,
    ];
    let refused = "";
    try {
      fs.readSync(file, view, 60_000, 10_000, null);
    } catch (error) {
      refused = (error as Error).message;
    }
    fs.closeSync(file);
    return { got, refused };
  }, path);
  expect(got.got).toEqual([5, 10, 10, 20, 10, ...content.subarray(200, 210)]);
  expect(got.refused).toBe("10000 bytes at byte 60000 are not in the view of 65536 bytes");
  const wanted = Uint8Array.of(...content.subarray(0, 15), ...content.subarray(100, 110), ...content.subarray(15, 35));
  const [here, there] = await Promise.all([bytes(reader, 0, 45), bytes(other, 0, 45)]);
  expect(here).toEqual(wanted);
  expect(there).toEqual(wanted);
});
