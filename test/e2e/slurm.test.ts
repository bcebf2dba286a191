/** Tasks as Slurm's srun starts them, without a DSM_ variable but the daemon's address: they find each other. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster, DSM, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** Variables of a task; an empty one counts as not set. */
const task = (rank: number, node: string, step: number): Record<string, string> => ({
  ...{ DSM_SESSION: "", DSM_NODE: "", SLURM_JOB_ID: "17", SLURM_STEP_ID: String(step), SLURM_STEP_NUM_TASKS: "2" },
  ...{ SLURM_STEP_NUM_NODES: "2", SLURM_PROCID: String(rank), SLURMD_NODENAME: node },
  SLURM_LAUNCH_NODE_IPADDR: "127.9.9.9",
});

test("in C", async () => {
  // Rank 1 comes first and is rank 1 all the same.
  const [one, zero] = ([1, 0] as const).map((rank) => {
    const node = `n${rank}`;
    return cluster.actor({ session: "slurm-17.0", node, environment: task(rank, node, 0) });
  });
  await Promise.all([one?.do("open"), zero?.do("open")]);
  const { ranks } = await cluster.status("slurm-17.0");
  expect(ranks.map(({ rank, node }) => [rank, node])).toEqual([
    [0, "n0"],
    [1, "n1"],
  ]);
  await zero?.do("store 8 0 5");
  expect(await one?.number("load 8 0")).toBe(5);
  await Promise.all([one?.leave(), zero?.leave()]);
});

test("in TypeScript", async () => {
  const script = join(cluster.folder, "task.ts");
  writeFileSync(script, 'import { join } from "dsm"; await using s = await join(); console.log(s.rank, s.processes);');
  const runtime = { BUN_BE_BUN: "1" };
  const preload = join(ROOT, "src/client/preload.ts");
  const outcomes = await Promise.all(
    [0, 1].map((rank) => {
      const node = `n${rank}`;
      const child = cluster.spawn([DSM, "--preload", preload, script], {
        ...{ session: "slurm-17.1", node, environment: { ...task(rank, node, 1), ...runtime } },
      });
      return Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    }),
  );
  expect(outcomes).toEqual([
    ["0 2\n", "", 0],
    ["1 2\n", "", 0],
  ]);
});

test("on many nodes without an address of the daemon, it is looked for where srun was called", async () => {
  const environment = { ...task(0, "n0", 2), DSM_DAEMON: "", DSM_AUTOSTART: "0" };
  const actor = cluster.actor({ session: "slurm-17.2", node: "n0", environment });
  expect(await actor.ask("open")).toStartWith("DSM_UNREACHABLE the session daemon at 127.9.9.9:4200 cannot be reached");
  await actor.end();
});
