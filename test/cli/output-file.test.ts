/** Files that commands make: whole or not there, and in the place of nothing but their own kind. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OutputFile, writeOutput } from "../../src/cli/files/output-file.ts";

const KIND = { what: "a list of dsm", isOne: (head: Buffer) => head.toString().startsWith("list "), mode: 0o640 };

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dsm-output-"));
  path = join(folder, "file");
});
afterEach(() => rmSync(folder, { recursive: true }));

const write = (text: string): void => writeOutput(path, KIND, text);

test("is there when it is whole", () => {
  const file = new OutputFile(path, KIND);
  file.write(Buffer.from("list "));
  expect(readdirSync(folder)).not.toContain("file");
  file.write(Buffer.from("of all"));
  file.finish();
  expect(readFileSync(path, "utf8")).toBe("list of all");
  expect(statSync(path).mode & 0o777).toBe(0o640);
  expect(readdirSync(folder)).toEqual(["file"]);
  // Nothing to abandon any more.
  file.abandon();
  expect(readdirSync(folder)).toEqual(["file"]);
});

test("has a name", () => {
  expect(() => new OutputFile("", KIND)).toThrow("the name of the file is empty");
});

test("leaves nothing when it is abandoned, and the old one as it was", () => {
  write("list 1");
  const file = new OutputFile(path, KIND);
  file.write(Buffer.from("list 2"));
  file.abandon();
  expect(readdirSync(folder)).toEqual(["file"]);
  expect(readFileSync(path, "utf8")).toBe("list 1");
});

test("replaces its own kind and keeps the mode, and takes an empty file", () => {
  for (const old of ["list 1", ""]) {
    writeFileSync(path, old);
    chmodSync(path, 0o604);
    write("list 2");
    expect(readFileSync(path, "utf8")).toBe("list 2");
    expect(statSync(path).mode & 0o777).toBe(0o604);
  }
});

describe("leaves as it is", () => {
  const cases: [string, () => void, string][] = [
    ["another file", () => writeFileSync(path, "a letter"), "is not a list of dsm"],
    ["a file shorter than any", () => writeFileSync(path, "l"), "is not a list of dsm"],
    ["a folder", () => mkdirSync(path), "is a folder"],
    ["a link to one of its kind", () => link("list 1"), "is a symbolic link"],
    ["a link to nothing", () => symlinkSync(join(folder, "none"), path), "is a symbolic link"],
    ["a pipe", () => expect(Bun.spawnSync(["mkfifo", path]).exitCode).toBe(0), "is not a regular file"],
  ];
  const link = (text: string): void => {
    writeFileSync(join(folder, "target"), text);
    symlinkSync(join(folder, "target"), path);
  };
  for (const [what, make, reason] of cases) {
    test(what, () => {
      make();
      const { ino, mode, size } = lstatSync(path);
      const before = readdirSync(folder);
      expect(() => write("list 2")).toThrow(`${path} ${reason}, and stays as it is; give another file`);
      expect(lstatSync(path)).toMatchObject({ ino, mode, size });
      expect(readdirSync(folder)).toEqual(before);
    });
  }

  test("a device", () => {
    expect(() => writeOutput("/dev/null", KIND, "list 2")).toThrow("/dev/null is not a regular file");
    expect(lstatSync("/dev/null").isCharacterDevice()).toBe(true);
  });

  for (const [what, begin, meanwhile] of [
    ["nothing", () => {}, () => writeFileSync(path, "a letter")],
    ["nothing, of its kind", () => {}, () => writeFileSync(path, "list 3")],
    ["one of its kind", () => writeFileSync(path, "list 1"), () => replaced("list 3")],
    ["one of its kind, as a link", () => writeFileSync(path, "list 1"), () => linked()],
  ] as const) {
    test(`a file that came while it was written, where there was ${what}`, () => {
      begin();
      const file = new OutputFile(path, KIND);
      file.write(Buffer.from("list 2"));
      meanwhile();
      const now = readFileSync(path, "utf8");
      expect(() => file.finish()).toThrow(path);
      file.abandon();
      expect(readFileSync(path, "utf8")).toBe(now);
      expect(readdirSync(folder).filter((name) => name.endsWith(".part"))).toEqual([]);
    });
  }
  const replaced = (text: string): void => {
    writeFileSync(`${path}.new`, text);
    expect(Bun.spawnSync(["mv", `${path}.new`, path]).exitCode).toBe(0);
  };
  const linked = (): void => {
    rmSync(path);
    symlinkSync("target", path);
    writeFileSync(join(folder, "target"), "list 3");
    expect(readlinkSync(path)).toBe("target");
  };
});
