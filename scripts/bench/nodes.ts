/** Barriers over many nodes of one host, beside a bare fan-in and fan-out over the same hops. */
import { join } from "node:path";
import { type Beside, dsm, type Group, medianOf, most, numbers, program, script, startBeside } from "./bench.ts";

const NODES = [8, 32, 64];
/** Each takes as many processes as there are nodes, and as many arbiters. */
const ROUNDS = 600;

const group = (nodes: number): Group => ({
  rows: [
    {
      name: `barrier-${nodes}-nodes`,
      what: `barrier, a process on each of ${nodes} nodes of one host`,
      unit: "ms",
      figure: "barrier",
      floor: { figure: "gather", what: "bare fan-in and fan-out over the same hops" },
      limits: [most("floor", 2)],
    },
  ],
  rounds: 3,
  start: async ({ environment, directory, quick }) => {
    const rounds = String(quick ? 10 : ROUNDS);
    const far = join(directory, `gather-${nodes}.sock`);
    const near = Array.from({ length: nodes }, (_, node) => join(directory, `near-${nodes}-${node}.sock`));
    const beside: Beside[] = [await startBeside(script("relay", "gather", far, String(nodes)), environment)];
    for (const path of near) beside.push(await startBeside(script("relay", "relay", path, far), environment));
    const gather = async (): Promise<number> => {
      const all = await Promise.all(near.map((path) => numbers([program("echo"), path, rounds], environment)));
      return medianOf(all[0] ?? []) / 1e6;
    };
    const barrier = async (): Promise<number> => {
      const count = String(nodes);
      const argv = [dsm, "run", "-n", count, "--nodes", count, "--", program("operations"), "barrier", rounds];
      return medianOf(await numbers(argv, environment)) / 1e6;
    };
    return {
      probes: [
        { gives: ["gather"], run: async () => ({ gather: await gather() }) },
        { gives: ["barrier"], run: async () => ({ barrier: await barrier() }) },
      ],
      stop: async () => {
        await Promise.all(beside.map((one) => one.stop()));
      },
    };
  },
});

export const nodes: Group[] = NODES.map(group);
