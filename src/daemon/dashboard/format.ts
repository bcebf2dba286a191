/** Formats of figures. */
import { formatCount } from "../../core/base/count.ts";
import { formatDuration } from "../../core/base/duration.ts";

/** wholeSeconds returns a duration that samples say to about a second: "< 1 s", "6 s", "1 min 05 s". */
export function wholeSeconds(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds === 0) return "< 1 s";
  return seconds < 60 ? `${seconds} s` : formatDuration(seconds * 1000);
}

/** short returns about three digits: "0.4", "12", "3,456", "12.3 k", "4.56 M". */
export function short(value: number): string {
  if (value === 0) return "0";
  if (value < 10) return value.toFixed(1);
  if (value < 9_999.5) return formatCount(value);
  for (const [unit, name] of [
    [1e3, "k"],
    [1e6, "M"],
    [1e9, "G"],
  ] as const) {
    if (value < unit * 999.5) return `${digits(value / unit)} ${name}`;
  }
  return `${digits(value / 1e12)} T`;
}

/** bytes returns such as "0 B", "512 B", "12.3 KiB", "1 MiB". */
export function bytes(value: number): string {
  let rest = value;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (rest < 1023.5) return `${unit === "B" ? Math.round(rest) : digits(rest)} ${unit}`;
    rest /= 1024;
  }
  return `${digits(rest)} TiB`;
}

function digits(value: number): string {
  if (Number.isInteger(value)) return String(value);
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

/** address returns an offset in the map as hexadecimal. */
export function address(offset: number): string {
  return `0x${offset.toString(16)}`;
}

export function percent(part: number): string {
  return `${Math.round(part * 100)} %`;
}
