/** For tests of what is read from JSON: every place in a message, and the message with something else in that place. */

export type Path = (string | number)[];

/** Paths of all values that are not objects, the arrays and objects themselves included. */
export function paths(value: unknown, path: Path = []): Path[] {
  if (typeof value !== "object" || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, inner]) => paths(inner, [...path, key]))];
}

/** The value in that place of the message. */
export const valueAt = (message: unknown, path: Path): unknown =>
  path.reduce<unknown>((at, key) => (at as Record<string, unknown>)[key as string], message);

/** Whether an older version of dsm leaves out that field, so that a message without it is taken. */
export const mayBeLeftOut = (path: Path): boolean => path.at(-1) === "activity" || path.at(-1) === "heat";

/** The message as JSON, with `lie` in that place. */
export function replaced(message: unknown, path: Path, lie: unknown): string {
  if (path.length === 0) return JSON.stringify(lie) ?? "";
  const copy = structuredClone(message);
  const parent = valueAt(copy, path.slice(0, -1)) as Record<string, unknown>;
  parent[path.at(-1) as string] = lie;
  return JSON.stringify(copy);
}
