/** dsm snapshot, and sessions that begin with one. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, existsSync, lstatSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, DSM, eventually } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const leave = async (...actors: Actor[]): Promise<void> =>
  void (await Promise.all(actors.map((actor) => actor.leave())));

let files = 0;
function newFile(): string {
  files += 1;
  return join(cluster.folder, `snapshot-${files}`);
}

/** Takes a snapshot and returns its file. */
async function take(session: string): Promise<string> {
  const file = newFile();
  const { code, stdout, stderr } = await cluster.dsm(["snapshot", session, file]);
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toMatch(/^session "[^"]+" after [\d,]+ entries: [\d.]+ \w+ in \//);
  return file;
}

/** Starts a server with the snapshot; it ends with its session. */
async function restore(file: string, session: string, ...more: string[]): Promise<{ exited: Promise<number> }> {
  const server = cluster.spawn([DSM, "server", "--restore", file, "--session", session, ...more], { session });
  await eventually("it has registered", async () => (await cluster.sessions()).some(({ name }) => name === session));
  return server;
}

for (const order of ["sequential", "release", "pipelined"]) {
  test(`${order}: memory, blocks, semaphores and locks are as they were, on every node, and no process is joined`, async () => {
    const environment = { DSM_ORDER: order, DSM_ON_LOSS: "continue" };
    const [a, b] = (await cluster.actors(["a", "b"], { environment, size: "64MiB" })) as [Actor, Actor];
    await a.do("alloc 5000");
    const grid = await b.number("named grid 65536");
    await b.do("stos 0 100 7");
    await b.do("store 8 67108856 123456789");
    await b.do(`publish 40000000 3000000 9`);
    await b.do("fence");
    await a.do("post three 2");
    await a.do("wait none 1");
    await a.do("lock held");
    await b.do("lock free");
    await b.do("unlock free");
    const address = (await a.do("describe")).split(" ")[2];
    const file = await take(a.session);
    // What is zero is not in it.
    expect(statSync(file).size).toBeGreaterThan(3_000_000);
    expect(statSync(file).size).toBeLessThan(4_000_000);
    // What comes later is not, either.
    await a.do("stos 0 100 1");
    await leave(a, b);

    const server = await restore(file, "again");
    const { ranks, processes, order: restored } = await cluster.status("again");
    expect({ ranks, processes, restored }).toEqual({ ranks: [], processes: 2, restored: order as never });
    const options = { session: "again", environment: { DSM_ON_LOSS: "continue" }, size: "64MiB" };
    const again = (await cluster.actors(["x", "y"], options)) as [Actor, Actor];
    for (const actor of again) {
      expect((await actor.do("describe")).split(" ")[2]).toBe(address as string);
      expect(await actor.number("count 0 100 7")).toBe(100);
      expect(await actor.number("load 8 67108856")).toBe(123456789);
      expect(await actor.number("count 40000000 3000000 9")).toBe(3_000_000);
      expect(await actor.number("count 100 39999900 0")).toBe(39_999_900);
      expect(await actor.number("named grid 65536")).toBe(grid);
    }
    const [x, y] = again;
    for (let i = 0; i < 3; i += 1) await y.do("try three 0");
    expect(await y.ask("try three 0")).toMatch(/^DSM_AGAIN /);
    expect(await y.ask("try none 5")).toMatch(/^DSM_AGAIN /);
    expect(await y.ask("trylock held")).toMatch(/^DSM_OWNER_DIED process 0 /);
    expect(await y.ask("trylock free")).toBe("ok");
    // Allocation goes on beside what was given out.
    const block = await x.number("alloc 5000");
    expect(block >= 5000 && (block + 5000 <= grid || block >= grid + 65536)).toBe(true);
    await x.do("store 4 0 1");
    await Promise.all([x.do("barrier"), y.do("barrier")]);
    expect(await y.number("load 4 0")).toBe(1);
    await leave(x, y);
    expect(await server.exited).toBe(0);
  });
}

