/** Libraries are loaded from a directory into which no other user can write. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { placeInCache } from "../../src/cli/install/assets.ts";
import { needs } from "../support/needs.ts";

const STRANGER = 65534;
/** Only root makes files of other users. */
const { test: testAsRoot } = needs("root");
const testFor = (what: string) => (what.includes("another user") ? testAsRoot : test);
const FILES = { "libdsm.so": Buffer.from("the library"), "preload.js": Buffer.from("the script") };
const VERSION = "0123456789abcdef";

const { XDG_CACHE_HOME, TMPDIR, XDG_RUNTIME_DIR } = process.env;
const kept = { XDG_CACHE_HOME, TMPDIR, XDG_RUNTIME_DIR };
let folder: string;
let cache: string;
/** Where it goes when the cache is no place. */
let temporary: string;
beforeEach(() => {
  folder = mkdtempSync("/tmp/dsm-assets-");
  cache = join(folder, "cache");
  temporary = join(folder, "tmp");
  mkdirSync(cache, { mode: 0o700 });
  mkdirSync(temporary);
  chmodSync(temporary, 0o1777);
  process.env.XDG_CACHE_HOME = cache;
  process.env.TMPDIR = temporary;
  delete process.env.XDG_RUNTIME_DIR;
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
  for (const [name, value] of Object.entries(kept)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});

const inCache = (...names: string[]): string => join(cache, "dsm", VERSION, ...names);
const inTemporary = (...names: string[]): string => join(temporary, `dsm-${process.geteuid?.()}`, VERSION, ...names);

/** It is in that directory, complete, and no other user can change it. */
function expectPlaced(at: string): void {
  expect(placeInCache(VERSION, FILES)).toBe(at);
  expect(readdirSync(at).sort()).toEqual(Object.keys(FILES).sort());
  for (const path of [at, join(at, "..")]) expect(lstatSync(path).mode & 0o7777).toBe(0o700);
  for (const [name, content] of Object.entries(FILES)) {
    const { mode, uid } = lstatSync(join(at, name));
    expect([mode & 0o170000, uid, mode & 0o022]).toEqual([0o100000, process.geteuid?.() ?? -1, 0]);
    expect(readFileSync(join(at, name)).equals(content)).toBe(true);
  }
}

test("valid existing files are used again", () => {
  expectPlaced(inCache());
  const { ino, ctimeMs } = lstatSync(inCache("libdsm.so"));
  expectPlaced(inCache());
  expect(lstatSync(inCache("libdsm.so"))).toMatchObject({ ino, ctimeMs });
});

describe("in the place of a file", () => {
  const planted = (): string => inCache("libdsm.so");
  for (const [what, plant] of [
    ["other bytes of the same length", () => writeFileSync(planted(), "the liar ry", { mode: 0o700 })],
    ["half of it", () => writeFileSync(planted(), "the lib")],
    ["a file of another user", () => chownSync(planted(), STRANGER, STRANGER)],
    ["a file that the group can write", () => chmodSync(planted(), 0o770)],
    ["a file that all can write", () => chmodSync(planted(), 0o702)],
  ] as const) {
    testFor(what)(`${what} is replaced`, () => {
      expectPlaced(inCache());
      plant();
      expectPlaced(inCache());
    });
  }

  test("a link is replaced, and not followed, even to the right bytes", () => {
    expectPlaced(inCache());
    const elsewhere = join(folder, "elsewhere");
    for (const content of ["mine", FILES["libdsm.so"]]) {
      writeFileSync(elsewhere, content);
      rmSync(planted());
      symlinkSync(elsewhere, planted());
      expectPlaced(inCache());
      expect(readFileSync(elsewhere).equals(Buffer.from(content))).toBe(true);
    }
  });

  testAsRoot("a hard link to a file of another user is replaced, and the file left alone", () => {
    expectPlaced(inCache());
    const theirs = join(folder, "theirs");
    writeFileSync(theirs, "theirs");
    chownSync(theirs, STRANGER, STRANGER);
    rmSync(planted());
    linkSync(theirs, planted());
    expectPlaced(inCache());
    expect(readFileSync(theirs, "utf8")).toBe("theirs");
  });

  test("a pipe does not hold us up", () => {
    expectPlaced(inCache());
    rmSync(planted());
    expect(Bun.spawnSync(["mkfifo", planted()]).exitCode).toBe(0);
    expectPlaced(inCache());
  });

  test("a folder is an error that says what to do", () => {
    expectPlaced(inCache());
    rmSync(planted());
    mkdirSync(planted());
    expect(() => placeInCache(VERSION, FILES)).toThrow(/libdsm\.so cannot be written: .*; set XDG_CACHE_HOME/);
    expect(readdirSync(inCache()).sort()).toEqual(Object.keys(FILES).sort());
  });
});

describe("nothing is put or looked for", () => {
  const theirs = (): string => join(folder, "theirs");
  for (const [where, plant] of [
    [
      "behind a link in the place of our folder",
      () => {
        mkdirSync(theirs());
        symlinkSync(theirs(), join(cache, "dsm"));
      },
    ],
    [
      "behind a link in the place of our version's folder",
      () => {
        mkdirSync(theirs());
        mkdirSync(join(cache, "dsm"), { mode: 0o700 });
        symlinkSync(theirs(), inCache());
      },
    ],
    [
      "in a folder of another user",
      () => {
        mkdirSync(join(cache, "dsm"), { mode: 0o700 });
        chownSync(join(cache, "dsm"), STRANGER, STRANGER);
      },
    ],
    [
      "in a version's folder of another user",
      () => {
        mkdirSync(inCache(), { recursive: true, mode: 0o700 });
        chownSync(inCache(), STRANGER, STRANGER);
      },
    ],
    [
      "in a folder that others can enter",
      () => {
        mkdirSync(join(cache, "dsm"));
        chmodSync(join(cache, "dsm"), 0o711);
      },
    ],
    [
      "in a folder that the group can write to",
      () => {
        mkdirSync(join(cache, "dsm"));
        chmodSync(join(cache, "dsm"), 0o770);
      },
    ],
    ["under a folder that the group can write to", () => chmodSync(cache, 0o770)],
    ["under a folder that all can write to", () => chmodSync(cache, 0o707)],
    ["under a folder of another user", () => chownSync(cache, STRANGER, STRANGER)],
    [
      "under a file",
      () => {
        rmSync(cache, { recursive: true });
        writeFileSync(cache, "");
      },
    ],
    [
      "under a link that leads through another user's folder",
      () => {
        mkdirSync(join(theirs(), "cache"), { recursive: true, mode: 0o700 });
        chownSync(theirs(), STRANGER, STRANGER);
        rmSync(cache, { recursive: true });
        symlinkSync(join(theirs(), "cache"), cache);
      },
    ],
  ] as [string, () => unknown][]) {
    testFor(where)(where, () => {
      plant();
      expectPlaced(inTemporary());
      if (existsSync(theirs())) expect(readdirSync(theirs(), { recursive: true })).not.toContain("libdsm.so");
    });
  }

  testAsRoot("anywhere, when /tmp has a directory of our name that belongs to another user", () => {
    chmodSync(cache, 0o707);
    const taken = join(temporary, `dsm-${process.geteuid?.()}`);
    mkdirSync(taken, { mode: 0o700 });
    chownSync(taken, STRANGER, STRANGER);
    expect(() => placeInCache(VERSION, FILES)).toThrow(
      /^no folder for the libraries: .*cache can be written to by others; .* belongs to user 65534; set XDG_CACHE_HOME/,
    );
    expect(readdirSync(taken)).toEqual([]);
  });
});

test("a cache that is a link to a good folder of our own is one", () => {
  const moved = join(folder, "moved");
  mkdirSync(moved, { mode: 0o700 });
  rmSync(cache, { recursive: true });
  symlinkSync(moved, cache);
  expectPlaced(join(moved, "dsm", VERSION));
  expect(readlinkSync(cache)).toBe(moved);
});
