/** How a process starts its arbiter: nothing of the one shows in the other, and what fails is told in one line. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Child, outcome } from "../support/e2e-child.ts";
import { Cluster, eventually } from "../support/e2e-cluster.ts";

setDefaultTimeout(240_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

function start(how: string, environment: Record<string, string> = {}): { child: Child; session: string } {
  const session = cluster.session();
  const options = { session, processes: 1, node: "a", size: "64KiB", environment };
  return { child: cluster.spawn([cluster.program("starter"), how], options), session };
}

/** What a line of /proc/PID/status says. */
function status(pid: number, name: string): string {
  return new RegExp(`^${name}:\\s*(.*)$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] as string;
}

/** Of processes that have ended too. */
function childrenOf(pid: number): string[] {
  return readdirSync("/proc").filter((name) => {
    try {
      return /^\d+$/.test(name) && status(Number(name), "PPid") === String(pid);
    } catch {
      return false;
    }
  });
}

for (const how of ["plain", "waits", "ignores", "descriptors", "old-kernel", "adopts"]) {
  test(`from a process that has it as "${how}"`, async () => {
    const { child, session } = start(how, { LD_PRELOAD: join(process.cwd(), "native/build/libdsm.so") });
    await eventually("it has joined", () => cluster.processes("arbiter", session).length === 1);
    await cluster.untilPresent(session, 1);
    const arbiter = cluster.arbiter(session, "a");
    if (how !== "adopts") expect(status(arbiter, "PPid")).not.toBe(String(child.pid));
    expect(Number(readFileSync(`/proc/${arbiter}/stat`, "utf8").split(" ")[5])).toBe(arbiter); // its own session
    expect(readlinkSync(`/proc/${arbiter}/cwd`)).toBe("/");
    const parentMap = readdirSync(`/proc/${arbiter}/fd`).filter((fd) => Number(fd) >= 100 && Number(fd) % 2 === 0);
    expect(parentMap.map((fd) => readlinkSync(`/proc/${arbiter}/fd/${fd}`)).filter((to) => to === "/dev/null")).toEqual(
      [],
    );
    // Its own runtime ignores SIGPIPE and SIGXFSZ.
    const ignored = BigInt(`0x${status(arbiter, "SigIgn")}`) & ~((1n << 12n) | (1n << 24n));
    expect({ ignored, blocked: BigInt(`0x${status(arbiter, "SigBlk")}`) }).toEqual({ ignored: 0n, blocked: 0n });
    expect(readFileSync(`/proc/${arbiter}/environ`, "utf8")).not.toContain("LD_PRELOAD");
    child.stdin.write("\n");
    child.stdin.flush();
    await eventually("the arbiter has ended", () => cluster.processes("arbiter", session).length === 0);
    const own = how === "waits" ? 1 : 0;
    await eventually("it is no zombie", () => childrenOf(child.pid).length === own);
    child.stdin.write("\n");
    child.stdin.end();
    const { code, stdout, stderr } = await outcome(child);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "open DSM_OK \ndone\n", stderr: "" });
  });
}

describe("what fails is told in one line", () => {
  async function failing(how: string, environment: Record<string, string> = {}): Promise<string> {
    const { child } = start(how, environment);
    child.stdin.end();
    const { code, stdout, stderr } = await outcome(child);
    expect({ code, stderr }).toEqual({ code: 1, stderr: "" });
    return stdout;
  }

  test("no further process", async () => {
    expect(await failing("no-processes")).toBe(
      "open DSM_LIMIT cannot start the arbiter: no further process is allowed; raise ulimit -u, or the pids limit of the container\n",
    );
  });

  test("no memory", async () => {
    expect(await failing("no-memory")).toBe("open DSM_NO_MEMORY cannot start the arbiter: Cannot allocate memory\n");
  });

  test("a program that is none, or has no loader", async () => {
    const program = join(cluster.folder, "broken");
    writeFileSync(program, "no program\n");
    chmodSync(program, 0o755);
    expect(await failing("plain", { DSM_BIN: program })).toBe(
      `open DSM_SYSTEM cannot run ${program}: Exec format error\n`,
    );
    writeFileSync(program, "#!/no/such/loader\n");
    expect(await failing("plain", { DSM_BIN: program })).toBe(
      `open DSM_SYSTEM cannot run ${program}: it, or the loader it names, is not there\n`,
    );
  });
});
