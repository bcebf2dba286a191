/**
 * Small parallel programs, each from one source with dsm and with pthreads: in direct mode, and on two nodes under
 * `release`, beside two processes with pthread objects in shared memory. Their times are those of the parallel phase.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { command, compiler, files, runStep, withBuildLock } from "../steps.ts";
import {
  compileFlags,
  dsm,
  type Group,
  linkFlags,
  medianOf,
  most,
  numbers,
  type Probe,
  programs,
  type RowSpec,
} from "./bench.ts";

/** What a kernel is to cost in direct mode, in times of the same kernel with pthreads. */
const DIRECT_RATIO = 1.3;
/** Times that a program computes the same. */
const ROUNDS = 5;

/** `direct`, `nodes`: arguments of native/bench/kernels/NAME.c in both places, and what they say. `most`: milliseconds. */
const KERNELS = [
  {
    name: "molecules",
    direct: { args: ["512", "10"], what: "512 molecules with a lock each, 10 steps" },
    nodes: { args: ["64", "5"], what: "64 molecules, 5 steps", most: 400 },
  },
  {
    name: "ocean",
    direct: { args: ["256", "200"], what: "a grid of 256 x 256, 400 barriers" },
    nodes: { args: ["64", "25"], what: "a grid of 64 x 64, 50 barriers", most: 120 },
  },
  {
    name: "cholesky",
    direct: { args: ["24", "8"], what: "576 columns, a lock each, and a queue of tasks" },
    nodes: { args: ["8", "8"], what: "64 columns", most: 400 },
  },
  {
    name: "tree",
    direct: { args: ["4096", "2"], what: "4096 bodies, 2 steps, a lock for each cell" },
    nodes: { args: ["256", "1"], what: "256 bodies, 1 step", most: 600 },
  },
];

type BackEnd = "dsm" | "pthreads";
const BACK_ENDS: BackEnd[] = ["dsm", "pthreads"];

/** The path of a kernel. */
export const kernelProgram = (name: string, backEnd: BackEnd): string =>
  join(programs, "kernels", `${name}-${backEnd}`);

/** What a kernel is compiled from, with the back end at that path. */
export const kernelSources = (name: string, backEnd: string): string[] => [
  ...[name, "parallel"].map((source) => `native/bench/kernels/${source}.c`),
  backEnd,
];

/** Compiles the kernels, each with both back ends, where they are out of date. */
export async function compileKernels(): Promise<void> {
  const builds = KERNELS.flatMap(({ name }) => BACK_ENDS.map((backEnd) => ({ name, backEnd })));
  const compile = ({ name, backEnd }: (typeof builds)[number]) =>
    command([
      ...[compiler(), ...compileFlags, ...kernelSources(name, `native/bench/kernels/with_${backEnd}.c`)],
      ...["-o", kernelProgram(name, backEnd), ...(backEnd === "dsm" ? linkFlags : []), "-lm", "-lpthread"],
    ]);
  const inputs = await files(
    "native/bench/kernels/*.[ch]",
    "native/src/base/clock.h",
    "native/include/**/*.h",
    "scripts/bench/{bench,kernels}.ts",
  );
  await withBuildLock(() =>
    runStep({
      name: "kernels",
      inputs,
      facts: [compiler()],
      outputs: builds.map(({ name, backEnd }) => `native/build/bench/kernels/${name}-${backEnd}`),
      run: async () => {
        await mkdir(join(programs, "kernels"), { recursive: true });
        await Promise.all(builds.map(compile));
      },
    }),
  );
}

const PEER = "shared memory and pthread objects";

export const kernels: Group = {
  rows: [
    ...KERNELS.map(
      ({ name, direct }): RowSpec => ({
        name,
        what: `${name} in direct mode: ${direct.what}`,
        unit: "ms",
        figure: `direct ${name}`,
        floor: { figure: `plain direct ${name}`, what: PEER },
        limits: [most("floor", DIRECT_RATIO)],
      }),
    ),
    ...KERNELS.map(
      ({ name, nodes }): RowSpec => ({
        name: `${name}-2-nodes`,
        what: `${name}, 2 nodes, \`release\`: ${nodes.what}`,
        unit: "ms",
        figure: `nodes ${name}`,
        floor: { figure: `plain nodes ${name}`, what: PEER },
        limits: [most("value", nodes.most)],
      }),
    ),
  ],
  start: async ({ environment, quick }) => {
    const probe = (figure: string, argv: string[]): Probe => ({
      gives: [figure],
      run: async () => ({ [figure]: medianOf(await numbers(argv, environment)) / 1e6 }),
    });
    const rounds = quick ? "1" : String(ROUNDS);
    return {
      probes: KERNELS.flatMap(({ name, direct, nodes }) => {
        const plain = (args: string[]) => [kernelProgram(name, "pthreads"), ...args, rounds];
        const shared = (args: string[]) => [kernelProgram(name, "dsm"), ...args, rounds];
        const two = [dsm, "run", "-n", "2", "--nodes", "2", "--order", "release", "--"];
        return [
          probe(`plain direct ${name}`, plain(direct.args)),
          probe(`direct ${name}`, [dsm, "run", "-n", "2", "--", ...shared(direct.args)]),
          probe(`plain nodes ${name}`, plain(nodes.args)),
          probe(`nodes ${name}`, [...two, ...shared(nodes.args)]),
        ];
      }),
    };
  },
};
