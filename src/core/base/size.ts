/** Sizes of memory as people write and read them, and as whole pages. */
import { DsmError } from "./errors.ts";
import { PAGE_SIZE, SIZE_MAX } from "./limits.ts";

const UNITS: Record<string, number> = {
  "": 1,
  b: 1,
  kib: 2 ** 10,
  k: 2 ** 10,
  mib: 2 ** 20,
  m: 2 ** 20,
  gib: 2 ** 30,
  g: 2 ** 30,
};

/** Parses a number of bytes: "65536", "64KiB", "1.5 MiB", "1g". Units are powers of 1024. Throws DSM_INVALID. */
export function parseSize(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  const unit = match ? UNITS[(match[2] ?? "").toLowerCase()] : undefined;
  if (!match || unit === undefined) {
    throw new DsmError("DSM_INVALID", `size "${text}" is not a number of bytes; write 65536, 64KiB, 16MiB or 1GiB`);
  }
  const bytes = Number(match[1]) * unit;
  if (bytes > Number.MAX_SAFE_INTEGER) {
    throw new DsmError("DSM_INVALID", `size "${text}" is beyond the limit of ${formatSize(SIZE_MAX)}`);
  }
  if (!Number.isSafeInteger(bytes)) throw new DsmError("DSM_INVALID", `size "${text}" is not a whole number of bytes`);
  return bytes;
}

/** The reason why `size` is not a valid map size, or null. */
export function checkSize(size: number): string | null {
  if (size > SIZE_MAX) return `size ${exactSize(size)} is beyond the limit of ${formatSize(SIZE_MAX)}`;
  if (size < 1) return `size ${size} is not possible; a map has 1 byte or more`;
  if (!Number.isSafeInteger(size)) return `size ${size} is not a whole number of bytes`;
  return null;
}

/** Whole pages that hold `size` bytes. */
export function pageRound(size: number): number {
  return Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
}

/** A size as a value of --size that is not smaller: whole KiB or MiB. */
export function sizeOption(bytes: number): string {
  const [unit, value] = bytes < 2 ** 20 ? ["KiB", 2 ** 10] : ["MiB", 2 ** 20];
  return `${Math.ceil(bytes / (value as number))}${unit}`;
}

/** What is wrong where a process asks for another size than its session has; it follows "session NAME". */
export function sizeMismatch(size: number, wished: number): string {
  const both = sizeOption(Math.max(size, wished));
  return (
    `has a map of ${exactSize(size)}, not ${exactSize(wished)}; ` +
    `give all processes the same size (--size ${both}, or DSM_SIZE=${both})`
  );
}

const LARGE_UNITS = [
  ["GiB", 2 ** 30],
  ["MiB", 2 ** 20],
  ["KiB", 2 ** 10],
] as const;

/**
 * A size that a message quotes, such as "8 GiB", "1.5 MiB" or "65537 bytes": in a unit only if that needs no rounding, so
 * that two sizes that differ look different. native/src/base/size.c writes the same.
 */
export function exactSize(bytes: number): string {
  const unit =
    Number.isSafeInteger(bytes) && LARGE_UNITS.find(([, value]) => bytes >= value && bytes % (value / 2) === 0);
  return unit ? `${bytes / unit[1]} ${unit[0]}` : `${bytes} byte${bytes === 1 ? "" : "s"}`;
}

/** A size for people, rounded to one decimal. */
export function formatSize(bytes: number): string {
  for (const [unit, value] of LARGE_UNITS) {
    if (bytes >= value) return `${Number((bytes / value).toFixed(1))} ${unit}`;
  }
  return `${bytes} B`;
}
