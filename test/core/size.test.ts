/** Sizes as people write them. */
import { describe, expect, test } from "bun:test";
import { DsmError } from "../../src/core/base/errors.ts";
import { PAGE_SIZE, SIZE_MAX } from "../../src/core/base/limits.ts";
import { checkSize, exactSize, formatSize, pageRound, parseSize } from "../../src/core/base/size.ts";

describe("parseSize", () => {
  test.each([
    ["0", 0],
    ["65536", 65536],
    ["64KiB", 65536],
    ["64 kib", 65536],
    ["1k", 1024],
    ["1.5 MiB", 1.5 * 2 ** 20],
    ["  2M ", 2 ** 21],
    ["1g", 2 ** 30],
    ["1GiB", 2 ** 30],
    ["12b", 12],
    ["0.5k", 512],
  ])("%j is %d", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each([
    "",
    " ",
    "x",
    "-1",
    "+1",
    "1.5",
    "1e3",
    "0x10",
    "1KB",
    "1 T",
    "1,5k",
    "k",
    ".5k",
    "1.k",
    "NaN",
    "1constructor",
    "99999999999999999999",
    "0.3k",
    "1e300",
    "Infinity",
    "-0",
  ])("%j is refused", (text) => {
    expect(() => parseSize(text)).toThrow(DsmError);
    expect(() => parseSize(text)).toThrow(`size "${text}"`);
  });
});

test("checkSize", () => {
  expect(checkSize(1)).toBeNull();
  expect(checkSize(SIZE_MAX)).toBeNull();
  for (const size of [0, -0, -1, -1e300, 0.5, Number.NEGATIVE_INFINITY]) {
    expect(checkSize(size)).toBe(`size ${size} is not possible; a map has 1 byte or more`);
  }
  for (const size of [1.5, Number.NaN]) expect(checkSize(size)).toBe(`size ${size} is not a whole number of bytes`);
  for (const size of [SIZE_MAX + 1, 2 ** 53 + 2, 1e300, Number.POSITIVE_INFINITY]) {
    expect(checkSize(size)).toBe(`size ${size} bytes is beyond the limit of 4 GiB`);
  }
});

test("sizes that messages quote have a unit where that is exact", () => {
  expect(checkSize(8 * 2 ** 30)).toBe("size 8 GiB is beyond the limit of 4 GiB");
  for (const [bytes, text] of [
    [0, "0 bytes"],
    [1, "1 byte"],
    [1023, "1023 bytes"],
    [1024, "1 KiB"],
    [1536, "1.5 KiB"],
    [1537, "1537 bytes"],
    [65536, "64 KiB"],
    [2 ** 20 + 1024, "1025 KiB"],
    [1.5 * 2 ** 20, "1.5 MiB"],
    [4 * 2 ** 30, "4 GiB"],
    [4 * 2 ** 30 + 1, "4294967297 bytes"],
  ] as const) {
    expect(exactSize(bytes)).toBe(text);
  }
});

test("a size beyond any number says so", () => {
  for (const text of ["9007199254740993", "99999999999999999999", "18014398509481984KiB", `1${"0".repeat(400)}`]) {
    expect(() => parseSize(text)).toThrow(`size "${text}" is beyond the limit of 4 GiB`);
  }
});

test("pageRound gives whole pages", () => {
  expect(pageRound(1)).toBe(PAGE_SIZE);
  expect(pageRound(PAGE_SIZE)).toBe(PAGE_SIZE);
  expect(pageRound(PAGE_SIZE + 1)).toBe(2 * PAGE_SIZE);
  expect(pageRound(SIZE_MAX - 1)).toBe(SIZE_MAX);
});

test("formatSize is for people, and parseSize reads it back", () => {
  expect(formatSize(0)).toBe("0 B");
  expect(formatSize(1023)).toBe("1023 B");
  expect(formatSize(1024)).toBe("1 KiB");
  expect(formatSize(1536)).toBe("1.5 KiB");
  expect(formatSize(2 ** 20)).toBe("1 MiB");
  expect(formatSize(SIZE_MAX)).toBe("4 GiB");
  for (const bytes of [1, 1024, 65536, 2 ** 20, 2 ** 32]) expect(parseSize(formatSize(bytes))).toBe(bytes);
});
