/** The bundle that `dsm run` loads before a script, as it lies in a user's cache: three files and nothing else. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cluster } from "./cluster.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(180_000);

const root = join(import.meta.dir, "../..");
let cluster: Cluster;
let folder: string;

beforeAll(async () => {
  cluster = await Cluster.start();
  folder = await mkdtemp(join(tmpdir(), "dsm-preload-"));
  for (const path of ["dist/client/preload.js", "native/build/libdsm.so", "native/build/koffi.node"]) {
    await copyFile(join(root, path), join(folder, path.split("/").at(-1) as string));
  }
});

afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

test('a script imports "dsm" with nothing installed', async () => {
  const script = join(folder, "script.ts");
  await Bun.write(
    script,
    `import { join, DsmError } from "dsm";
       await using session = await join();
       session.view(Float64Array)[0] = 0.5;
       await session.barrier();
       const code = await session.semaphore("s", 0).wait({ timeoutMs: 0 }).catch((error) => error instanceof DsmError && error.code);
       console.log(session.rank, session.view(Float64Array)[0], code, process.env.BUN_BE_BUN, process.argv.slice(2).join());`,
  );
  const child = Bun.spawn([join(root, "dist/dsm"), "--preload", join(folder, "preload.js"), script, "a", "b"], {
    cwd: folder,
    env: { ...cluster.environment, BUN_BE_BUN: "1", DSM_SESSION: cluster.sessionName(), DSM_PROCESSES: "1" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  expect(await child.stderr.text()).toBe("");
  expect(await child.stdout.text()).toBe("0 0.5 DSM_TIMEOUT undefined a,b\n");
  expect(await child.exited).toBe(0);
});
