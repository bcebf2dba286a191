/** The ring's lock, and the processes that may have it when they end. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { FileRingLock } from "../../src/arbiter/ring-lock.ts";
import { RING, RING_HEADER_SIZE } from "../../src/core/wire/ring-layout.ts";

const LOCK = RING.lock[0] / 4;
let words: Uint32Array;
let lock: FileRingLock;
let idle: Bun.Subprocess;

beforeEach(() => {
  words = new Uint32Array(RING_HEADER_SIZE / 4);
  lock = new FileRingLock(new Uint8Array(words.buffer), "/dev/shm/dsm-of-nobody");
  idle = Bun.spawn(["sleep", "1000"]);
});
afterEach(() => idle.kill("SIGKILL"));

test("is free, taken and free again", () => {
  expect(lock.acquire()).toBe(false);
  expect(words[LOCK]).toBe(process.pid);
  lock.release();
  expect(words[LOCK]).toBe(0);
});

test("is taken from a process that has ended, whether somebody has collected it or not", async () => {
  expect(lock.admit(idle.pid)).toBe(true);
  words[LOCK] = idle.pid;
  // Nobody collects it while we are at it: it stays as a zombie until this test waits.
  idle.kill("SIGKILL");
  expect(lock.acquire()).toBe(true);
  lock.release();
  await idle.exited;
  words[LOCK] = idle.pid;
  expect(lock.acquire()).toBe(true);
  expect(lock.admit(idle.pid)).toBe(false);
});

test("is taken from a process that has become another program, which has not mapped the file", () => {
  expect(lock.admit(idle.pid)).toBe(true);
  words[LOCK] = idle.pid;
  expect(lock.acquire()).toBe(true);
});

test("is taken from who never came", () => {
  for (const owner of [1, 0x7fffffff, 0xffffffff, process.pid]) {
    words[LOCK] = owner;
    expect(lock.acquire()).toBe(true);
    expect(words[LOCK]).toBe(process.pid);
  }
});