const EARLIER = join(import.meta.dir, "snapshots");
for (const name of readdirSync(EARLIER).filter((name) => !name.endsWith(".md"))) {
  test(`a snapshot that ${name} has written can be restored`, async () => {
    const session = cluster.session();
    const server = await restore(join(EARLIER, name), session);
    expect((await cluster.status(session)).elastic).toBe(name.endsWith("-elastic"));
    const options = { session, environment: { DSM_ORDER: "release", DSM_ON_LOSS: "continue" }, size: "64KiB" };
    const [x, y] = (await cluster.actors(["x", "y"], options)) as [Actor, Actor];
    for (const actor of [x, y]) {
      expect(await actor.number("count 0 100 7")).toBe(100);
      expect(await actor.number("count 100 65428 0")).toBe(65_428);
      expect(await actor.number("load 8 65528")).toBe(123456789);
      expect(await actor.number("named grid 8192")).toBe(5056);
    }
    for (let i = 0; i < 3; i += 1) await y.do("try three 0");
    expect(await y.ask("try three 0")).toMatch(/^DSM_AGAIN /);
    expect(await y.ask("try none 5")).toMatch(/^DSM_AGAIN /);
    expect(await y.ask("trylock held")).toMatch(/^DSM_OWNER_DIED process 0 /);
    expect(await y.ask("trylock free")).toBe("ok");
    const block = await x.number("alloc 5000");
    expect(block >= 5056 + 8192 || block + 5000 <= 5056).toBe(true);
    await leave(x, y);
    expect(await server.exited).toBe(0);
  });
}

test("a snapshot is one moment of the order, while others write all the time", async () => {
  // Each process fills the whole map with one byte after the other, each time as one entry.
  const SIZE = 4 << 20;
  const [a, b] = (await cluster.actors(["a", "b"], { size: "4MiB" })) as [Actor, Actor];
  let round = 0;
  let isEnough = false;
  const write = async (actor: Actor, first: number): Promise<void> => {
    for (let i = 0; !isEnough; i = (i + 1) % 100) {
      await actor.do(`publish 0 ${SIZE} ${first + i}`);
      round += 1;
    }
  };
  const writing = Promise.all([write(a, 1), write(b, 101)]);
  const taken = [];
  for (let i = 0; i < 4; i += 1) {
    // Of the time before, one more of each may be under way.
    const next = round + 3;
    await eventually("both write on", () => round >= next);
    taken.push(await take(a.session));
  }
  isEnough = true;
  await writing;
  await leave(a, b);
  const seen = new Set<number>();
  for (const [i, file] of taken.entries()) {
    const server = await restore(file, `moment-${i}`, "--processes", "1");
    const [actor] = (await cluster.actors(["x"], { session: `moment-${i}`, size: "4MiB" })) as [Actor];
    const value = await actor.number("load 1 0");
    seen.add(value);
    expect(await actor.number(`count 0 ${SIZE} ${value}`)).toBe(SIZE);
    await leave(actor);
    expect(await server.exited).toBe(0);
  }
  // Zero if nothing had been written.
  expect([...seen]).not.toContain(0);
});

test("dsm run --restore begins with it, with another number of processes, and in direct mode", async () => {
  const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
  await a.do("store 8 64 42");
  const file = await take(a.session);
  await leave(a, b);
  const program = join(cluster.folder, "read.ts");
  writeFileSync(
    program,
    `import { join } from "dsm";
     await using session = await join();
     const value = session.view(BigUint64Array)[8];
     await session.barrier();
     console.log(session.rank, session.processes, session.direct, session.size, String(value));`,
  );
  for (const [options, line] of [
    [["--nodes", "2"], "2 false 65536 42"],
    [["-n", "3"], "3 true 65536 42"],
  ] as const) {
    const { code, stdout, stderr } = await cluster.dsm(["run", "--restore", file, ...options, "--", program]);
    expect([code, stderr]).toEqual([0, ""]);
    const lines = stdout.trim().split("\n");
    expect(lines.map((one) => one.slice(2))).toEqual(lines.map(() => line));
    expect(lines).toHaveLength(Number(line[0]));
  }
  // A program that joins nothing leaves no server behind.
  expect(await cluster.dsm(["run", "--restore", file, "--", "true"])).toMatchObject({ code: 0, stderr: "" });
  expect(cluster.processes("server")).toEqual([]);
  const wrong = await cluster.dsm(["run", "--restore", file, "--size", "1MiB", "--", "true"]);
  expect(wrong).toMatchObject({ code: 1, stderr: "dsm: the snapshot has a map of 64 KiB, not 1 MiB\n" });
});

