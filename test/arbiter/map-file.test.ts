/** The map's file, and which files are taken for left over from arbiters that were killed. */
import { afterEach, expect, test } from "bun:test";
import { closeSync, existsSync, lstatSync, openSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createMap, removeMap, removeStaleMaps } from "../../src/arbiter/map-file.ts";
import { PAGE_SIZE } from "../../src/core/limits.ts";
import { type FileLocks, fileLocks } from "../../src/link/file-lock.ts";

const locks = fileLocks as FileLocks;
const made: string[] = [];
afterEach(() => {
  for (const path of made.splice(0)) rmSync(path, { force: true });
});

/** The name of a map of ours, as an arbiter gives it; `random` tells several apart. */
function nameOf(random: string): string {
  const path = `/dev/shm/dsm-${process.getuid?.()}-test${process.pid}-${random.repeat(16)}`;
  made.push(path);
  return path;
}

test("a map is there while its arbiter has it, also before it has any bytes", () => {
  const map = createMap(`test${process.pid}`, PAGE_SIZE, false);
  made.push(map.path);
  const begun = nameOf("a");
  writeFileSync(begun, "");
  const descriptor = openSync(begun, "r+");
  expect(locks.lock(descriptor)).toBe(true);
  removeStaleMaps();
  expect([existsSync(map.path), existsSync(begun)]).toEqual([true, true]);
  closeSync(descriptor);
  removeStaleMaps();
  expect([existsSync(map.path), existsSync(begun)]).toEqual([true, false]);
  removeMap(map);
  expect(existsSync(map.path)).toBe(false);
});

test("it has all its memory, and all of it is zero", () => {
  const map = createMap(`test${process.pid}`, 5 * PAGE_SIZE, true);
  made.push(map.path);
  const { size, blocks, mode } = lstatSync(map.path);
  expect(blocks * 512).toBeGreaterThanOrEqual(size);
  expect(mode & 0o777).toBe(0o600);
  expect(map.bytes.length).toBe(5 * PAGE_SIZE);
  expect([map.bytes, map.atomics, map.ring as Uint8Array].every((part) => part.every((byte) => byte === 0))).toBe(true);
  removeMap(map);
});

const mayUnshare = Bun.spawnSync(["unshare", "-p", "-f", "true"]).exitCode === 0;

/** Locks the file as an arbiter does, says so, and ends when told to. */
const OWNER = `
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
`;

for (const [where, as] of [
  ["of this process namespace", []],
  ["of another process namespace", ["unshare", "-p", "-f", "--kill-child"]],
] as const) {
  test.skipIf(as.length > 0 && !mayUnshare)(`one of an arbiter ${where} stays until that has been killed`, async () => {
    const path = nameOf("b");
    writeFileSync(path, "map");
    const owner = Bun.spawn([...as, "python3", "-c", OWNER, path], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    try {
      await owner.stdout.getReader().read();
      removeStaleMaps();
      expect(existsSync(path)).toBe(true);
    } finally {
      owner.kill("SIGKILL");
      await owner.exited;
    }
    // The kernel takes a moment to end what was in a namespace.
    while (locks.lock(openOnce(path)) === false) await Bun.sleep(5);
    closeOnce();
    removeStaleMaps();
    expect(existsSync(path)).toBe(false);
  });
}

let once = -1;
function openOnce(path: string): number {
  closeOnce();
  once = openSync(path, "r+");
  return once;
}
function closeOnce(): void {
  if (once >= 0) closeSync(once);
  once = -1;
}

test("what has another name, or is no file, is left alone", () => {
  const target = nameOf("c");
  writeFileSync(target, "");
  const locked = openSync(target, "r+");
  locks.lock(locked);
  const link = nameOf("d");
  symlinkSync(target, link);
  const unlocked = `${nameOf("e")}-unlocked`;
  const older = `/dev/shm/dsm-${process.getuid?.()}-test${process.pid}-1-2`;
  made.push(unlocked, older);
  for (const path of [unlocked, older]) writeFileSync(path, "");
  removeStaleMaps();
  expect(
    [link, unlocked, older, target].map((path) => lstatSync(path, { throwIfNoEntry: false }) !== undefined),
  ).toEqual([true, true, true, true]);
  closeSync(locked);
});
