/** The ring's lock, and the processes that may have it when they end. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileRingLock } from "../../src/arbiter/ring-lock.ts";
import { RING, RING_ARBITER, RING_HEADER_SIZE } from "../../src/core/wire/ring-layout.ts";
import { type FileLocks, fileLocks } from "../../src/transport/file-lock.ts";

const LOCK = RING.lock[0] / 4;
const locks = fileLocks as FileLocks;
let folder: string;
let map: number;
let words: Uint32Array;
let lock: FileRingLock;
const children: Bun.Subprocess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dsm-ring-lock-"));
  writeFileSync(join(folder, "map"), "");
  map = openSync(join(folder, "map"), "r+");
  words = new Uint32Array(RING_HEADER_SIZE / 4);
  lock = new FileRingLock(new Uint8Array(words.buffer), locks, map);
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
  closeSync(map);
  rmSync(folder, { recursive: true });
});

/** A process that has its byte of the map locked as ring.c does, and becomes another program for each line it reads. */
const HOLDER = `
import fcntl, os, struct, sys
map = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(map, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, int(sys.argv[2]), 1, 0))
print("locked", os.getpid(), flush=True)
sys.stdin.readline()
os.execvp("sleep", ["sleep", "1000"])
`;

async function holder(number: number, as: string[] = []): Promise<Bun.Subprocess<"pipe", "pipe">> {
  const child = Bun.spawn([...as, "python3", "-c", HOLDER, join(folder, "map"), String(number)], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  children.push(child);
  const { value } = await child.stdout.getReader().read();
  expect(new TextDecoder().decode(value)).toStartWith("locked");
  return child;
}

const mayUnshare = Bun.spawnSync(["unshare", "-p", "-f", "true"]).exitCode === 0;

/** Whether the arbiter would wait for that owner. */
const lives = (number: number): boolean => locks.isHeld(map, number);

test("is free, taken and free again", () => {
  expect(lock.acquire()).toBe(false);
  expect(words[LOCK]).toBe(RING_ARBITER);
  lock.release();
  expect(words[LOCK]).toBe(0);
});

test("is taken from a process that has ended, a zombie too, and from no other", async () => {
  const child = await holder(0x9000_0001);
  await holder(7);
  expect([lives(0x9000_0001), lives(7), lives(8)]).toEqual([true, true, false]);
  words[LOCK] = 0x9000_0001;
  // It stays a zombie until this test waits for it.
  child.kill("SIGKILL");
  expect(lock.acquire()).toBe(true);
  lock.release();
  await child.exited;
  words[LOCK] = 0x9000_0001;
  expect(lock.acquire()).toBe(true);
  expect(lives(7)).toBe(true);
});

test("is taken from a process that has become another program, which cannot store", async () => {
  const child = await holder(5);
  words[LOCK] = 5;
  child.stdin.write("\n");
  child.stdin.flush();
  expect(lock.acquire()).toBe(true);
  expect(child.exitCode).toBeNull();
});

test.skipIf(!mayUnshare)("is left to a process of another process namespace while it lives", async () => {
  const child = await holder(3, ["unshare", "-p", "-f", "--kill-child"]);
  expect(lives(3)).toBe(true);
  words[LOCK] = 3;
  child.kill("SIGKILL");
  expect(lock.acquire()).toBe(true);
});

test("is taken from a process that never came", () => {
  for (const owner of [1, 0x7fffffff, 0xfffffffe, process.pid]) {
    words[LOCK] = owner;
    expect(lock.acquire()).toBe(true);
    expect(words[LOCK]).toBe(RING_ARBITER);
  }
});
