/** The header of a node's ring, as it lies in the map's file, and the processes that take its lock. */
import { closeSync, openSync, readdirSync, readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { PAGE_SIZE } from "../../src/core/limits.ts";
import { arbiterKey } from "../../src/core/names.ts";
import { RING } from "../../src/core/protocol.ts";
import { pageRound } from "../../src/core/size.ts";
import { eventually } from "./e2e-cluster.ts";

export class RingHeader {
  readonly #file: number;
  readonly #size: number;

  /** `size`: bytes of the map. */
  constructor(daemonAddress: string, session: string, node: string, size: number) {
    const key = arbiterKey(daemonAddress, session, node);
    const name = readdirSync("/dev/shm").find((name) => name.includes(key));
    this.#file = openSync(join("/dev/shm", name as string), "r+");
    this.#size = size;
  }

  #at = (place: readonly [number, number]): number => this.#size + pageRound(this.#size / PAGE_SIZE) + place[0];

  /** Where in the file the lock is. */
  get lock(): number {
    return this.#at(RING.lock);
  }

  /** The number of who holds the lock. */
  get owner(): number {
    const word = new Uint32Array(1);
    readSync(this.#file, word, 0, 4, this.lock);
    return word[0] as number;
  }

  set(place: readonly [number, number], value: number): void {
    writeSync(this.#file, Uint32Array.of(value), 0, 4, this.#at(place));
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}

/** The number by which a process takes its node's ring: the byte of the map's file that it has locked. */
export function ringNumber(pid: number): number {
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${task}/fdinfo`;
    // A thread that has ended shows none.
    for (const name of list(folder)) {
      const found = /^lock:.* OFDLCK .* (\d+) \1$/m.exec(readFileSync(`${folder}/${name}`, "latin1"));
      if (found !== null) return Number(found[1]);
    }
  }
  throw new Error(`process ${pid} has no ring`);
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

export const statesOf = (pid: number): string[] =>
  readdirSync(`/proc/${pid}/task`).map((task) => {
    const stat = readFileSync(`/proc/${pid}/task/${task}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3);
  });

/** Stops the process and waits until it stands still. A first thread that has ended stays as it is. */
export async function stop(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  await eventually("it has stopped", () => statesOf(pid).every((state) => "TZ".includes(state)));
}
