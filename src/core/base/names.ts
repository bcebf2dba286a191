/** Names, numbers of processes and addresses: what is accepted, and how names become others that fit into paths. */
import { NAME_MAX, OBJECT_ALIGN, PROCESSES_MAX } from "./limits.ts";

const encoder = new TextEncoder();

/**
 * Characters that change how a terminal or a page shows the text around them: control characters, separators of lines
 * and paragraphs, and marks of the direction of writing. native/src/api/config.c has the same list.
 */
export const CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]+/gu;
const isControl = /^[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]$/u;

/** The reason why `name` is not valid, in one line, or null. Names travel in frames, URLs and file names. */
export function checkName(kind: "session" | "node" | "semaphore" | "lock" | "block", name: string): string | null {
  // Programs in JavaScript give what they like.
  if (typeof name !== "string") return `the ${kind} name is ${String(name)}; give a string`;
  if (name.length === 0) return `the ${kind} name is empty; give it 1 to ${NAME_MAX} bytes`;
  const bytes = encoder.encode(name).length;
  if (bytes > NAME_MAX) return `the ${kind} name has ${bytes} bytes; the limit is ${NAME_MAX}`;
  for (const character of name) {
    const code = character.codePointAt(0) as number;
    if (code === 0x2f) return `the ${kind} name has a slash; leave it out`;
    if (isControl.test(character)) {
      const point = code.toString(16).toUpperCase().padStart(4, "0");
      return `the ${kind} name has a control character (U+${point}); leave it out`;
    }
    // The decoder replaces a lone surrogate by U+FFFD.
    if (code === 0xfffd || (code >= 0xd800 && code <= 0xdfff)) return `the ${kind} name is not valid UTF-8`;
  }
  if (name === "." || name === "..") return `the ${kind} name is "${name}"; choose another`;
  return null;
}

/**
 * A mutex or a semaphore in the map is named by its place there. Names of programs cannot begin like that:
 * checkName() refuses control characters.
 */
const OBJECT_MARK = "\u0001";
const OBJECT_NAME = /^[ms](0|[1-9a-f][0-9a-f]{0,12})$/;
const OBJECT_LETTERS = { mutex: "m", semaphore: "s" } as const;

export type NamedObject = keyof typeof OBJECT_LETTERS;

/** The name of the object at that place in the map: U+0001, a letter for its kind, and the place in hexadecimal. */
export const objectName = (object: NamedObject, offset: number): string =>
  `${OBJECT_MARK}${OBJECT_LETTERS[object]}${offset.toString(16)}`;

/** Whether it is the name of an object, which has been checked, and not one that a program gave. */
export const isObjectName = (name: string): boolean => name.startsWith(OBJECT_MARK);

/** The place of the object that has that name, or -1: a program gave the name. */
export function placeInName(name: string): number {
  const match = name.startsWith(OBJECT_MARK) ? OBJECT_NAME.exec(name.slice(1)) : null;
  return match === null ? -1 : Number.parseInt(match[1] as string, 16);
}

/** The name as people read it. */
export function shownName(name: string): string {
  const offset = placeInName(name);
  return offset < 0 ? name : objectText(name[1] === "m" ? "mutex" : "semaphore", offset);
}

/** An object in the map, as people read it. */
export const objectText = (object: string, offset: number): string => `${object} at 0x${offset.toString(16)}`;

/** Whether a text is one of objectText(), or reads like one. */
export const isObjectText = (text: string): boolean => /^[a-z]+ at 0x[0-9a-f]+$/.test(text);

/** A lock or semaphore as sentences name it: an object in the map by its place, others by their names. */
export const nameInText = (kind: "lock" | "semaphore", shown: string): string =>
  isObjectText(shown) ? `the ${shown}` : `${kind} "${shown}"`;

/**
 * The reason why no lock or semaphore can have that name, in one line, or null. `mapSize`: bytes of the map in which its
 * objects lie.
 */
export function checkResourceName(kind: "lock" | "semaphore", name: string, mapSize: number): string | null {
  if (typeof name !== "string" || !name.startsWith(OBJECT_MARK)) return checkName(kind, name);
  const offset = placeInName(name);
  const fits = offset >= 0 && offset % OBJECT_ALIGN === 0 && offset + OBJECT_ALIGN <= mapSize;
  return fits && name[1] === (kind === "lock" ? "m" : "s") ? null : `no ${kind} can lie there`;
}

export function checkProcesses(processes: number): string | null {
  if (processes > PROCESSES_MAX) return `processes is ${processes}; the limit is ${PROCESSES_MAX}`;
  if (processes < 1) return `processes is ${processes}; a session has 1 or more`;
  if (!Number.isSafeInteger(processes)) return `processes is ${processes}; give a whole number`;
  return null;
}

/**
 * FNV-1a, 64 bits, as 16 hex digits. native/src/link/runtime_dir.c computes the same: both must find the same socket.
 */
export function fnv1a64(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of encoder.encode(text)) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16).padStart(16, "0");
}

/** The key of one session and node's arbiter on this host. Sessions of one name at two daemons have different keys. */
export function arbiterKey(daemon: string, session: string, node: string): string {
  return fnv1a64(`${daemon}\n${session}\n${node}`);
}

export function arbiterSocketPath(directory: string, daemon: string, session: string, node: string): string {
  return `${directory}/a-${arbiterKey(daemon, session, node)}.sock`;
}

/**
 * The Unix socket of the server that listens on this TCP port, for arbiters on its own host: an abstract one, which
 * only processes of the same network namespace can reach, as with loopback, and which leaves no file behind. A client
 * must check which user listens: any user may take the name.
 */
export function serverSocketName(instance: string, epoch: number, port: number): string {
  return `\0dsm-${instance}-${epoch}-${port}`;
}

/** Splits "host:port"; IPv6 addresses stand in brackets. Null when the text is not of that form. */
export function parseAddress(address: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^\s:/[\]]+)):(\d{1,5})$/i.exec(address);
  if (!match) return null;
  const port = Number(match[3]);
  if (port < 1 || port > 65535) return null;
  return { host: (match[1] ?? match[2]) as string, port };
}

export function formatAddress(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
