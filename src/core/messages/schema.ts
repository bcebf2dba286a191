/**
 * Schemas of JSON messages: the few kinds of values that messages of dsm are made of, and how a fault is put into
 * words.
 *
 * A schema is the one definition of a message; its type is derived from it. A fault is one line that begins with the
 * path of the value: "config.size is not whole pages", "locks[3].name: the lock name has a slash; leave it out". The
 * first fault ends the check. Every list has a limit, which is checked before its items are.
 */
import * as v from "valibot";
import { SIZE_MAX } from "../base/limits.ts";
import { checkName, checkResourceName } from "../base/names.ts";
import { ProtocolError } from "../wire/frame.ts";

export const WORD_MAX = 0xffffffff;

/** A value that `fault` accepts. Its text is a sentence of its own: see `sentence`. */
export function reasoned<Value>(fault: (value: unknown) => string | null) {
  return v.custom<Value>(
    (value) => fault(value) === null,
    ({ input }) => fault(input) ?? "",
  );
}

/** A whole number, both bounds included. */
export function whole(least: number, most: number) {
  return v.custom<number>(
    (value) => Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most,
    ({ input }) =>
      typeof input === "number"
        ? `is ${input}; it must be a whole number from ${least} to ${most}`
        : "is missing or not a number",
  );
}

/** A whole number from 0 on. */
export const count = whole(0, Number.MAX_SAFE_INTEGER);

export const flag = v.boolean("is not true or false");

/** A text of at most `most` UTF-16 units. */
export function text(most = Number.MAX_SAFE_INTEGER) {
  return v.custom<string>(
    (value) => typeof value === "string" && value.length <= most,
    ({ input }) => (typeof input === "string" ? `is longer than ${most}` : "is missing or not a text"),
  );
}

/** A number or text that `check` of core/base accepts. The text of `check` names the fault. */
export function numberBy(check: (value: number) => string | null) {
  return reasoned<number>((value) => (typeof value === "number" ? check(value) : "is missing or not a number"));
}

export function textBy<Text extends string>(check: (value: string) => string | null) {
  return reasoned<Text>((value) => (typeof value === "string" ? check(value) : "is missing or not a text"));
}

export function name(kind: Parameters<typeof checkName>[0]) {
  return textBy<string>((value) => checkName(kind, value));
}

/** The name of a lock or semaphore: one that a program gave, or that of an object in the map. */
export function resourceName(kind: "lock" | "semaphore") {
  return textBy<string>((value) => checkResourceName(kind, value, SIZE_MAX));
}

/** A text that the expression matches. `what` follows "is not ". */
export function pattern(expression: RegExp, what: string) {
  return v.custom<string>((value) => typeof value === "string" && expression.test(value), `is not ${what}`);
}

/** An object with these fields. The result has no other fields. */
export function record<const Entries extends v.ObjectEntries>(entries: Entries) {
  return v.object(entries, (issue) => (issue.path === undefined ? "is not an object" : "is missing"));
}

/** A list of at most `most` items. */
export function list<Item extends v.GenericSchema>(most: number, item: Item) {
  return v.pipe(
    v.custom<v.InferInput<Item>[]>(
      (value) => Array.isArray(value) && value.length <= most,
      ({ input }) => (Array.isArray(input) ? `has ${input.length} items; the limit is ${most}` : "is not a list"),
    ),
    v.array(item),
  );
}

/** A list of whole numbers, checked in one step: some lists have a hundred thousand. */
export function numbers(least: number, most: number) {
  const isGood = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= least;
  return v.custom<number[]>(
    (value) => Array.isArray(value) && value.length <= most && value.every(isGood),
    `is not a list of at most ${most} whole numbers from ${least} on`,
  );
}

/** The fault if two of the items have the same `key`. */
export function repeated<Item>(items: readonly Item[], key: keyof Item & string): string | null {
  return new Set(items.map((item) => item[key])).size === items.length ? null : `has two items of one ${key}`;
}

export interface Fault {
  /** Where it lies: "config.size"; "" for the message as a whole. */
  path: string;
  /** "is ..." or "has ..." follows the path; anything else is a sentence of its own. */
  message: string;
}

/** Checks a message as a whole, after each of its parts: `find` returns the path and the message of a fault. */
export function whenWhole<Message>(find: (message: Message) => [path: string, message: string] | null) {
  return v.rawCheck<Message>(({ dataset, addIssue }) => {
    const found = dataset.typed ? find(dataset.value) : null;
    if (found === null) return;
    const [key, message] = found;
    addIssue({ message, path: [{ type: "unknown", origin: "value", input: dataset.value, key, value: undefined }] });
  });
}

/** Returns `value` as the schema describes it, or its first fault. */
export function check<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
): { value: v.InferOutput<Schema>; fault: null } | { fault: Fault } {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return { value: result.output, fault: null };
  const { path = [], message } = result.issues[0];
  const parts = path.map(({ key }) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`));
  return { fault: { path: parts.join("").replace(/^\./, ""), message } };
}

/** A fault in one line, with its place. */
export function describeFault({ path, message }: Fault): string {
  const place = path === "" ? "it" : path;
  return isPredicate(message) ? `${place} ${message}` : `${place}: ${message}`;
}

/** Describes a fault in one line, for users who know what they sent: without the path if the message is a sentence. */
export function sentence(fault: Fault): string {
  return isPredicate(fault.message) ? describeFault(fault) : fault.message;
}

const isPredicate = (message: string): boolean => /^(is|has) /.test(message);

/** Parses the message in `text`. Throws ProtocolError: "`what` is damaged: ...". */
export function parseMessage<Schema extends v.GenericSchema>(
  schema: Schema,
  text: string,
  what: string,
): v.InferOutput<Schema> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ProtocolError(`${what} is damaged: it is not JSON`);
  }
  const result = check(schema, json);
  if (result.fault !== null) throw new ProtocolError(`${what} is damaged: ${describeFault(result.fault)}`);
  return result.value;
}

/** Whether `value` is such a message. Keeps unknown fields, so that fields of other versions of dsm are still shown. */
export function isMessage<Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
): value is v.InferOutput<Schema> {
  return v.is(schema, value);
}
