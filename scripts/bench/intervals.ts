/** Programs that write the same pages between two barriers again and again, under `release`, beside plain shared memory. */
import { type Bench, dsm, type Group, medianOf, most, numbers, type Probe, program } from "./bench.ts";

const KINDS = ["strides", "sweeps", "sections"] as const;

export const intervals: Group = {
  rows: [
    {
      name: "strides",
      what: "`release`: 256 pages a process written in strides, two barriers",
      unit: "ms",
      figure: "strides",
      floor: { figure: "plain strides", what: "shared memory and pthread_barrier" },
      limits: [most("value", 40)],
    },
    {
      name: "sweeps",
      what: "`release`: 100 barriers, 4 pages a process written before every second one",
      unit: "ms",
      figure: "sweeps",
      floor: { figure: "plain sweeps", what: "shared memory and pthread_barrier" },
      limits: [most("value", 120)],
    },
    {
      name: "sections",
      what: "`release`: 100 sections under one lock, a store in each, of two processes",
      unit: "ms",
      figure: "sections",
      floor: { figure: "plain sections", what: "shared memory and a robust mutex" },
      limits: [most("value", 120)],
    },
  ],
  start: async (bench) => ({ probes: KINDS.flatMap((kind) => [plain(bench, kind), session(bench, kind)]) }),
};

const rounds = ({ quick }: Bench): string => (quick ? "2" : "15");

function session(bench: Bench, kind: string): Probe {
  const argv = [dsm, "run", "-n", "2", "--nodes", "2", "--", program("intervals"), kind, rounds(bench)];
  const environment = { ...bench.environment, DSM_SIZE: "4MiB", DSM_ORDER: "release" };
  return { gives: [kind], run: async () => ({ [kind]: medianOf(await numbers(argv, environment)) / 1e6 }) };
}

function plain(bench: Bench, kind: string): Probe {
  const figure = `plain ${kind}`;
  const argv = [program("intervals"), kind, rounds(bench), "plain"];
  return { gives: [figure], run: async () => ({ [figure]: medianOf(await numbers(argv, bench.environment)) / 1e6 }) };
}
