/** `npm run bench` with tiny counts: its programs build, run and are understood. What they measure is for a quiet machine. */
import { expect, test } from "bun:test";
import { join } from "node:path";

const root = join(import.meta.dir, "../..");

/** One row of every program and script that the bench has; the rest differ in an argument. */
const rows = [
  "load",
  "direct-lock",
  "contended-lock",
  "direct-barrier",
  "direct-semaphore",
  "capture",
  "pipelined",
  "section",
  "store",
  "barrier",
  "strides",
  "hole",
  "molecules",
  "cholesky-2-nodes",
  "server-memory",
  "ordering",
  "run",
];

interface Report {
  rows: { name: string; value: number; floor?: { value: number }; peers: { value: number | null }[] }[];
}

async function bench(...args: string[]) {
  const child = Bun.spawn([process.execPath, join(root, "scripts/bench.ts"), ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, code };
}

test("every program of the bench gives its figures", async () => {
  const { stdout, stderr, code } = await bench("--quick", "--json", ...rows);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  const report = JSON.parse(stdout) as Report;
  expect(report.rows.map(({ name }) => name).sort()).toEqual([...rows].sort());
  for (const { name, value, floor, peers } of report.rows) {
    const figures = [value, ...(floor === undefined ? [] : [floor.value]), ...peers.map((peer) => peer.value ?? 1)];
    expect({ name, bad: figures.filter((figure) => !(Number.isFinite(figure) && figure > 0)) }).toEqual({
      name,
      bad: [],
    });
  }
});

test("a row that does not exist is named, with those that do", async () => {
  const { stdout, stderr, code } = await bench("stor");
  expect(code).toBe(1);
  expect(stdout).toBe("");
  expect(stderr).toContain('there is no row "stor"; there are ');
  expect(stderr).toContain("store");
});
