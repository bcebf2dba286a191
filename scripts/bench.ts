/**
 * `npm run bench`: what dsm costs, every figure beside its floor, both measured in this run. Prints a table, writes
 * dist/bench.json, and exits with 1 when a figure misses what it is to reach. Wants a machine that does nothing else.
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureBuilt } from "./build.ts";
import { command, compiler, nativeBuild, root, runScript } from "./steps.ts";
import { xedKit } from "./xed.ts";

interface Row {
  what: string;
  value: number;
  floor: number;
  unit: "us" | "s";
  /** Largest value / floor that is good, or the largest value itself where there is no floor. */
  limit: number;
  ratio: number;
}

/** Floor and figure take turns, so that a machine whose speed drifts drifts for both. */
const ROUNDS = 5;
const OPERATIONS = 4000;

const dsm = join(root, "dist/dsm");
const programs = join(nativeBuild, "bench");

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

async function compilePrograms(): Promise<void> {
  await mkdir(programs, { recursive: true });
  const cc = compiler();
  const library = ["-Inative/include", `-L${nativeBuild}`, `-Wl,-rpath,${nativeBuild}`, "-ldsm"];
  const capture = (await Array.fromAsync(new Bun.Glob("native/src/*.c").scan({ cwd: root }))).sort();
  const kit = await xedKit();
  const flags = ["-std=gnu11", "-D_GNU_SOURCE=", "-O2", "-Wall", "-Wextra"];
  await command([cc, ...flags, "native/bench/echo.c", "-o", join(programs, "echo")]);
  for (const name of ["operations", "empty"]) {
    await command([cc, ...flags, `native/bench/${name}.c`, "-o", join(programs, name), ...library]);
  }
  await command(
    [cc, ...flags, "native/bench/capture.c", ...capture, "-Inative/include", "-Inative/src", `-I${kit}/include`].concat(
      [`${kit}/lib/libxed.a`, "-o", join(programs, "capture")],
    ),
  );
}

