/** Names, numbers of processes, addresses: what is accepted, and what is made of them. */
import { describe, expect, test } from "bun:test";
import { NAME_MAX, PROCESSES_MAX } from "../../src/core/base/limits.ts";
import {
  arbiterKey,
  arbiterSocketPath,
  checkName,
  checkProcesses,
  fnv1a64,
  formatAddress,
  isLoopback,
  parseAddress,
} from "../../src/core/base/names.ts";

describe("checkName", () => {
  test.each([
    "a",
    "my session",
    "grün",
    "x".repeat(NAME_MAX),
    "é".repeat(31),
    "..a",
    "a:b?c#d%20",
    "🦊",
    "a\u00a0b",
    "می\u200cخواهم",
  ])("takes %j", (name) => {
    for (const kind of ["session", "node", "semaphore", "block"] as const) expect(checkName(kind, name)).toBeNull();
  });

  test.each([
    ["", "is empty"],
    ["x".repeat(NAME_MAX + 1), "has 64 bytes; the limit is 63"],
    ["é".repeat(32), "has 64 bytes"],
    ["a/b", "slash"],
    ["/", "slash"],
    ["a\0b", "control character"],
    ["a\nb", "control character"],
    ["\x7f", "control character"],
    ...[0x01, 0x1b, 0x80, 0x85, 0x9b, 0x9f, 0x61c, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202e, 0x2066, 0x2069].map(
      (code): [string, string] => [
        `a${String.fromCodePoint(code)}b`,
        `control character (U+${code.toString(16).toUpperCase().padStart(4, "0")})`,
      ],
    ),
    ["\ufffd", "not valid UTF-8"],
    ["\ud83d", "not valid UTF-8"],
    ["a\udc00b", "not valid UTF-8"],
    [".", 'is "."'],
    ["..", 'is ".."'],
  ])("refuses %j", (name, why) => {
    for (const kind of ["session", "node", "semaphore", "block"] as const) {
      expect(checkName(kind, name)).toContain(`the ${kind} name`);
      expect(checkName(kind, name)).toContain(why);
      expect(checkName(kind, name)).not.toContain("\n");
    }
  });
});

test("checkProcesses", () => {
  expect(checkProcesses(1)).toBeNull();
  expect(checkProcesses(PROCESSES_MAX)).toBeNull();
  for (const processes of [0, -1, 0.5]) expect(checkProcesses(processes)).toContain("a session has 1 or more");
  for (const processes of [1.5, Number.NaN]) expect(checkProcesses(processes)).toContain("give a whole number");
  for (const processes of [PROCESSES_MAX + 1, 2 ** 53 + 2, 1e300, Number.POSITIVE_INFINITY]) {
    expect(checkProcesses(processes)).toBe(`processes is ${processes}; the limit is ${PROCESSES_MAX}`);
  }
});

test("fnv1a64 gives the published values", () => {
  expect(fnv1a64("")).toBe("cbf29ce484222325");
  expect(fnv1a64("a")).toBe("af63dc4c8601ec8c");
  expect(fnv1a64("foobar")).toBe("85944171f73967e8");
});

test("an arbiter's socket is named by daemon, session and node", () => {
  const paths = new Set(
    [
      ["h:1", "s", "n"],
      ["h:2", "s", "n"],
      ["h:1", "t", "n"],
      ["h:1", "s", "m"],
      ["h:1", "sn", ""],
    ].map(([daemon, session, node]) => arbiterSocketPath("/run", daemon!, session!, node!)),
  );
  expect(paths.size).toBe(5);
  expect(arbiterSocketPath("/run", "h:1", "s", "n")).toBe(`/run/a-${arbiterKey("h:1", "s", "n")}.sock`);
  expect(arbiterKey("h:1", "s", "n")).toBe(fnv1a64("h:1\ns\nn"));
});

describe("addresses", () => {
  test.each([
    ["127.0.0.1:4200", "127.0.0.1", 4200],
    ["localhost:1", "localhost", 1],
    ["a-b.example:65535", "a-b.example", 65535],
    ["[::1]:4200", "::1", 4200],
    ["[fe80::1]:80", "fe80::1", 80],
  ])("%s is read and written back", (text, host, port) => {
    expect(parseAddress(text)).toEqual({ host, port });
    expect(formatAddress(host, port)).toBe(text);
  });

  test.each([
    "",
    "localhost",
    ":4200",
    "localhost:",
    "localhost:0",
    "localhost:65536",
    "localhost:-1",
    "localhost:4200x",
    "::1:4200",
    "[::1]",
    "[]:1",
    "a b:1",
    "http://a:1",
    "a:1\n",
  ])("%j is no address", (text) => {
    expect(parseAddress(text)).toBeNull();
  });

  test("loopback", () => {
    for (const host of ["localhost", "127.0.0.1", "127.9.8.7", "::1"]) expect(isLoopback(host)).toBe(true);
    for (const host of ["0.0.0.0", "10.0.0.1", "127.0.0.1.example", "::", "example"])
      expect(isLoopback(host)).toBe(false);
  });
});
