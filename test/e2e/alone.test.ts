/** dist/dsm and nothing else, in a folder of another user, who has nothing of ours and no rights. Needs root. */
import { expect, setDefaultTimeout } from "bun:test";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Outcome } from "../support/e2e-child.ts";
import { Cluster, DSM, eventually, ROOT } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

setDefaultTimeout(120_000);

const { afterAll, afterEach, beforeAll, test } = needs("root");

/** A user without processes and files. */
const USER = 61_977;

let cluster: Cluster;
let folder: string;
let home: string;
let dsm: string;
let as: string[];

beforeAll(async () => {
  folder = mkdtempSync("/tmp/dsm-alone-");
  home = join(folder, "home");
  dsm = join(home, "dsm");
  // No variable of ours but the daemon's address; the rest is what a login gives.
  as = [
    ...["setpriv", `--reuid=${USER}`, `--regid=${USER}`, "--clear-groups", "sh", "-c"],
    `cd ${home} && exec env -i HOME=${home} PATH=/usr/bin:/bin XDG_RUNTIME_DIR="$XDG_RUNTIME_DIR" ` +
      'DSM_DAEMON="$DSM_DAEMON" NO_COLOR=1 "$@"',
    "sh",
  ];
  mkdirSync(home);
  copyFileSync(DSM, dsm);
  chmodSync(folder, 0o755);
  chownSync(home, USER, USER);
  cluster = await Cluster.start({ as, dsm, user: USER });
});
afterEach(() => cluster.settled());
afterAll(async () => {
  await cluster?.close();
  rmSync(folder, { recursive: true, force: true });
});

const run = (...args: string[]): Promise<Outcome> => cluster.command([...as, dsm, ...args]);

function write(name: string, text: string): void {
  writeFileSync(join(home, name), text);
}

const PROGRAM = `
import { join } from "dsm";

await using session = await join();
const { rank, processes, node } = session;
const slots: Float64Array = session.view(Float64Array, 0, processes);
const counter = session.view(BigUint64Array, 4096, 1);
slots[rank] = rank + 0.5;
for (let i = 0; i < 100; i++) Atomics.add(counter, 0, 1n);
const row = session.view(Uint8Array, 10_000 + 1000 * rank, 1000);
const hole = session.hole(row);
row.fill(rank + 1);
await hole.fill();
await session.barrier();
const rows = session.view(Uint8Array, 10_000, 1000 * processes);
if (!rows.every((value, i) => value === Math.floor(i / 1000) + 1)) throw new Error("the rows are wrong");
console.log(rank, node, [...slots].join(), counter[0], process.getuid?.());
`;

test("a .ts program that imports dsm runs over two nodes", async () => {
  write("program.ts", PROGRAM);
  const { code, stdout, stderr } = await run("run", "-n", "4", "--nodes", "2", "--tag", "--", "program.ts");
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const lines = stdout.trimEnd().split("\n").sort();
  expect(lines.map((line) => line.replace(/^(\[\d\] \d) .*-(\d) /, "$1 node $2 "))).toEqual(
    [0, 1, 2, 3].map((rank) => `[${rank}] ${rank} node ${rank < 2 ? 0 : 1} 0.5,1.5,2.5,3.5 400n ${USER}`),
  );
  // What it carries went to this user's cache, and nothing else came into being.
  expect(readdirSync(home).sort()).toEqual([".cache", "dsm", "program.ts"]);
  expect(statSync(join(home, ".cache/dsm")).mode & 0o777).toBe(0o700);
  expect(statSync(join(home, ".cache/dsm")).uid).toBe(USER);
});

test("dsm doctor finds the machine in order", async () => {
  const { code, stdout, stderr } = await run("doctor", "--json");
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(JSON.parse(stdout)).toBeObject();
});

test("a C program is built against what it installs, and runs over two nodes", async () => {
  const prefix = join(home, "prefix");
  // On a busy machine it tells how far it is.
  const progress = expect.stringMatching(/^(dsm: copying to .*\n)*$/);
  expect(await run("install", "--prefix", prefix)).toMatchObject({ code: 0, stderr: progress });
  const program = join(home, "template");
  const gcc = [
    "gcc",
    join(ROOT, "examples/template/template.c"),
    "-o",
    program,
    `-I${prefix}/include`,
    `-L${prefix}/lib`,
  ];
  const libraries = ["-l:libdsm.a", "-lpthread", "-lrt", "-lxed"];
  // The sources lie where this user may not go.
  expect(await cluster.command([...gcc, ...libraries])).toMatchObject({ code: 0, stderr: "" });
  const { code, stdout, stderr } = await run("run", "-n", "4", "--nodes", "2", "--", program);
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "squares of 4 processes: 0 1 4 9\n", stderr: "" });
});

test("a daemon is started if none runs, with a note", async () => {
  write("program.ts", PROGRAM);
  // A loopback address of this test's own: all its ports are free.
  const address = `127.77.${(process.pid >> 8) & 255}.${process.pid & 255 || 1}:4200`;
  const { code, stdout, stderr } = await run("run", "-n", "2", "--nodes", "2", "--daemon", address, "--", "program.ts");
  expect({ code, stderr }).toEqual({
    ...{ code: 0, stderr: `dsm: started a session daemon at ${address}; it ends 60 s after its last session\n` },
  });
  expect(stdout.trimEnd().split("\n")).toHaveLength(2);
  const health = (await (await fetch(`http://${address}/v1/health`)).json()) as { pid: number; autostarted: boolean };
  expect(health.autostarted).toBe(true);
  await eventually("its session has ended", async () => {
    const { sessions } = (await (await fetch(`http://${address}/v1/sessions`)).json()) as { sessions: unknown[] };
    return sessions.length === 0;
  });
  process.kill(health.pid, "SIGTERM");
});
