/** What one server can order, with arbiters that only count. */
import { type Bench, dsm, type Group, least, most, numbers, type Probe, script, startBeside } from "./bench.ts";

const MANY = 16;

export const ordering: Group = {
  rows: [
    {
      name: "ordering",
      what: "stores ordered by one server for 2 arbiters",
      unit: "/s",
      figure: "ordered",
      limits: [least("value", 500_000)],
    },
    {
      name: "fan-out",
      what: `an entry sent to an arbiter, one of ${MANY}`,
      unit: "ns",
      figure: `sent to ${MANY}`,
      floor: { figure: "sent to 2", what: "one of 2" },
      limits: [most("floor", 1.1)],
    },
  ],
  start: async (bench) => ({
    probes: [probe(bench, 2, ["ordered", "sent to 2"]), probe(bench, MANY, [`sent to ${MANY}`])],
  }),
};

let sessions = 0;

function probe({ environment, quick }: Bench, arbiters: number, gives: string[]): Probe {
  return {
    gives,
    run: async () => {
      sessions += 1;
      const session = `ordering-${sessions}`;
      const argv = [dsm, "server", "--session", session, "--processes", String(arbiters)];
      const server = await startBeside(argv, environment);
      try {
        const address = /(\S+:\d+)$/.exec(server.line)?.[1];
        if (address === undefined) throw new Error("the server did not say where it listens");
        const count = String(quick ? 10_000 : 2_000_000 / arbiters);
        const [line] = await numbers(script("arbiters", address, session, String(arbiters), count), environment);
        const [ns, entries] = line as [number, number];
        return {
          [gives.at(-1) as string]: ns / entries / arbiters,
          ...(arbiters === 2 ? { ordered: (entries / ns) * 1e9 } : {}),
        };
      } finally {
        await server.stop();
      }
    },
  };
}
