/**
 * Soak: one session of 8 processes on 4 nodes that uses everything (test/chaos/programs/soak.c) while others come and go,
 * watched from outside. Memory, descriptors and what lies in /dev/shm must not grow: after the warm-up a line is
 * fitted to each and its slope may not be above a stated bound.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import {
  ADDRESS_FIRST,
  ADDRESS_NARROW_FIRST,
  ADDRESS_NARROW_SLOTS,
  ADDRESS_NARROW_STRIDE,
  ADDRESS_STRIDE,
  ADDRESS_WIDE_SLOTS,
} from "../../src/core/limits.ts";
import type { Order } from "../../src/core/order.ts";
import type { Child } from "../support/e2e-child.ts";
import { Cluster } from "../support/e2e-cluster.ts";
import { compileProgram } from "../support/e2e-program.ts";

const NODES = ["a", "b", "c", "d"];
const PROCESSES = 8;
/** Of the whole time; caches and heaps find their size in it. */
export const WARM_UP = 0.3;
/** Too few samples say nothing. */
const SAMPLES_MIN = 20;

/**
 * What is watched, and how much the fitted line may rise: so much an hour, and so much whatever the time, because the
 * heap of a garbage collector breathes.
 */
export const BOUNDS: Readonly<Record<keyof Omit<Sample, "seconds" | "entries" | "round" | "copiesKiB">, Bound>> = {
  daemonKiB: { hourly: 2000, breath: 4000 },
  serverKiB: { hourly: 2000, breath: 6000 },
  arbiterKiB: { hourly: 2000, breath: 8000 },
  // libdsm keeps some 100 KiB of handles of sessions that were left (DSM_LEFT_MAX of them); in a short soak it still
  // gathers them after the warm-up.
  processKiB: { hourly: 100, breath: 150 },
  descriptors: { hourly: 1, breath: 8 },
  shmKiB: { hourly: 100, breath: 400 },
};

interface Bound {
  hourly: number;
  breath: number;
}

export interface Sample {
  seconds: number;
  /** Operations ordered so far. */
  entries: number;
  /** Rounds the processes have played. */
  round: number;
  /** Private memory. The largest where there are several. */
  daemonKiB: number;
  serverKiB: number;
  arbiterKiB: number;
  processKiB: number;
  /** The copies of left maps in the process that has most: they stay until their address is needed again, 512 maps on. */
  copiesKiB: number;
  /** Of all of these together. */
  descriptors: number;
  /** What the maps of the session take. */
  shmKiB: number;
}

/** Slope of the line with the least squares. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (of: (point: readonly [number, number]) => number): number =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [x, y] = [mean(([at]) => at), mean(([, value]) => value)];
  const square = points.reduce((sum, [at]) => sum + (at - x) ** 2, 0);
  return square === 0 ? 0 : points.reduce((sum, [at, value]) => sum + (at - x) * (value - y), 0) / square;
}

export interface Growth {
  name: keyof typeof BOUNDS;
  /** Slope of the fitted line. */
  hourly: number;
  /** How far it rises in the time looked at, and how far it may. */
  rise: number;
  most: number;
}

/** How each thing watched grows after the warm-up. */
export function judge(samples: readonly Sample[]): Growth[] {
  const first = samples[0] as Sample;
  const last = samples.at(-1) as Sample;
  const from = first.seconds + WARM_UP * (last.seconds - first.seconds);
  const steady = samples.filter(({ seconds }) => seconds >= from);
  if (steady.length < SAMPLES_MIN)
    throw new Error(`${steady.length} samples after the warm-up; it takes ${SAMPLES_MIN}`);
  const hours = (last.seconds - from) / 3600;
  return (Object.entries(BOUNDS) as [Growth["name"], Bound][]).map(([name, bound]) => {
    const hourly = slope(steady.map((sample) => [sample.seconds / 3600, sample[name]]));
    return { name, hourly, rise: hourly * hours, most: bound.breath + bound.hourly * hours };
  });
}