describe("the file", () => {
  const stays: [string, string[], RegExp][] = [
    [
      "another program's file",
      ["sh", "-c", `printf "another program's\\n" > "$0"`],
      / is not a snapshot of dsm, and stays as it is/,
    ],
    ["a pipe", ["mkfifo"], / is not a regular file, and stays/],
    ["a device", ["sh", "-c", 'mknod "$0" c 1 3'], / is not a regular file, and stays/],
    ["a folder", ["mkdir"], / is a folder, and stays/],
    [
      "a link to a file",
      ["sh", "-c", 'echo other > "$0.target"; ln -s "$0.target" "$0"'],
      / is a symbolic link, and stays/,
    ],
    ["a link to nothing", ["ln", "-s", "nowhere"], / is a symbolic link, and stays/],
  ];
  test("of another kind, a link, a device, a pipe or a folder stays as it is", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    for (const [what, make, reason] of stays) {
      const file = newFile();
      expect((await cluster.command([...make, file])).code).toBe(0);
      const before = lstatSync(file);
      const { code, stdout, stderr } = await cluster.dsm(["snapshot", a.session, file]);
      expect({ what, code, stdout }).toEqual({ what, code: 1, stdout: "" });
      expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
      expect(stderr).toMatch(reason);
      expect(lstatSync(file)).toMatchObject({ ino: before.ino, mode: before.mode, size: before.size });
    }
    expect(readdirSync(cluster.folder).filter((name) => name.endsWith(".part"))).toEqual([]);
    await leave(a, b);
  });

  test("of a snapshot before is replaced and keeps its mode, and an empty one is taken", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    const file = await take(a.session);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    chmodSync(file, 0o640);
    const old = readFileSync(file);
    await a.do("store 8 64 42");
    await a.do("fence");
    expect((await cluster.dsm(["snapshot", a.session, file])).code).toBe(0);
    expect(statSync(file).mode & 0o777).toBe(0o640);
    expect(readFileSync(file).equals(old)).toBe(false);
    const empty = newFile();
    writeFileSync(empty, "");
    expect((await cluster.dsm(["snapshot", a.session, empty])).code).toBe(0);
    expect(readFileSync(empty).equals(readFileSync(file))).toBe(true);
    await leave(a, b);
  });

  test("named - is standard output, with nothing else on it", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    const file = newFile();
    const said = await cluster.command(["sh", "-c", '"$0" snapshot "$1" - | cat > "$2"', DSM, a.session, file]);
    expect(said.stdout).toBe("");
    expect(said.stderr).toMatch(/^dsm: session "[^"]+" after [\d,]+ entries: [\d.]+ \w+\n$/);
    const other = await take(a.session);
    expect(readFileSync(file).equals(readFileSync(other))).toBe(true);
    expect(readdirSync(cluster.folder)).not.toContain("-");
    expect(await cluster.dsm(["snapshot", a.session, "-", "--json"])).toMatchObject({ code: 2, stdout: "" });
    const full = await cluster.command(["sh", "-c", '"$0" snapshot "$1" - > /dev/full', DSM, a.session]);
    expect(full.code).toBe(1);
    expect(full.stderr).toMatch(/^dsm: standard output cannot be written: ENOSPC[^\n]*\n$/);
    const closed = await cluster.command(["sh", "-c", '"$0" snapshot "$1" - >&-', DSM, a.session]);
    const stderr = "dsm: standard output cannot be written: it is closed; send it to a file or a program\n";
    expect(closed).toMatchObject({ code: 1, stderr });
    await leave(a, b);
  });

  test("is not left half done by a signal", async () => {
    const [a, b] = (await cluster.actors(["a", "b"], { size: "64MiB" })) as [Actor, Actor];
    await a.do(`publish 0 ${64 << 20} 9`);
    const file = newFile();
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      const child = cluster.spawn([DSM, "snapshot", a.session, file], { session: a.session });
      const parts = (): string[] => readdirSync(cluster.folder).filter((name) => name.endsWith(".part"));
      await eventually("it has begun", async () => parts().length > 0);
      child.kill(signal);
      await child.exited;
      expect(parts()).toEqual([]);
    }
    await leave(a, b);
  });
});

