/**
 * What a group of rows is made of. Probes measure; each gives figures by name, and all probes of a group take turns, so
 * that a machine whose speed drifts drifts for all of them. Rows say which figure stands beside which.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { command, compiler, files, nativeBuild, root, runStep, withBuildLock } from "../steps.ts";
import { xedKit } from "../xed.ts";

export type Figures = Record<string, number>;

export interface Probe {
  /** Names of the figures that `run` returns. */
  gives: string[];
  run(): Promise<Figures>;
}

/** A bound on the row's value, or on value / floor. */
export interface Limit {
  of: "value" | "floor";
  at: "most" | "least";
  bound: number;
}

export interface RowSpec {
  /** For `npm run bench -- NAME`. */
  name: string;
  what: string;
  unit: "ns" | "us" | "ms" | "s" | "GB/s" | "MB/s" | "MiB" | "/s";
  figure: string;
  floor?: { figure: string; what: string };
  peers?: { figure: string; what: string }[];
  limits: Limit[];
}

export interface Group {
  rows: RowSpec[];
  /** How often each probe runs, if it is not as often as those of other groups. */
  rounds?: number;
  /** Starts what the probes need; they may be run until `stop`. */
  start(bench: Bench): Promise<{ probes: Probe[]; stop?: () => Promise<void> }>;
}

export interface Bench {
  /** For child processes: without DSM_* of ours, with a daemon of the bench's own. */
  environment: Record<string, string>;
  /** Temporary, gone at the end. */
  directory: string;
  /** Tiny counts: shows that all of it works, and measures nothing. */
  quick: boolean;
}

export const dsm = join(root, "dist/dsm");
/** Where the C programs of native/bench are built. */
export const programs = join(nativeBuild, "bench");
export const program = (name: string): string => join(programs, name);

export const most = (of: Limit["of"], bound: number): Limit => ({ of, at: "most", bound });
export const least = (of: Limit["of"], bound: number): Limit => ({ of, at: "least", bound });

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** How C programs are compiled, and what those need that use the library. */
export const compileFlags = ["-std=gnu11", "-D_GNU_SOURCE=", "-O2", "-Wall", "-Wextra", "-Werror"];
export const linkFlags = ["-Inative/include", `-L${nativeBuild}`, `-Wl,-rpath,${nativeBuild}`, "-ldsm"];

const names = [
  "barrier",
  "bulk",
  "burst",
  "capture",
  "contended",
  "echo",
  "empty",
  "intervals",
  "local",
  "loops",
  "operations",
  "redis",
  "semaphore",
];

/** Compiles what is out of date of native/bench; mpi.c only where MPI is installed. */
export async function compilePrograms(): Promise<void> {
  const sources = await files("native/src/**/*.c");
  const kit = await xedKit();
  const extra: Record<string, string[]> = {
    // Reaches into the library, which does not export its internal names.
    capture: [...sources, "-Inative/include", "-Inative/src", `-I${kit}/include`, `${kit}/lib/libxed.a`],
    echo: [],
    redis: [],
    mpi: [],
  };
  const mpicc = Bun.which("mpicc");
  const compile = (name: string, cc: string) =>
    command([cc, ...compileFlags, `native/bench/${name}.c`, "-o", program(name), ...(extra[name] ?? linkFlags)]);
  const inputs = await files(
    "native/bench/*.[ch]",
    "native/src/**/*.[ch]",
    "native/include/**/*.h",
    "scripts/bench/bench.ts",
  );
  await withBuildLock(() =>
    runStep({
      name: "bench",
      inputs,
      facts: [compiler(), mpicc ?? ""],
      outputs: names.map((name) => `native/build/bench/${name}`),
      run: async () => {
        await mkdir(programs, { recursive: true });
        await Promise.all(names.map((name) => compile(name, compiler())));
        if (mpicc !== null) await compile("mpi", mpicc);
      },
    }),
  );
}

/** Runs a program to its end; its lines of numbers. */
export async function numbers(argv: string[], environment: Record<string, string>): Promise<number[][]> {
  const child = Bun.spawn(argv, { env: environment, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [text, complaint, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (code !== 0) throw new Error(`${argv.join(" ")} ended with code ${code}:\n${complaint}`);
  const lines = text
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number));
  if (lines.some((line) => line.some(Number.isNaN))) throw new Error(`${argv.join(" ")} printed no numbers:\n${text}`);
  return lines;
}

/**
 * The median of one column of the second half. In the first one arbiters and server, which begin with the program, are
 * still being compiled as they run; what stands beside them as floor runs all the time.
 */
export function medianOf(lines: number[][], column = 0): number {
  return median(lines.slice(Math.floor(lines.length / 2)).map((line) => line[column] ?? Number.NaN));
}

/** They end with the bench, however it ends. */
const running = new Set<Bun.Subprocess>();
process.on("exit", () => {
  for (const child of running) child.kill();
});

/** A background process that says on its first line where it is to be found. */
export async function startBeside(
  argv: string[],
  environment: Record<string, string>,
  stderr: "inherit" | "ignore" = "inherit",
) {
  const child = Bun.spawn(argv, { env: environment, stdin: "ignore", stdout: "pipe", stderr });
  running.add(child);
  const reader = child.stdout.getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`${argv.join(" ")} ended before it was ready`);
    text += new TextDecoder().decode(value);
  }
  return {
    line: text.split("\n")[0] as string,
    pid: child.pid,
    stop: async () => {
      child.kill();
      await child.exited;
      running.delete(child);
    },
  };
}

export type Beside = Awaited<ReturnType<typeof startBeside>>;

/** The bench's own scripts run on the Bun that runs the bench. */
export const script = (name: string, ...args: string[]): string[] => [
  process.execPath,
  join(root, `scripts/bench/${name}.ts`),
  ...args,
];

/** How mpirun is called, or null where Open MPI is not installed. Two processes over TCP, as two machines would. */
export function mpirun(): string[] | null {
  const path = Bun.which("mpirun");
  if (path === null || Bun.which("mpicc") === null) return null;
  const tcp = ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self"];
  return [path, "-n", "2", "--oversubscribe", "--bind-to", "none", ...tcp, program("mpi")];
}

/** Runs the probes that give a wanted figure, round by round; the median of each figure. */
export async function measure(probes: Probe[], wanted: Set<string>, rounds: number): Promise<Map<string, number>> {
  const values = new Map<string, number[]>();
  const used = probes.filter(({ gives }) => gives.some((figure) => wanted.has(figure)));
  for (let round = 0; round < rounds; round += 1) {
    for (const probe of used) {
      for (const [figure, value] of Object.entries(await probe.run())) {
        values.set(figure, [...(values.get(figure) ?? []), value]);
      }
    }
  }
  return new Map([...values].map(([figure, list]) => [figure, median(list)]));
}
