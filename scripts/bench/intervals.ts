/** Programs that write the same pages between two barriers again and again, under `release`, beside plain shared memory. */
import { dsm, type Group, medianOf, most, numbers, type Probe, program } from "./bench.ts";

/** The kinds of native/bench/intervals.c. `most`: milliseconds. */
const KINDS = [
  {
    kind: "strides",
    what: "`release`: 256 pages a process written in strides, two barriers",
    beside: "shared memory and pthread_barrier",
    most: 40,
  },
  {
    kind: "sweeps",
    what: "`release`: 100 barriers, 4 pages a process written before every second one",
    beside: "shared memory and pthread_barrier",
    most: 120,
  },
  {
    kind: "sections",
    what: "`release`: 100 sections under one lock, a store in each, of two processes",
    beside: "shared memory and a robust mutex",
    most: 120,
  },
];

export const intervals: Group = {
  rows: KINDS.map(({ kind, what, beside, most: limit }) => ({
    name: kind,
    what,
    unit: "ms",
    figure: kind,
    floor: { figure: `plain ${kind}`, what: beside },
    limits: [most("value", limit)],
  })),
  start: async ({ environment, quick }) => {
    const probe = (figure: string, argv: string[], more: Record<string, string> = {}): Probe => ({
      gives: [figure],
      run: async () => ({ [figure]: medianOf(await numbers(argv, { ...environment, ...more })) / 1e6 }),
    });
    const run = [dsm, "run", "-n", "2", "--nodes", "2", "--"];
    const session = { DSM_SIZE: "4MiB", DSM_ORDER: "release" };
    return {
      probes: KINDS.flatMap(({ kind }) => {
        const argv = [program("intervals"), kind, quick ? "2" : "15"];
        return [probe(`plain ${kind}`, [...argv, "plain"]), probe(kind, [...run, ...argv], session)];
      }),
    };
  },
};