describe("refused, with the reason:", () => {
  test("a pipe to begin with, without waiting for a writer", async () => {
    const pipe = newFile();
    expect((await cluster.command(["mkfifo", pipe])).code).toBe(0);
    const { code, stderr } = await cluster.dsm(["server", "--restore", pipe]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: `dsm: ${pipe} is not a snapshot of dsm\n` });
  });

  test("files that are damaged, cut short, or something else", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    await a.do("stos 0 65536 7");
    const good = readFileSync(await take(a.session));
    await leave(a, b);
    const headSize = 16 + 32 + good.readUInt32LE(12);
    const flipped = (at: number): Buffer => {
      const bytes = Buffer.from(good);
      bytes[at] = (bytes[at] as number) ^ 1;
      return bytes;
    };
    const cases: [string, Buffer, RegExp][] = [
      ["empty", Buffer.alloc(0), /is not a snapshot of dsm/],
      ["foreign", readFileSync(import.meta.path), /is not a snapshot of dsm/],
      ["of another version", flipped(8), /is of version 0; this dsm reads version 1/],
      ["with a head that was changed", flipped(60), /is damaged: its image is not what was written/],
      [
        "with a byte changed in the map",
        flipped(headSize + 20_000),
        /is damaged: a piece of its map is not what was written/,
      ],
      ["with a length changed", flipped(headSize + 2), /is damaged: /],
      ["with another checksum", flipped(good.length - 1), /is damaged: its checksum does not fit/],
      ["longer", Buffer.concat([good, Buffer.from("x")]), /is damaged: there is something behind its end/],
      ["cut in the head", good.subarray(0, 100), /is damaged: it ends too early/],
      ["cut in the map", good.subarray(0, headSize + 1000), /is damaged: it ends too early/],
      ["cut at the end", good.subarray(0, -1), /is damaged: it ends too early/],
    ];
    const file = newFile();
    for (const [what, bytes, message] of cases) {
      writeFileSync(file, bytes);
      const { code, stdout, stderr } = await cluster.dsm(["server", "--restore", file]);
      expect({ what, code, stdout }).toEqual({ what, code: 1, stdout: "" });
      expect(stderr).toMatch(message);
      expect(stderr.trim().split("\n")).toHaveLength(1);
    }
    const absent = await cluster.dsm(["run", "--restore", `${file}.none`, "--", "true"]);
    expect([absent.code, absent.stderr]).toEqual([1, expect.stringContaining("cannot be read: ENOENT")]);
    expect(await cluster.sessions()).toEqual([]);
  });

  test("sessions that are not there or in direct mode, and places that cannot be written", async () => {
    const [a] = (await cluster.actors(["a"])) as [Actor];
    const file = newFile();
    expect(await cluster.dsm(["snapshot", "nobody", file])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('there is no session "nobody"'),
    });
    expect(await cluster.dsm(["snapshot", a.session, file])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        "is in direct mode: the server does not have its bytes; run it with DSM_DIRECT=0",
      ),
    });
    await leave(a);
    const [c, d] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    const { code, stderr } = await cluster.dsm(["snapshot", c.session, join(cluster.folder, "no", "such")]);
    expect([code, stderr]).toEqual([1, expect.stringContaining("cannot be written: ENOENT")]);
    await leave(c, d);
    expect(existsSync(file)).toBe(false);
    expect(readdirSync(cluster.folder).filter((name) => name.endsWith(".part"))).toEqual([]);
  });
});
