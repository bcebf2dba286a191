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

  /** The number of who holds the lock. */
  get owner(): number {
    const word = new Uint32Array(1);
    readSync(this.#file, word, 0, 4, this.#at(RING.lock));
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

/** Stops and continues the process until it stands still with the lock in its hands. */
export async function catchWithLock(pid: number, ring: RingHeader, number = ringNumber(pid)): Promise<void> {
  await eventually("it is stopped while it has the lock", async () => {
    for (let looks = 0; looks < 100_000 && ring.owner !== number; looks += 1);
    process.kill(pid, "SIGSTOP");
    // A first thread that has ended stays as it is.
    await eventually("it has stopped", () => statesOf(pid).every((state) => "TZ".includes(state)));
    if (ring.owner === number) return true;
    process.kill(pid, "SIGCONT");
    return false;
  });
}
