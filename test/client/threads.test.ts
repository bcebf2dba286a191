/** Worker threads that attach to the session of their process, under Node and Bun, in every order and in direct mode. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster } from "../support/e2e-cluster.ts";

setDefaultTimeout(300_000);

const THREADS = join(import.meta.dir, "fixtures/threads.mjs");
const RUNTIMES: Record<string, string> = { Node: Bun.which("node") ?? "node", Bun: process.execPath };

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** The act by one process per node, all to their good ends. */
async function act(runtime: string, name: string, nodes: string[], order = "sequential"): Promise<void> {
  const said = await cluster.runWell([RUNTIMES[runtime] as string, THREADS, name], {
    ...{ session: cluster.session(), size: "1MiB", nodes },
    environment: { DSM_ORDER: order, DSM_ON_LOSS: "continue" },
  });
  expect(said).toEqual(nodes.map(() => "ok\n"));
}

describe.each(["Node", "Bun"])("%s", (runtime) => {
  test.each([
    ["sequential", ["a", "b"]],
    ["release", ["a", "b"]],
    ["pipelined", ["a", "b"]],
    ["sequential", ["a", "a"]], // direct mode
  ])(
    "threads of two processes share memory, locks, semaphores and sleeps: order %s, nodes %j",
    async (order, nodes) => {
      await act(runtime, "work", nodes, order);
    },
  );

  test.each(["sequential", "release"])("the main thread leaves while others wait: order %s", async (order) => {
    await act(runtime, "leave", ["a", "b"], order);
  });

  test("what is no way to share the memory says so", async () => {
    await act(runtime, "wrong", ["a"]);
  });
});

// Bun's own Worker as well, whose file may be one that no package is near.
test("workers of a script of dsm run can import dsm, too", async () => {
  const folder = join(cluster.folder, "workers");
  mkdirSync(folder);
  writeFileSync(
    join(folder, "main.ts"),
    `import { join } from "dsm";
import { Worker as NodeWorker } from "node:worker_threads";
const session = await join();
const view = session.view(Int32Array);
view[0] = 5;
const source = "import { attach } from 'dsm'; import { workerData } from 'node:worker_threads';" +
  "const work = async (handle) => { const s = await attach(handle); s.view(Int32Array)[0] += 1; await s.leave(); postMessage('done'); };" +
  "if (workerData) await work(workerData); else onmessage = ({ data }) => work(data);";
const web = new Worker(URL.createObjectURL(new Blob([source])));
web.postMessage(session.handle());
await new Promise((resolve) => (web.onmessage = resolve));
web.terminate();
const node = new NodeWorker(new URL("./worker.ts", import.meta.url), { workerData: session.handle() });
await new Promise((resolve) => node.on("exit", resolve));
console.log(view[0], Worker.name, NodeWorker.name);
await session.leave();
`,
  );
  writeFileSync(
    join(folder, "worker.ts"),
    `import { attach } from "dsm";
import { workerData } from "node:worker_threads";
const session = await attach(workerData);
session.view(Int32Array)[0] += 1;
await session.leave();
`,
  );
  const { code, stdout, stderr } = await cluster.dsm(["run", "-n1", "--", join(folder, "main.ts")], {
    DSM_DIRECT: "0",
  });
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "7 Worker Worker\n", stderr: "" });
});
