/**
 * The process at the other end of a Unix socket: whether it still runs once it has closed the connection. The kernel closes
 * the connections of a process that ends, but a program may also close all its descriptors and run on.
 *
 * The process is known by a pidfd, which also names one of another PID namespace. /proc is asked only where it shows ours.
 */
import { dlopen, ptr } from "bun:ffi";
import { closeSync, readFileSync } from "node:fs";
import { isOwnProc } from "./own-process.ts";

const SYS_PIDFD_OPEN = 434;
const SOL_SOCKET = 1;
/** Linux 6.5. */
const SO_PEERPIDFD = 77;
const POLLIN = 1;

/** Null where Bun runs without its JIT (BUN_JSC_useJIT=0), which bun:ffi needs. */
function loadCalls() {
  try {
    return dlopen("libc.so.6", {
      getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
      syscall: { args: ["i64", "i64", "i64"], returns: "i64" },
      poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
    }).symbols;
  } catch {
    return null;
  }
}

type Calls = NonNullable<ReturnType<typeof loadCalls>>;
const calls = loadCalls();

export class PeerProcess {
  readonly #calls: Calls;
  readonly #descriptor: number;
  /** 0: it is in another PID namespace, or /proc shows another one. */
  readonly #pid: number;

  private constructor(calls: Calls, descriptor: number, pid: number) {
    this.#calls = calls;
    this.#descriptor = descriptor;
    this.#pid = pid;
  }

  /** `pid`: of pidOfPeer(), while the connection was open. Null: it has ended and nothing is left of it, or nothing can be told. */
  static of(socket: object, pid: number): PeerProcess | null {
    if (calls === null) return null;
    const descriptor = open(calls, socket, pid);
    return descriptor < 0 ? null : new PeerProcess(calls, descriptor, isOwnProc() ? pid : 0);
  }

  get hasEnded(): boolean {
    const asked = new Int32Array([this.#descriptor, POLLIN]);
    return this.#calls.poll(ptr(asked), 1n, 0) === 1;
  }

  /** Whether it is known not to have the file mapped: it has begun another program. */
  lacks(file: string): boolean {
    if (this.#pid === 0) return false;
    try {
      const maps = readFileSync(`/proc/${this.#pid}/maps`, "latin1");
      // Of one that is about to end, or whose first thread has ended, nothing is shown.
      return maps !== "" && !maps.includes(file);
    } catch {
      return false;
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

function open({ getsockopt, syscall }: Calls, socket: object, pid: number): number {
  // Not in Bun's types, but a socket has it, until it is closed.
  const from = (socket as { fd?: number }).fd ?? -1;
  const value = new Int32Array([-1]);
  const size = new Uint32Array([value.byteLength]);
  if (from >= 0 && getsockopt(from, SOL_SOCKET, SO_PEERPIDFD, ptr(value), ptr(size)) === 0) return value[0] as number;
  return pid > 0 ? Number(syscall(BigInt(SYS_PIDFD_OPEN), BigInt(pid), 0n)) : -1;
}