function privateKiB(pid: number): number {
  return Number(/RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
}

function largestKiB(pids: readonly number[]): number {
  return Math.max(0, ...pids.map(privateKiB));
}

const MAPS = [
  [ADDRESS_FIRST, ADDRESS_FIRST + ADDRESS_WIDE_SLOTS * ADDRESS_STRIDE],
  [ADDRESS_NARROW_FIRST, ADDRESS_NARROW_FIRST + ADDRESS_NARROW_SLOTS * ADDRESS_NARROW_STRIDE],
] as const;

/** Private memory at the addresses of maps. */
function copiesKiB(pid: number): number {
  let inside = false;
  let sum = 0;
  for (const line of readFileSync(`/proc/${pid}/smaps`, "utf8").split("\n")) {
    const start = /^([0-9a-f]+)-[0-9a-f]+ /.exec(line)?.[1];
    if (start !== undefined) {
      const address = Number.parseInt(start, 16);
      inside = MAPS.some(([first, end]) => address >= first && address < end);
    } else if (inside && line.startsWith("Anonymous:")) {
      sum += Number(/\d+/.exec(line)?.[0]);
    }
  }
  return sum;
}

export interface SoakOptions {
  seconds: number;
  /** Between samples. */
  everySeconds: number;
  order: Order;
  onSample(sample: Sample): void;
}

export async function soak({ seconds, everySeconds, order, onSample }: SoakOptions): Promise<Sample[]> {
  const cluster = await Cluster.start();
  try {
    const program = await compileProgram(cluster, "test/chaos/programs/soak.c");
    const session = cluster.session();
    const children = Array.from({ length: PROCESSES }, (_, rank) => {
      const node = NODES[rank % NODES.length] as string;
      return cluster.spawn([program], {
        session,
        node,
        rank,
        processes: PROCESSES,
        size: "1MiB",
        environment: { DSM_ORDER: order },
      });
    });
    let round = 0;
    void follow(children[0] as Child, (line) => {
      round = Number(line);
    });
    const ends = children.map(async (child, rank) => {
      // What rank 0 prints is followed above.
      const [stderr] = await Promise.all([child.stderr.text(), rank === 0 ? null : child.stdout.text(), child.exited]);
      return { code: child.exitCode, signal: child.signalCode, stderr };
    });
    let ended = false;
    const anyEnd = Promise.race(ends).then(() => {
      ended = true;
    });
    await Promise.race([cluster.untilPresent(session, PROCESSES), anyEnd]);

    const start = performance.now();
    const samples: Sample[] = [];
    while (!ended && performance.now() - start < 1000 * seconds) {
      await Promise.race([Bun.sleep(1000 * everySeconds), anyEnd]);
      if (ended) break;
      const { pid, entries } = await cluster.status(session);
      const daemon = cluster.processes("daemon");
      const arbiters = cluster.processes("arbiter", session);
      const processes = children.map((child) => child.pid);
      const copies = processes.map(copiesKiB);
      const all = [...daemon, pid, ...arbiters, ...processes];
      const sample = {
        ...{ seconds: (performance.now() - start) / 1000, entries, round },
        daemonKiB: largestKiB(daemon),
        serverKiB: largestKiB([pid]),
        arbiterKiB: largestKiB(arbiters),
        processKiB: Math.max(...processes.map((one, rank) => privateKiB(one) - (copies[rank] as number))),
        copiesKiB: Math.max(...copies),
        descriptors: all.reduce((sum, one) => sum + readdirSync(`/proc/${one}/fd`).length, 0),
        shmKiB: cluster.maps().reduce((sum, name) => sum + sizeOf(join("/dev/shm", name)), 0),
      };
      samples.push(sample);
      onSample(sample);
    }
    children[0]?.stdin.end();
    const wrong = (await Promise.all(ends)).filter(({ code, stderr }) => code !== 0 || stderr !== "");
    if (wrong.length > 0)
      throw new Error(wrong.map(({ code, signal, stderr }) => `${signal ?? code}: ${stderr}`).join("; "));
    await cluster.settled();
    return samples;
  } finally {
    await cluster.close();
  }
}

/** In KiB; a map of a session that ends just now has none. */
function sizeOf(path: string): number {
  try {
    return (statSync(path).blocks * 512) / 1024;
  } catch {
    return 0;
  }
}

async function follow(child: Child, onLine: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of child.stdout) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() as string;
    for (const line of lines) onLine(line);
  }
}
