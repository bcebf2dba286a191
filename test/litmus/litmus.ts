/** Runs litmus tests on a cluster of its own and holds what they show against table and model. */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Cluster, ROOT } from "../support/e2e-cluster.ts";
import { type Order, outcomes, parse, type Statement } from "./model.ts";
import type { Claim, LitmusTest } from "./table.ts";

/** How the machine goes through the instances: litmus.c explains. */
interface Way {
  threads: number;
  column: number;
  rows: number;
}

/**
 * Where steps are answered one by one (stores under sequential, atomics), many are under way at once, so that many go with
 * one wake-up. Where one holds up all threads of the process, as a fence or a hole does, most columns are done step by step.
 */
function wayOf(test: LitmusTest, order: Order): Way {
  if (order === "hardware") return { threads: 1, column: 1, rows: 16 };
  if (test.together === true) return { threads: order === "sequential" ? 128 : 16, column: 32, rows: 0 };
  const statements = test.processes.flatMap(parse);
  if (statements.some((each) => each.kind === "store" && each.how === "hole"))
    return { threads: 64, column: 64, rows: 1 };
  if (order === "sequential") return { threads: 128, column: 16, rows: 6 };
  if (statements.some(({ kind }) => kind === "atomic")) return { threads: 64, column: 32, rows: 1 };
  const isPlain = statements.every(({ kind }) => ["load", "store", "mfence"].includes(kind));
  return { threads: order === "release" ? 32 : 16, column: 32, rows: isPlain ? 8 : 1 };
}
/** Instances of a test that lie side by side in the map; a multiple of every test's threads times its column. */
const ROUND = 20_480;
/**
 * Bytes: three locations of 64 bytes for every instance, rounded up to a power of two; twice, for `release`, and there
 * with some lines of each page left over.
 */
const MAP_SIZE = 12 << 20;

export interface LitmusOptions {
  order: Order;
  /** At least so many of each test. */
  iterations: number;
  /** On to so many of a test while an outcome it is to show has not been seen. */
  iterationsMax: number;
  seed: number;
  /** The node of each process. */
  nodes: string[];
  /** Instead of a session: this machine's own memory, or one made to break every promise. */
  memory?: "plain" | "broken";
}

export interface LitmusResult {
  iterations: number;
  seconds: number;
  counts: Map<string, number>;
  /** What was seen and must not be. */
  wrong: string[];
  /** What was to be seen and was not. */
  unseen: string[];
}

function token(statement: Statement): string {
  switch (statement.kind) {
    case "store": {
      const { how, location, value } = statement;
      return `${how === "string" ? "T" : how === "hole" ? "H" : `S${how}`}:${location}${value}`;
    }
    case "load":
      return `L${statement.width}:${statement.location}${statement.register}`;
    case "atomic": {
      const letter = { swap: "X", add: "A", cas: "C" }[statement.atomic];
      return `${letter}:${statement.location}${statement.operands.join("")}${statement.register ?? ""}`;
    }
    default:
      return { fence: "F:", mfence: "M:", post: "P:s", wait: "V:s", barrier: "B:" }[statement.kind];
  }
}

/** What the table says of the test, its processes on these nodes. */
export function claimOf(test: LitmusTest, order: Exclude<Order, "hardware">, nodes: string[]): Claim {
  return (new Set(nodes).size < nodes.length ? test.paired?.[order] : undefined) ?? test.claims[order];
}

/** What a run must show. */
export function expected(test: LitmusTest, order: Order, nodes: string[]): string[] {
  if (order === "hardware") return [];
  const { sees } = claimOf(test, order, nodes);
  return sees ?? (order === "release" ? [] : [...outcomes(order, test.processes, test.shows, nodes)]);
}

function describeTest(test: LitmusTest, order: Order, nodes: string[]): string {
  const { threads, column, rows } = wayOf(test, order);
  return [
    `test ${test.name} ${threads} ${column} ${rows}`,
    ...test.processes.map((process) => `process ${parse(process).map(token).join(" ")}`),
    `show ${test.shows}`,
    ...expected(test, order, nodes).map((outcome) => `expect ${outcome}`),
    "end\n",
  ].join("\n");
}

/** Whether this machine's processor can do the vector stores of the test. */
export function canRun(test: LitmusTest): boolean {
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" ") ?? [];
  const stores = test.processes.flatMap(parse).filter((each) => each.kind === "store");
  return stores.every(({ how }) => (how !== 32 || flags.includes("avx2")) && (how !== 64 || flags.includes("avx512f")));
}

