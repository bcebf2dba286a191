/** Where nothing traps: loads always, stores and atomics in direct mode. Beside plain shared memory in the same process. */
import { dsm, type Group, medianOf, most, numbers, type Probe, program } from "./bench.ts";

interface Row {
  name: string;
  what: string;
  figure: string;
  bound: number;
  /** The floor; left out: plain shared memory. */
  beside?: string;
}

export const local: Group = {
  rows: [
    { name: "direct-store", what: "store in direct mode, of 10^8", figure: "direct store", bound: 1.05 },
    { name: "direct-atomic", what: "atomic in direct mode, of 10^7", figure: "direct atomic", bound: 1.05 },
    { name: "direct-load", what: "load in direct mode, of 10^8", figure: "direct load", bound: 1.02 },
    { name: "load", what: "load, 2 nodes, of 10^8", figure: "trapped load", bound: 1.02 },
    {
      ...{ name: "direct-lock", what: "free lock taken and given back in direct mode, of 10^6", figure: "direct lock" },
      ...{ bound: 3, beside: "robust mutex" },
    },
    {
      ...{ name: "direct-barrier", what: "barrier of 2 processes in direct mode, of 20,000" },
      ...{ figure: "direct barrier", bound: 1.2, beside: "pthread_barrier" },
    },
    {
      ...{ name: "direct-semaphore", what: "ball passed there and back by semaphores in direct mode, of 20,000" },
      ...{ figure: "direct semaphore", bound: 1.2, beside: "sem_t" },
    },
    {
      ...{ name: "leased-lock", what: "free lock that the node had last, 2 nodes, of 10^6", figure: "leased lock" },
      ...{ bound: 4, beside: "robust mutex" },
    },
  ].map(({ name, what, figure, bound, beside = "plain MAP_SHARED" }: Row) => ({
    name,
    what,
    unit: "ns",
    figure,
    floor: { figure: `plain ${figure}`, what: beside },
    limits: [most("floor", bound)],
  })),
  start: async ({ environment, quick }) => {
    const probe = (figure: string, work: string[], total: number, nodes: number): Probe => ({
      gives: [figure, `plain ${figure}`],
      run: async () => {
        const slices = quick ? 2 : 40;
        const count = quick ? 1000 : total / slices;
        const argv = [dsm, "run", "-n", "2", "--nodes", String(nodes), "--", ...work];
        const lines = await numbers([...argv, String(count), String(slices)], environment);
        return { [`plain ${figure}`]: medianOf(lines, 0) / count, [figure]: medianOf(lines, 1) / count };
      },
    });
    return {
      probes: [
        probe("direct store", [program("local"), "store"], 1e8, 1),
        probe("direct atomic", [program("local"), "atomic"], 1e7, 1),
        probe("direct lock", [program("local"), "lock"], 1e6, 1),
        probe("leased lock", [program("local"), "lock"], 1e6, 2),
        probe("direct barrier", [program("barrier")], 2e4, 1),
        probe("direct semaphore", [program("semaphore")], 2e4, 1),
        probe("direct load", [program("local"), "load"], 1e8, 1),
        probe("trapped load", [program("local"), "load"], 1e8, 2),
      ],
    };
  },
};
