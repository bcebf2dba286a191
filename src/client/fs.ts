/**
 * `fs.readSync()` into the shared memory. The kernel cannot write there (EFAULT), so calls with a view of a session use
 * `session.readSync()`. This covers calls on the module (`fs.readSync`, `require("fs").readSync`), not names imported
 * from it (`import { readSync }`): those are bound before a session exists.
 */
import fs from "node:fs";
import type { ReadOptions } from "./views.ts";

/** The part of a session that reads. */
interface Reader {
  buffer: ArrayBuffer;
  readSync(descriptor: number, view: ArrayBufferView, options?: ReadOptions): number;
}

type ReadSync = typeof fs.readSync;

const readers = new WeakMap<ArrayBufferLike, Reader>();
let original: ReadSync | undefined;

/** serveReadSync makes fs.readSync() read into the buffer of `reader`, too. */
export function serveReadSync(reader: Reader): void {
  readers.set(reader.buffer, reader);
  if (original !== undefined) return;
  const before = fs.readSync;
  original = before;
  const readSync = (descriptor: number, view: NodeJS.ArrayBufferView, ...rest: unknown[]): number => {
    const owner = ArrayBuffer.isView(view) ? readers.get(view.buffer) : undefined;
    if (owner === undefined) return (before as (...all: unknown[]) => number)(descriptor, view, ...rest);
    return owner.readSync(descriptor, view, readOptions(rest));
  };
  fs.readSync = readSync as ReadSync;
}

/** The arguments after the view: (offset, length, position), or an object of them. Null counts as left out. */
function readOptions(rest: unknown[]): ReadOptions {
  const [first, length, position] = rest as [unknown, number | null | undefined, ReadOptions["position"]];
  const given = (typeof first === "object" && first !== null ? first : { offset: first, length, position }) as Record<
    keyof ReadOptions,
    number | null | undefined
  >;
  const options: ReadOptions = {};
  if (given.offset != null) options.offset = given.offset;
  if (given.length != null) options.length = given.length;
  // Older versions of Node use -1 for null.
  if (given.position != null && given.position !== -1) options.position = given.position;
  return options;
}