/** A C program of test/litmus/programs, compiled. */
export async function compile(cluster: Cluster, name: string): Promise<string> {
  const path = join(cluster.folder, name);
  const native = join(ROOT, "native");
  const { code, stderr } = await cluster.command([
    ...["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-mcx16", "-Wall", "-Wextra", "-Werror"],
    ...[`-I${native}/include`, join(import.meta.dir, `programs/${name}.c`), "-o", path],
    ...[`-L${native}/build`, "-ldsm", "-lpthread", `-Wl,-rpath,${native}/build`],
  ]);
  if (code !== 0) throw new Error(`${name}.c does not compile:\n${stderr}`);
  return path;
}

let runs = 0;

/** Runs the tests, all of one number of processes, in one session. */
export async function runTests(
  cluster: Cluster,
  program: string,
  tests: LitmusTest[],
  options: LitmusOptions,
): Promise<Map<string, LitmusResult>> {
  const { order, nodes } = options;
  runs += 1;
  const folder = join(cluster.folder, `litmus-${runs}`);
  mkdirSync(folder);
  const [file, side] = [join(folder, "tests"), join(folder, "side")];
  await Bun.write(file, tests.map((test) => describeTest(test, order, nodes)).join(""));
  const numbers = [ROUND, options.iterations, options.iterationsMax, options.seed].map(String);
  const argv = [program, file, side, ...numbers];
  const said =
    options.memory !== undefined
      ? await runWithout(cluster, argv, nodes.length, options.memory)
      : await cluster.runWell(argv, {
          session: cluster.session(),
          size: String(MAP_SIZE),
          nodes,
          environment: { DSM_ORDER: order },
        });
  return read(said[0] as string, tests, order, nodes);
}

/** The same program on ordinary shared memory, without dsm. */
async function runWithout(cluster: Cluster, argv: string[], processes: number, memory: string): Promise<string[]> {
  const all = await Promise.all(
    Array.from({ length: processes }, (_, rank) =>
      cluster.command(argv, { LITMUS_MEMORY: `${memory}:${rank}:${processes}` }),
    ),
  );
  const failed = all.find(({ code }) => code !== 0);
  if (failed !== undefined) throw new Error(`${argv.join(" ")}: ${failed.stderr}`);
  return all.map(({ stdout }) => stdout);
}

function read(output: string, tests: LitmusTest[], order: Order, nodes: string[]): Map<string, LitmusResult> {
  const lines = output
    .trim()
    .split("\n")
    .map((line) => line.split(" "));
  return new Map(
    tests.map((test) => {
      const ours = lines.filter(([name]) => name === test.name);
      const total = ours.find(([, what]) => what === "total");
      if (total === undefined) throw new Error(`litmus test ${test.name} did not run to its end`);
      const counts = new Map(
        ours.filter((line) => line !== total).map(([, what, count]) => [what as string, Number(count)]),
      );
      const permitted = outcomes(order, test.processes, test.shows, nodes);
      const seen = [...counts.keys()];
      return [
        test.name,
        {
          iterations: Number(total[2]),
          seconds: Number(total[3]) / 1e6,
          counts: new Map([...counts].sort(([a], [b]) => (a < b ? -1 : 1))),
          wrong: seen.filter((outcome) => !permitted.has(outcome)),
          unseen: expected(test, order, nodes).filter((outcome) => !counts.has(outcome)),
        },
      ];
    }),
  );
}

/** One line: the test and how often each outcome was seen. */
export function report(test: LitmusTest, order: Order, result: LitmusResult): string {
  const counts = [...result.counts].map(([outcome, count]) => `${outcome}:${count}`).join(" ");
  const wrong = result.wrong.length > 0 ? `  FORBIDDEN: ${result.wrong.join(" ")}` : "";
  const unseen = result.unseen.length > 0 ? `  not seen: ${result.unseen.join(" ")}` : "";
  return `${order} ${test.name} (${test.shows}) ${counts}  ${result.seconds.toFixed(1)} s${wrong}${unseen}`;
}

export type Placement = "apart" | "paired";

/** How processes are spread over nodes, how many they are, and which tests that is for. */
export const PLACEMENTS: [Placement, number, (test: LitmusTest, order: Order) => boolean][] = [
  ...[2, 3, 4].map((count): (typeof PLACEMENTS)[number] => ["apart", count, (test) => test.processes.length === count]),
  // A process that shares a node with a writer must not see more than the order says.
  ["paired", 3, (test) => ["WRC", "RWC", "ISA2"].includes(test.name)],
  // The queue of pipelined is a node's: what one node's processes see of it first is not to come back in another order.
  [
    "paired",
    4,
    ({ name }, order) =>
      name === "IRIW" || (order === "pipelined" && ["IRIW+fences", "IRIW+adds", "CoRR2"].includes(name)),
  ],
];

/** The node of each process. Paired, the first writer has a reader beside it, and so has the second. */
export function nodesFor(placement: Placement, processes: number): string[] {
  if (placement === "apart") return ["a", "b", "c", "d"].slice(0, processes);
  return processes === 3 ? ["a", "a", "b"] : ["a", "b", "a", "b"];
}
