/** What people see of an error of dsm that a program does not catch: the program's line first, and none of the package. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(300_000);

/** Programs of one process. The line that fails ends with "here". */
const PROGRAMS = {
  "a rejected join()": `import { join } from "dsm";
await 1;
await join({ sesion: "a" }); // here
`,
  "a call, outside a session": `import { i32, struct } from "dsm";
function define(type) {
  struct({ turn: type }); // here
  return type;
}
define(5);
define(i32);
`,
  "a rejected promise, awaited at the top level": `import { join } from "dsm";
const session = await join();
await session.semaphore("never", 0).wait({ timeoutMs: 1 }); // here
`,
  "a rejected promise that nothing awaits, of a function that is over": `import { join } from "dsm";
async function main(session) {
  await session.barrier();
  begin(session);
}
function begin(session) {
  session.lock("a").use(async () => {
    await 1;
    session.lock("b").unlock(); // here
  });
}
const session = await join();
await main(session);
await session.barrier(); // whose answer comes after the other one
`,
  "an assignment": `import { i32, join } from "dsm";
const session = await join();
const shared = session.struct("state", { turn: i32 });
await session.barrier();
shared.trun = 1; // here
`,
};

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
  // The package as a checkout has it, and as it is installed.
  for (const name of ["checkout", "installed", "none"])
    mkdirSync(join(cluster.folder, name, "node_modules"), { recursive: true });
  symlinkSync(ROOT, join(cluster.folder, "checkout/node_modules/dsm"));
  const installed = join(cluster.folder, "installed/node_modules/dsm");
  mkdirSync(installed);
  writeFileSync(join(installed, "package.json"), '{ "type": "module", "exports": "./index.js" }');
  symlinkSync(join(ROOT, "dist/client/index.js"), join(installed, "index.js"));
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const NODE = Bun.which("node") ?? "node";

/** How Bun and Node show an error: where the line is that they show first. */
function firstLine(stderr: string, source: string, isBun: boolean): string | undefined {
  const lines = stderr.split("\n");
  if (isBun) return lines[lines.findIndex((line) => /^\s+\^$/.test(line)) - 1];
  const [, number] = /^ +at .*?program\.mjs:(\d+):/.exec(lines.find((line) => /^ +at /.test(line)) ?? "") ?? [];
  return source.split("\n")[Number(number) - 1];
}

describe.each([
  ["dsm run", [], "none"],
  ["Bun, from a checkout", [process.execPath], "checkout"],
  ["Bun, installed", [process.execPath], "installed"],
  ["Node, installed", [NODE], "installed"],
])("%s", (_, runtime, folder) => {
  test.each(Object.entries(PROGRAMS))("%s", async (_, source) => {
    const program = join(cluster.folder, folder, "program.mjs");
    writeFileSync(program, source);
    const { code, stderr } = await cluster.dsm(["run", "-n1", "--", ...runtime, program]);
    expect(firstLine(stderr, source, runtime[0] !== NODE), stderr).toEndWith("// here");
    expect(stderr).not.toMatch(/preload\.js|index\.js|src\/client|src\/core|sourcemap/);
    expect(stderr).toContain("DsmError: ");
    expect(code).toBe(1);
  });
});

test("the loss of another process, in the function that waited", async () => {
  const program = join(cluster.folder, "none/loss.ts");
  const source = `import { join, type Session } from "dsm";
async function main() {
  const session = await join();
  await helper(session);
}
async function helper(session: Session) {
  if (session.rank === 1) process.exit(0);
  await session.barrier(); // here
}
await main();
`;
  writeFileSync(program, source);
  const { code, stderr } = await cluster.dsm(["run", "-n2", "--", program]);
  expect(firstLine(stderr, source, true), stderr).toEndWith("// here");
  expect(stderr).toContain("DSM_LOST");
  expect(code).toBe(1);
});
