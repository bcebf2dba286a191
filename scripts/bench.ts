/**
 * `npm run bench`: what dsm costs, every figure beside its floor and, where it is installed, beside a peer, all measured
 * in this run. Prints a table, writes dist/bench.json, and exits with 1 when a row misses what it is to reach.
 *
 *   npm run bench -- NAME...     only these rows
 *   npm run bench -- --json      prints what dist/bench.json gets, instead of the table
 *   npm run bench -- --readme    also writes the tables into examples/reference/performance.md and README.md
 *   npm run bench -- --quick     tiny counts: only shows that everything works; nothing is judged or written
 *
 * Wants a machine that does nothing else.
 */
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  type Bench,
  compilePrograms,
  dsm,
  type Group,
  type Limit,
  measure,
  type RowSpec,
  startBeside,
} from "./bench/bench.ts";
import { bulk } from "./bench/bulk.ts";
import { capture, pipelined } from "./bench/capture.ts";
import { contended } from "./bench/contended.ts";
import { hops } from "./bench/hops.ts";
import { intervals } from "./bench/intervals.ts";
import { compileKernels, kernels } from "./bench/kernels.ts";
import { local } from "./bench/local.ts";
import { loops } from "./bench/loops.ts";
import { ordering } from "./bench/ordering.ts";
import { type Cells, writePages } from "./bench/pages.ts";
import { start } from "./bench/start.ts";
import { ensureBuilt } from "./build.ts";
import { BuildError, replaceFile, root, runScript } from "./steps.ts";

const ROUNDS = 7;
const groups: Group[] = [local, contended, capture, pipelined, loops, hops, bulk, intervals, kernels, ordering, start];

interface Row {
  name: string;
  what: string;
  unit: string;
  value: number;
  floor?: { what: string; value: number; ratio: number };
  /** null: not installed. */
  peers: { what: string; value: number | null }[];
  limits: (Limit & { reached: number; good: boolean })[];
}

function figuresOf(row: RowSpec): string[] {
  return [row.figure, row.floor?.figure, ...(row.peers ?? []).map(({ figure }) => figure)].filter(
    (figure) => figure !== undefined,
  );
}

function judge(spec: RowSpec, figures: Map<string, number>): Row {
  const { name, what, unit } = spec;
  const value = figures.get(spec.figure) ?? Number.NaN;
  const floorValue = spec.floor === undefined ? Number.NaN : (figures.get(spec.floor.figure) ?? Number.NaN);
  const limits = spec.limits.map((limit) => {
    const reached = limit.of === "floor" ? value / floorValue : value;
    // What could not be measured is not good.
    return { ...limit, reached, good: limit.at === "most" ? reached <= limit.bound : reached >= limit.bound };
  });
  return {
    name,
    what,
    unit,
    value,
    ...(spec.floor === undefined
      ? {}
      : { floor: { what: spec.floor.what, value: floorValue, ratio: value / floorValue } }),
    peers: (spec.peers ?? []).map((peer) => ({ what: peer.what, value: figures.get(peer.figure) ?? null })),
    limits,
  };
}

async function runGroup(group: Group, rows: RowSpec[], bench: Bench): Promise<Row[]> {
  const { probes, stop } = await group.start(bench);
  try {
    const figures = await measure(probes, new Set(rows.flatMap(figuresOf)), bench.quick ? 1 : ROUNDS);
    return rows.map((row) => judge(row, figures));
  } finally {
    await stop?.();
  }
}

const figure = (value: number, unit: string): string =>
  `${value >= 1000 ? Math.round(value).toLocaleString("en") : value.toFixed(value >= 100 ? 0 : 2)} ${unit}`;

const bound = ({ of, at, bound }: Limit, unit: string): string => {
  const sign = at === "most" ? "≤" : "≥";
  return of === "floor" ? `${sign} ${Number(bound.toPrecision(3))} ×` : `${sign} ${bound.toLocaleString("en")} ${unit}`;
};

/** The cells of a row, for the terminal and the documents. */
function cells(row: Row): Cells {
  const { unit, floor } = row;
  return {
    what: row.what,
    dsm: figure(row.value, unit),
    floor: floor === undefined ? "" : `${figure(floor.value, unit)} (${floor.what})`,
    ratio: floor === undefined ? "" : floor.ratio.toFixed(floor.ratio < 0.1 ? 3 : 2),
    peers: row.peers
      .map(({ what, value }) => `${what}: ${value === null ? "not installed" : figure(value, unit)}`)
      .join("; "),
    "to reach": row.limits.map((limit) => bound(limit, unit)).join(", "),
  };
}

const isGood = (row: Row): boolean => row.limits.every(({ good }) => good);

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { json: { type: "boolean" }, readme: { type: "boolean" }, quick: { type: "boolean" } },
  });
  const known = groups.flatMap(({ rows }) => rows.map(({ name }) => name));
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new BuildError(`there is no row "${unknown}"; there are ${known.join(", ")}`);
  if (values.readme && (values.quick || positionals.length > 0)) {
    throw new BuildError("--readme wants a whole run: no names, no --quick");
  }
  return { ...values, quick: values.quick === true, names: positionals };
}

await runScript(async () => {
  const { names, json, readme, quick } = readArguments();
  await ensureBuilt();
  await compilePrograms();
  await compileKernels();
  const directory = await mkdtemp(join(tmpdir(), "dsm-bench-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
  const environment: Record<string, string> = { ...(process.env as Record<string, string>) };
  for (const name of Object.keys(environment)) if (name.startsWith("DSM_")) delete environment[name];
  environment.XDG_RUNTIME_DIR = directory;
  // That a program stores one by one is what is measured.
  environment.DSM_QUIET = "1";
  // Open MPI asks for this where a container has no other user.
  environment.OMPI_ALLOW_RUN_AS_ROOT = "1";
  environment.OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = "1";
  const daemon = await startBeside([dsm, "daemon", "--port", "0"], environment, "ignore");
  const rows: Row[] = [];
  try {
    const port = /:(\d+)\s*$/.exec(daemon.line)?.[1];
    if (port === undefined) throw new BuildError("the daemon did not say where it listens");
    environment.DSM_DAEMON = `127.0.0.1:${port}`;
    for (const group of groups) {
      const wanted = group.rows.filter(({ name }) => names.length === 0 || names.includes(name));
      if (wanted.length > 0) rows.push(...(await runGroup(group, wanted, { environment, directory, quick })));
    }
  } finally {
    await daemon.stop();
  }
  const report = { cores: availableParallelism(), rounds: quick ? 1 : ROUNDS, rows };
  const text = `${JSON.stringify(report, null, 2)}\n`;
  if (json) process.stdout.write(text);
  else {
    const verdict = (row: Row) => (quick ? {} : { good: isGood(row) ? "yes" : "NO" });
    console.table(rows.map((row) => ({ name: row.name, ...cells(row), ...verdict(row) })));
  }
  if (quick) return;
  await replaceFile(join(root, "dist/bench.json"), text);
  if (readme) await writePages(new Map(rows.map((row) => [row.name, cells(row)])));
  const missed = rows.filter((row) => !isGood(row)).map(({ name }) => name);
  if (missed.length === 0) return;
  process.exitCode = 1;
  console.error(`Not reached: ${missed.join(", ")}`);
});
