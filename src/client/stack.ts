/**
 * The stacks of this package's errors. They begin with the program's line: frames of the package are left out, and the
 * error of a promise has the stack of the call that returned the promise. (After an `await`, the runtime may know
 * nothing of the caller any more.)
 */
import { dirname, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { DsmError, onEachError } from "../core/base/errors.ts";

const isBun = typeof Bun !== "undefined";

/** How the places of the package begin, as paths and as URLs: those of the bundle, or those of the source tree. */
const OWN = ownPlaces(import.meta.url);

function ownPlaces(url: string): string[] {
  const path = fileURLToPath(url);
  const isSource = path.endsWith(`${sep}client${sep}stack.ts`);
  if (!isSource) return [`${path}:`, `${url}:`];
  const source = dirname(dirname(path));
  return ["client", "core"].map((folder) => `${source}${sep}${folder}${sep}`);
}

const FRAME = /^\s+at /;
/** Frames of the runtime itself, in Node's words and in Bun's. */
const RUNTIME = /[( ](?:node:|internal:|bun:|native\b|\[native code\]|unknown\)?$|index \d+\)$|<anonymous>\)?$)/;

/** Errors whose stack shows a line of the program. */
const done = new WeakSet<DsmError>();

/** promised runs an operation. An error of it has the stack of this call, unless it shows a line of the program already. */
export async function promised<Value>(run: () => Promise<Value>): Promise<Value> {
  const call = new Error();
  try {
    return await run();
  } catch (error) {
    if (error instanceof DsmError) show(error, call);
    throw error;
  }
}

/** Gives the error those frames of `from` that are not the package's, if a line of the program is among them. */
function show(error: DsmError, from: Error): void {
  if (done.has(error) || typeof from.stack !== "string") return;
  const frames = from.stack
    .split("\n")
    .filter((line) => FRAME.test(line) && !OWN.some((place) => line.includes(place)));
  // The runtime's frames in front of the program's are those of a promise that goes on.
  const first = frames.findIndex((line) => !RUNTIME.test(line));
  if (first < 0) return;
  const stack = [`${error.name}: ${error.message}`, ...frames.slice(first).map(readable)].join("\n");
  Object.defineProperty(error, "stack", { value: stack, writable: true, configurable: true, enumerable: false });
  done.add(error);
}

/** Bun shows the source of a frame of a stack that was set only where a function is named. */
function readable(frame: string): string {
  return isBun ? frame.replace(/^(\s+at (?:async )?)((?:\/|file:).*:\d+:\d+)$/, "$1<anonymous> ($2)") : frame;
}

onEachError((error) => show(error, error));