/** Runs a program that prints nanoseconds, one a line; their median in microseconds. */
async function medianOf(argv: string[], environment: Record<string, string>): Promise<number> {
  const child = Bun.spawn(argv, { env: environment, stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  const text = await child.stdout.text();
  if ((await child.exited) !== 0) throw new Error(`${argv.join(" ")} failed`);
  // The first tenth warms up what is compiled on use.
  const values = text.trim().split("\n").map(Number);
  return median(values.slice(values.length / 10)) / 1000;
}

interface Hops {
  path: string;
  stop(): Promise<void>;
}

async function startHops(directory: string): Promise<Hops> {
  const script = join(root, "scripts/bench/relay.ts");
  const start = async (...argv: string[]) => {
    const child = Bun.spawn([process.execPath, script, ...argv], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    const first = await child.stdout.getReader().read();
    return { child, line: new TextDecoder().decode(first.value).trim() };
  };
  const path = join(directory, "relay.sock");
  const echo = await start("echo");
  const relay = await start("relay", path, echo.line);
  return {
    path,
    stop: async () => {
      for (const { child } of [relay, echo]) child.kill();
      await Promise.all([relay.child.exited, echo.child.exited]);
    },
  };
}

async function startDaemon(environment: Record<string, string>) {
  const child = Bun.spawn([dsm, "daemon", "--port", "0"], {
    env: environment,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const first = await child.stdout.getReader().read();
  const port = /:(\d+)\s*$/.exec(new TextDecoder().decode(first.value))?.[1];
  if (port === undefined) throw new Error("the daemon did not say where it listens");
  return { child, address: `127.0.0.1:${port}` };
}

const row = (what: string, unit: Row["unit"], values: number[], floors: number[], limit: number): Row => {
  const [value, floor] = [median(values), median(floors)];
  return { what, value, floor, unit, limit, ratio: value / floor };
};

async function measureHops(environment: Record<string, string>, directory: string): Promise<Row[]> {
  const hops = await startHops(directory);
  const kinds = ["store", "atomic", "barrier"] as const;
  const figures: Record<(typeof kinds)[number], number[]> = { store: [], atomic: [], barrier: [] };
  const floors: number[] = [];
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      floors.push(await medianOf([join(programs, "echo"), hops.path, String(OPERATIONS)], environment));
      for (const kind of kinds) {
        const program = [join(programs, "operations"), kind, String(OPERATIONS)];
        figures[kind].push(await medianOf([dsm, "run", "-n", "2", "--nodes", "2", "--", ...program], environment));
      }
    }
  } finally {
    await hops.stop();
  }
  return [
    row("sequential store, 2 nodes, to a bare echo over the same hops", "us", figures.store, floors, 1.5),
    row("sequential atomic, 2 nodes, to the same echo", "us", figures.atomic, floors, 1.5),
    row("barrier, 2 processes on 2 nodes, to the same echo", "us", figures.barrier, floors, 2.5),
  ];
}

async function measureCapture(): Promise<Row[]> {
  const runs: Record<string, number>[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    runs.push(JSON.parse(await command([join(programs, "capture")])) as Record<string, number>);
  }
  const of = (name: string) => runs.map((run) => (run[name] ?? Number.NaN) / 1000);
  const bare = of("bare_ns");
  return [
    row("captured store of a general register, to a bare SIGSEGV", "us", of("gpr_ns"), bare, 1.3),
    row("captured store of an XMM register, to a bare SIGSEGV", "us", of("vector_ns"), bare, 1.5),
    row("captured read-modify-write, to a bare SIGSEGV", "us", of("rmw_ns"), bare, 2.5),
  ];
}

async function measureRun(environment: Record<string, string>): Promise<Row[]> {
  const time = async (argv: string[]) => {
    const start = performance.now();
    const child = Bun.spawn(argv, { env: environment, stdin: "ignore", stdout: "ignore", stderr: "inherit" });
    if ((await child.exited) !== 0) throw new Error(`${argv.join(" ")} failed`);
    return (performance.now() - start) / 1000;
  };
  const empty = join(programs, "empty");
  const [values, floors]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round += 1) {
    floors.push(1);
    values.push(await time([dsm, "run", "-n", "2", "--", empty]));
  }
  return [row("dsm run -n 2 of a program that joins and leaves, start to exit", "s", values, floors, 0.5)];
}

function print(rows: Row[]): void {
  const table = rows.map(({ what, value, floor, unit, ratio, limit }) => ({
    what,
    value: `${value.toFixed(2)} ${unit}`,
    floor: `${floor.toFixed(2)} ${unit}`,
    ratio: ratio.toFixed(2),
    limit: limit.toFixed(2),
    good: ratio <= limit ? "yes" : "NO",
  }));
  console.table(table);
}

await runScript(async () => {
  await ensureBuilt();
  await compilePrograms();
  const directory = await mkdtemp(join(tmpdir(), "dsm-bench-"));
  const environment: Record<string, string> = { ...(process.env as Record<string, string>) };
  for (const name of Object.keys(environment)) if (name.startsWith("DSM_")) delete environment[name];
  environment.XDG_RUNTIME_DIR = directory;
  const daemon = await startDaemon(environment);
  environment.DSM_DAEMON = daemon.address;
  let rows: Row[];
  try {
    rows = [
      ...(await measureCapture()),
      ...(await measureHops(environment, directory)),
      ...(await measureRun(environment)),
    ];
  } finally {
    daemon.child.kill();
    await daemon.child.exited;
    await rm(directory, { recursive: true, force: true });
  }
  print(rows);
  await Bun.write(join(root, "dist/bench.json"), `${JSON.stringify(rows, null, 2)}\n`);
  if (rows.some(({ ratio, limit }) => !(ratio <= limit))) process.exitCode = 1;
});
