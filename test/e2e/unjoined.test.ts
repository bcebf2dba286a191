/** `dsm run` where a rank ends without joining: the others do not wait until their time is over. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster } from "../support/e2e-cluster.ts";

setDefaultTimeout(240_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** A program in TypeScript, for `dsm run`. */
function script(name: string, text: string): string {
  const path = join(cluster.folder, name);
  writeFileSync(path, text);
  return path;
}

/** Longer than any test may take: no end is that of the time that a process waits. */
const PATIENT = { DSM_JOIN_TIMEOUT_MS: "3600000" };

test("a rank that exits with 0: the run says which, and ends", async () => {
  const program = script(
    "never-joins.ts",
    `import { join } from "dsm";
     if (process.env.DSM_RANK === "1") process.exit(0);
     await join();`,
  );
  expect(await cluster.dsm(["run", "-n", "2", "--", program], PATIENT)).toMatchObject({
    code: 1,
    stderr:
      "dsm: process 1 ended without joining, and process 0 waits for it in join(); let every process join, or start fewer with -n\n",
  });
});

test("a rank that exits before the others begin to join, on another node, in C", async () => {
  const command = 'case $DSM_RANK in 1|2) exit 0;; esac; sleep 1; echo open | exec "$0"';
  const { code, stderr } = await cluster.dsm(
    ["run", "-n", "4", "--nodes", "2", "--", "sh", "-c", command, cluster.program("actor")],
    PATIENT,
  );
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^dsm: processes 1 and 2 ended without joining, and process [03] waits for them/),
  });
});

test("under --on-loss continue the code is that of the rank that failed before it joined", async () => {
  const command = '[ $DSM_RANK = 1 ] && exit 7; echo open | exec "$0"';
  const { code, stderr } = await cluster.dsm(
    ["run", "-n", "2", "--on-loss", "continue", "--", "sh", "-c", command, cluster.program("actor")],
    PATIENT,
  );
  expect({ code, stderr: stderr.split("\n") }).toEqual({
    code: 7,
    stderr: [
      expect.stringMatching(/^dsm: process 1 \(pid \d+\) ended with exit code 7; the others go on$/),
      "dsm: process 1 ended without joining, and process 0 waits for it in join(); let every process join, or start fewer with -n",
      "",
    ],
  });
});

test("a rank that joins the first session of that name, and not the second", async () => {
  const program = script(
    "joins-once.ts",
    `import { join } from "dsm";
     const session = await join();
     await session.leave();
     if (session.rank === 1) process.exit(0);
     await join();`,
  );
  const { code, stderr } = await cluster.dsm(["run", "-n", "2", "--", program], PATIENT);
  expect(code).toBe(1);
  expect(stderr).toStartWith("dsm: process 1 ended without joining, and process 0 waits for it");
});

test("is no failure where no rank joins, where the session needs fewer, and where a rank's child joins later", async () => {
  expect(await cluster.dsm(["run", "-n", "2", "--", "echo", "hi"])).toMatchObject({ code: 0, stdout: "hi\nhi\n" });
  const fewer = script(
    "fewer.ts",
    `import { join } from "dsm";
     if (process.env.DSM_RANK === "2") process.exit(0);
     const session = await join({ processes: 2 });
     await session.barrier();
     await session.leave();`,
  );
  expect(await cluster.dsm(["run", "-n", "3", "--", fewer])).toMatchObject({ code: 0, stderr: "" });
  // The shell of rank 1 has ended long before its child joins.
  const actor = `printf 'open\\nbarrier\\nleave\\n' | "$0"`;
  const command = `if [ $DSM_RANK = 1 ]; then (sleep 3; ${actor}) & exit 0; fi; ${actor}`;
  const late = await cluster.dsm(["run", "-n", "2", "--", "sh", "-c", command, cluster.program("actor")]);
  expect(late).toMatchObject({ code: 0, stderr: "" });
});

test("is no failure in an elastic session, which others may join", async () => {
  const session = cluster.session();
  const command = `[ $DSM_RANK = 1 ] && exit 0; printf 'open\\nleave\\n' | exec "$0"`;
  const run = cluster.dsm(
    ["run", "-n", "2", "--elastic", "--session", session, "--", "sh", "-c", command, cluster.program("actor")],
    PATIENT,
  );
  const other = cluster.actor({ session, processes: 2, environment: { DSM_ELASTIC: "1", DSM_SIZE: "1MiB" } });
  await other.do("open");
  await other.leave();
  expect(await run).toMatchObject({ code: 0, stderr: "" });
});
