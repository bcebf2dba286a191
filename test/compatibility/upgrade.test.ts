/** Another dsm takes the place of the one that runs: sessions that run go on with the one that they began with. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, copyFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, DSM } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

test("the next server of a session is of the version of its daemon, whatever lies at its path now", async () => {
  const folder = mkdtempSync("/tmp/dsm-upgrade-");
  const program = join(folder, "dsm");
  copyFileSync(DSM, program);
  const cluster = await Cluster.start({ dsm: program });
  try {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    await a.do("store 8 0 77");
    writeFileSync(join(folder, "other"), "#!/bin/sh\necho 'dsm: another version' >&2\nexit 1\n");
    chmodSync(join(folder, "other"), 0o755);
    renameSync(join(folder, "other"), program);

    const { pid, epoch } = await cluster.status(a.session);
    process.kill(pid, "SIGKILL");
    await b.do("store 8 8 78");
    await Promise.all([a.do("barrier"), b.do("barrier")]);
    expect(await b.number("load 8 0")).toBe(77);
    expect(await a.number("load 8 8")).toBe(78);
    expect((await cluster.status(a.session)).epoch).toBe(epoch + 1);
    // It is shown by its name, not by the link to its file.
    expect(cluster.processes(program, "server", `--session=${a.session}`)).toHaveLength(1);
    await Promise.all([a.do("leave"), b.do("leave")]);
    await cluster.settled();
  } finally {
    await cluster.close();
    rmSync(folder, { recursive: true });
  }
});
