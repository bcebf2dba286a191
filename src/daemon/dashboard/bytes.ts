/** Bytes of the map as rows of little-endian values. */

export type Reading = "i32" | "f64" | "hex";

export const READINGS: Record<Reading, { label: string; size: number; perRow: number }> = {
  i32: { label: "i32", size: 4, perRow: 4 },
  f64: { label: "f64", size: 8, perRow: 2 },
  hex: { label: "hex", size: 1, perRow: 8 },
};

export interface ValueRow {
  offset: number;
  values: string[];
  /** For hex: the bytes as ASCII, with "." for those that are not printable. */
  text: string;
}

/** valueRows returns rows of values. It leaves out bytes at the end of the map that are no whole value. */
export function valueRows(bytes: Uint8Array, offset: number, reading: Reading): ValueRow[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const { size, perRow } = READINGS[reading];
  const rows: ValueRow[] = [];
  for (let at = 0; at + size <= bytes.length; at += size * perRow) {
    const values: string[] = [];
    for (let i = 0; i < perRow && at + (i + 1) * size <= bytes.length; i++)
      values.push(value(view, at + i * size, reading));
    rows.push({ offset: offset + at, values, text: reading === "hex" ? ascii(bytes.subarray(at, at + perRow)) : "" });
  }
  return rows;
}

function value(view: DataView, at: number, reading: Reading): string {
  if (reading === "i32") return String(view.getInt32(at, true));
  if (reading === "hex") return view.getUint8(at).toString(16).padStart(2, "0");
  const number = view.getFloat64(at, true);
  return Object.is(number, -0) ? "-0" : String(number);
}

function ascii(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
}
