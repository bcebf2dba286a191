/**
 * Identifies the peer of a Unix socket by getsockopt with SO_PEERCRED, which Bun does not offer. Uses bun:ffi, not
 * koffi: a compiled program would have to write koffi's native module to a file first, and load that.
 */

import { dlopen, ptr } from "bun:ffi";
import { constants, lstatSync, readFileSync } from "node:fs";

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/** Null where Bun runs without its JIT (BUN_JSC_useJIT=0), which bun:ffi needs. */
function loadGetsockopt() {
  try {
    return dlopen("libc.so.6", { getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" } }).symbols
      .getsockopt;
  } catch {
    return null;
  }
}

/**
 * The user id that represents all users unknown to our user namespace. A process that runs under this id cannot
 * distinguish them from its own user. -1: our namespace knows all users.
 */
function loadUnknownUser(): number {
  const read = (path: string): string => {
    try {
      return readFileSync(path, "latin1").trim();
    } catch {
      return "";
    }
  };
  if (/^0 +0 +4294967295$/.test(read("/proc/self/uid_map"))) return -1;
  return Number(read("/proc/sys/kernel/overflowuid") || 65534);
}

const getsockopt = loadGetsockopt();
const unknownUser = loadUnknownUser();
/** pid, uid and gid. */
const credentials = new Uint32Array(3);
const size = new Uint32Array(1);

/**
 * canTellPeers returns whether a socket in this folder accepts processes of our own user only: either the kernel
 * reports the peer, or the folder excludes other users.
 */
export function canTellPeers(folder: string): boolean {
  if (getsockopt !== null) return true;
  const { mode, uid } = lstatSync(folder);
  return (mode & constants.S_IFMT) === constants.S_IFDIR && uid === process.geteuid?.() && (mode & 0o077) === 0;
}

/** Whether the kernel reports the peer of a socket, wherever the socket is. */
export const tellsPeers = getsockopt !== null;

/** Reads the peer's identity into `credentials`. */
function ask(socket: object): boolean {
  if (getsockopt === null) return false;
  // Not in Bun's types, but a socket has it.
  const descriptor = (socket as { fd?: number }).fd ?? -1;
  size[0] = credentials.byteLength;
  const failed = getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, ptr(credentials), ptr(size)) !== 0;
  return !failed && size[0] === credentials.byteLength;
}

/** Whether the peer is outside our PID namespace: it does not end with us. */
export const isOutside = (socket: object): boolean => ask(socket) && credentials[0] === 0;

/** The process id of the peer; 0: it is outside our PID namespace, or the kernel does not tell. */
export const pidOfPeer = (socket: object): number => (ask(socket) ? (credentials[0] as number) : 0);

/**
 * isOwnPeer returns whether the peer runs as our user. If the kernel does not tell, canTellPeers() was checked
 * before.
 */
export function isOwnPeer(socket: object): boolean {
  if (getsockopt === null) return true;
  if (!ask(socket)) return false;
  return credentials[1] === process.geteuid?.() && credentials[1] !== unknownUser;
}
