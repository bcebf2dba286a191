/** Counts for people. */

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** formatCount returns all digits of a whole number in groups of three: "7", "34,607". */
export function formatCount(count: number): string {
  return grouped.format(count);
}

/** counted returns a count with its noun: "1 entry", "34,607 entries". `many` is the plural where "s" does not make it. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}
