/** A program that stores one by one, again and again, is told what would be faster; others are not. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster, DSM, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

const PROGRAM = join(ROOT, "test/e2e/programs/stores.ts");
/** Twice what is worth a word, if it is fast. */
const TIMES = "8300";

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const command = (options: string[], ...args: string[]): string[] => [
  ...[DSM, "run", "-n", "2", ...options, "--", PROGRAM, ...args],
];
const TWO_NODES = ["--nodes", "2"];

test.each(["", "0"])("once, with its figures, and DSM_QUIET=%s", async (quiet) => {
  const file = join(cluster.folder, `stop${quiet}`);
  const child = cluster.spawn(command(TWO_NODES, file), {
    session: cluster.session(),
    environment: { DSM_QUIET: quiet },
  });
  let said = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stderr) {
    said += decoder.decode(chunk, { stream: true });
    // It goes on for a while, and says no more.
    if (said.includes("\n")) writeFileSync(file, "");
  }
  expect(await child.exited).toBe(0);
  expect(said).toMatch(
    /^dsm: rank 0 makes \d{4,} single stores a second to 2 pages \(\d{4,} in \d+ ms\), each of them a trap; [^\n]*dsm_hole_dig[^\n]*--order release[^\n]*\n$/,
  );
});

test.each([
  ["DSM_QUIET", TWO_NODES, { DSM_QUIET: "1" }, []],
  ["release order", [...TWO_NODES, "--order", "release"], { DSM_QUIET: "" }, []],
  ["direct mode", [], { DSM_QUIET: "" }, []],
  ["a hole", TWO_NODES, { DSM_QUIET: "" }, ["hole"]],
])("not with %s", async (_what, options, environment, args) => {
  const outcome = await cluster.command(command(options, TIMES, ...args), environment);
  expect(outcome).toMatchObject({ code: 0, stdout: "", stderr: "" });
});
