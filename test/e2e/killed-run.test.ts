/** What becomes of the processes of a `dsm run` that is killed by SIGKILL, and can end nothing any more. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, existsSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Child } from "../support/e2e-child.ts";
import { Cluster, clusterProcesses, DSM, eventually, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(240_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** Starts `dsm run`; the session's name is in its options. */
function start(session: string, args: string[]): Child {
  return cluster.spawn([DSM, "run", "--session", session, ...args], { session });
}

/** Kills it, and waits until the ranks, the guard and the roles of the session have ended, but not of the daemon. */
async function kill(run: Child, daemon: number): Promise<void> {
  run.kill("SIGKILL");
  await run.exited;
  // The ranks are ended before they could say anything themselves.
  expect(await run.stderr.text()).toBe("dsm: dsm run was killed; its processes are being ended\n");
  await eventually("all have ended", () => clusterProcesses(cluster.runtime).every(({ pid }) => pid === daemon));
}

const isSleep = ([program]: string[]): boolean => program?.split("/").at(-1) === "sleep";

const daemonId = (): number => cluster.processes("daemon")[0] as number;

test("in the midst of a session: ranks, what a shell script has started, arbiter, server and files", async () => {
  const session = cluster.session();
  // Children in the shell's own process group, and in one each, as under job control.
  const children = "sleep 1000 & set -m; sleep 1000 & set +m";
  const script = `${children}; { echo open; sleep 1000; } | "$0" & wait`;
  const daemon = daemonId();
  const run = start(session, ["-n", "2", "--nodes", "2", "--", "bash", "-c", script, cluster.program("actor")]);
  await cluster.untilPresent(session, 2);
  expect(clusterProcesses(cluster.runtime).filter(({ args }) => isSleep(args)).length).toBeGreaterThanOrEqual(4);
  await kill(run, daemon);
});

test("while they join", async () => {
  const session = cluster.session();
  const daemon = daemonId();
  const run = start(session, [
    "-n",
    "2",
    "--",
    "sh",
    "-c",
    '[ $DSM_RANK = 1 ] && sleep 1000; echo open | "$0"',
    cluster.program("actor"),
  ]);
  await eventually("one waits to join", () => existsSync(cluster.arbiterSocket(session, hostname())));
  await kill(run, daemon);
});

test("that do not listen to SIGTERM, or are stopped", async () => {
  const session = cluster.session();
  const daemon = daemonId();
  const run = start(session, [
    "-n",
    "2",
    "--tag",
    "--",
    "bash",
    "-c",
    'trap "" TERM; echo $$; [ $DSM_RANK = 1 ] && kill -STOP $$; while :; do sleep 1000; done',
  ]);
  await eventually("rank 1 has stopped itself", () =>
    clusterProcesses(cluster.runtime).some(({ pid }) =>
      /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, "utf8")),
    ),
  );
  await kill(run, daemon);
});

test("the server of a session that was restored, which nothing has joined", async () => {
  const saved = cluster.session();
  const [actor] = await cluster.actors(["a"], { session: saved, environment: { DSM_DIRECT: "0" } });
  const file = join(cluster.folder, "saved.snap");
  expect((await cluster.dsm(["snapshot", saved, file])).code).toBe(0);
  await actor?.leave();
  const session = cluster.session();
  const daemon = daemonId();
  const run = start(session, ["--restore", file, "--", "sleep", "1000"]);
  await eventually("the rank runs", () => clusterProcesses(cluster.runtime).some(({ args }) => isSleep(args)));
  expect(cluster.processes("server", `--session=${session}`)).toHaveLength(1);
  await kill(run, daemon);
});

test("a run that ends by itself leaves no guard, and lets go on what has a session of processes of its own", async () => {
  const [mark, begun] = [`1000.${process.pid}`, join(cluster.folder, "begun")];
  const script = `if [ $DSM_RANK = 1 ]; then
      setsid sh -c 'touch ${begun}; exec sleep ${mark}' > /dev/null 2>&1 &
      while [ ! -e ${begun} ]; do sleep 0.01; done
    fi`;
  const result = await cluster.dsm(["run", "-n", "2", "--", "sh", "-c", script]);
  expect(result).toMatchObject({ code: 0, stderr: "" });
  const left = clusterProcesses(cluster.runtime).filter(({ pid }) => pid !== daemonId());
  expect(left).toHaveLength(1);
  expect(left[0]?.args.at(-1)).toContain(mark);
  process.kill(left[0]?.pid as number, "SIGKILL");
});

describe("the guard", () => {
  const GUARD = join(ROOT, "native/build/dsm-guard");

  function guard(...lines: string[]): { input: number; child: Bun.Subprocess } {
    const stdio = ["ignore", "ignore", "ignore", "pipe"] as ["ignore", "ignore", "ignore", "pipe"];
    const child = Bun.spawn({ cmd: [GUARD], stdio, detached: true });
    const input = child.stdio[3] as unknown as number;
    writeSync(input, lines.map((line) => `${line}\n`).join(""));
    return { input, child };
  }

  /** The guard's input ends as that of a dead process does. */
  async function end({ input, child }: ReturnType<typeof guard>): Promise<number> {
    closeSync(input);
    return child.exited;
  }

  const sleeper = (environment: Record<string, string> = {}): Bun.Subprocess =>
    Bun.spawn({ cmd: ["sleep", "1000"], env: { PATH: process.env.PATH ?? "", ...environment }, detached: true });

  test("ends a rank that was being started, also when it runs its program only later", async () => {
    const mark = `/proc/1/fd/9:${crypto.randomUUID().slice(0, 16)}:3`;
    const one = guard(`starts DSM_RUN_RECORD=${mark}`);
    const ended = end(one);
    const rank = sleeper({ DSM_RUN_RECORD: mark });
    expect(await ended).toBe(0);
    await rank.exited;
    expect(rank.signalCode).toBe("SIGTERM");
  });

  test("leaves alone what has gone, what it was not told of, and all after the end of a run", async () => {
    const [rank, gone, other] = [sleeper(), sleeper(), sleeper()] as const;
    expect(await end(guard(`rank ${gone.pid}`, `rank ${rank.pid}`, `gone ${gone.pid}`))).toBe(0);
    await rank.exited;
    expect([rank.signalCode, gone.signalCode, other.signalCode]).toEqual(["SIGTERM", null, null]);
    const done = guard(`rank ${gone.pid}`, "done");
    expect(await done.child.exited).toBe(0);
    expect(gone.exitCode ?? gone.signalCode).toBeNull();
    for (const child of [gone, other]) {
      child.kill("SIGKILL");
      await child.exited;
    }
  });

  test("is not kept by the ranks: they do not have its input", async () => {
    const session = cluster.session();
    const run = start(session, ["-n", "1", "--", "sleep", "1000"]);
    const found = (name: string) =>
      clusterProcesses(cluster.runtime).find(({ args }) => args[0]?.endsWith(name) === true);
    await eventually("the rank runs", () => found("sleep") !== undefined);
    const rank = found("sleep")?.pid as number;
    expect(readdirSync(`/proc/${rank}/fd`).sort()).toEqual(["0", "1", "2"]);
    run.kill("SIGTERM");
    await run.exited;
  });
});
