/** What catching a store costs, apart from sending it; and stores that are sent later, under `pipelined` and `release`. */
import { command } from "../steps.ts";
import { dsm, type Figures, type Group, medianOf, most, numbers, program } from "./bench.ts";

const bare = { figure: "bare", what: "bare SIGSEGV" };
const burstBare = { figure: "burst bare", what: "bare SIGSEGV" };

export const capture: Group = {
  rows: [
    { name: "capture", what: "captured store of a general register, not sent", figure: "gpr" },
    { name: "capture-xmm", what: "captured store of an XMM register, not sent", figure: "vector" },
    { name: "capture-rmw", what: "captured read-modify-write, not sent", figure: "rmw" },
  ].map((row, i) => ({ ...row, unit: "us", floor: bare, limits: [most("floor", [1.3, 1.5, 2.5][i] as number)] })),
  start: async () => ({
    probes: [
      {
        gives: ["bare", "gpr", "vector", "rmw"],
        run: async () => {
          const figures = JSON.parse(await command([program("capture")])) as Figures;
          return Object.fromEntries(
            ["bare", "gpr", "vector", "rmw"].map((name) => [name, (figures[`${name}_ns`] ?? Number.NaN) / 1000]),
          );
        },
      },
    ],
  }),
};

/** The medians of what `burst` prints under this order, in microseconds. */
async function burst(order: string, quick: boolean, environment: Record<string, string>): Promise<number[]> {
  const work = [program("burst"), "2000", quick ? "3" : "200"];
  const argv = [dsm, "run", "-n", "2", "--nodes", "2", "--", ...work];
  // Each store is to be a trap of its own.
  const lines = await numbers(argv, { ...environment, DSM_ORDER: order, DSM_BURST: "0" });
  return [0, 1, 2].map((column) => medianOf(lines, column) / 1000);
}

export const queued: Group = {
  rows: [
    {
      name: "pipelined",
      what: "`pipelined` store of a general register, 2 nodes",
      unit: "us",
      figure: "burst gpr",
      floor: burstBare,
      limits: [most("floor", 1.35)],
    },
    {
      name: "pipelined-xmm",
      what: "`pipelined` store of an XMM register, 2 nodes",
      unit: "us",
      figure: "burst vector",
      floor: burstBare,
      limits: [most("floor", 1.5)],
    },
    {
      name: "section",
      what: "`release`: a section with a store, lock that the node had last, 2 nodes",
      unit: "us",
      figure: "section",
      floor: { figure: "section bare", what: "bare SIGSEGV" },
      limits: [most("floor", 2.5)],
    },
  ],
  start: async ({ environment, quick }) => ({
    probes: [
      {
        gives: ["burst bare", "burst gpr", "burst vector"],
        run: async () => {
          const [bare, gpr, vector] = (await burst("pipelined", quick, environment)) as [number, number, number];
          return { "burst bare": bare, "burst gpr": gpr, "burst vector": vector };
        },
      },
      {
        gives: ["section bare", "section"],
        run: async () => {
          const [bare, section] = (await burst("release", quick, environment)) as [number, number];
          return { "section bare": bare, section };
        },
      },
    ],
  }),
};
