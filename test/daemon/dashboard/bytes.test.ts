/** Bytes of the map as the dashboard shows them. */
import { expect, test } from "bun:test";
import { valueRows } from "../../../src/daemon/dashboard/bytes.ts";
import { bytes, percent, short, wholeSeconds } from "../../../src/daemon/dashboard/format.ts";

const view = new DataView(new ArrayBuffer(40));
view.setInt32(0, -2, true);
view.setInt32(4, 0x64636241, true);
view.setFloat64(8, -0, true);
view.setFloat64(16, 0.1, true);
view.setFloat64(24, Number.NaN, true);
view.setInt32(32, 2 ** 31 - 1, true);
const all = new Uint8Array(view.buffer);

test("i32, four a row, little-endian", () => {
  const rows = valueRows(all, 0x1000, "i32");
  expect(rows.map(({ offset }) => offset)).toEqual([0x1000, 0x1010, 0x1020]);
  expect(rows[0]?.values.slice(0, 2)).toEqual(["-2", String(0x64636241)]);
  expect(rows[2]?.values).toEqual(["2147483647", "0"]);
});

test("f64, two a row; what is too short for one is left out", () => {
  const rows = valueRows(all.subarray(8, 38), 8, "f64");
  expect(rows).toEqual([
    { offset: 8, values: ["-0", "0.1"], text: "" },
    { offset: 24, values: ["NaN"], text: "" },
  ]);
});

test("hex, eight a row, with the text", () => {
  expect(valueRows(all, 0, "hex")[0]).toEqual({
    ...{ offset: 0, values: ["fe", "ff", "ff", "ff", "41", "62", "63", "64"], text: "....Abcd" },
  });
});

test("bytes that begin inside a larger buffer", () => {
  expect(valueRows(all.subarray(4, 8), 4, "i32")).toEqual([{ offset: 4, values: [String(0x64636241)], text: "" }]);
});

test("figures", () => {
  expect([0, 0.44, 9.96, 12.4, 9_999, 12_345, 999_600, 4_560_000, 7.8e9, 1.2e12].map(short)).toEqual([
    ...["0", "0.4", "10.0", "12", "9,999", "12.3 k", "1.00 M", "4.56 M", "7.80 G", "1.20 T"],
  ]);
  expect([0, 1, 1_023, 1_024, 1_536, 1 << 20, 1.5 * 2 ** 30, 2 ** 42].map(bytes)).toEqual([
    ...["0 B", "1 B", "1023 B", "1 KiB", "1.50 KiB", "1 MiB", "1.50 GiB", "4 TiB"],
  ]);
  expect(percent(0.334)).toBe("33 %");
  expect([1, 499, 500, 6_200, 59_400, 59_600, 65_400].map(wholeSeconds)).toEqual([
    ...["< 1 s", "< 1 s", "1 s", "6 s", "59 s", "1 min 00 s", "1 min 05 s"],
  ]);
});
