/** How a process starts its arbiter: nothing of the one shows in the other, and what fails is told in one line. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Child, outcome } from "../support/e2e-child.ts";
import { Cluster, eventually } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

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

interface Said {
  text: string;
  reader: { read(): Promise<{ value?: Uint8Array | undefined }> };
}
const said = new Map<Child, Said>();

/** What a process has printed, after it has printed something more or has ended. */
async function readSome(child: Child): Promise<string> {
  const known = said.get(child) ?? { text: "", reader: child.stdout.getReader() as Said["reader"] };
  said.set(child, known);
  const { value } = await known.reader.read();
  known.text += new TextDecoder().decode(value);
  return known.text;
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
    expect(status(arbiter, "PPid")).not.toBe(String(child.pid));
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
    await eventually("it is not a zombie", () => childrenOf(child.pid).length === own);
    child.stdin.write("\n");
    child.stdin.end();
    const { code, stdout, stderr } = await outcome(child);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "open DSM_OK \ndone\n", stderr: "" });
  });
}

/** The command of dsm that the process runs; undefined: it has ended, maybe just now. */
function commandOf(pid: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[1];
  } catch {
    return undefined;
  }
}

const namespaces = needs("namespaces");

namespaces.test("from process 1 of a container: it does not collect what that starts", async () => {
  const session = cluster.session();
  const program = ["unshare", "--pid", "--fork", "--mount-proc", cluster.program("starter"), "first"];
  // With a daemon and a server in the container, too.
  const environment = { DSM_DAEMON: `127.${process.pid % 256}.7.9:4200`, DSM_AUTOSTART: "1" };
  const child = cluster.spawn(program, { session, processes: 1, node: "a", size: "64KiB", environment });
  await eventually("it has joined", async () => (await readSome(child)).includes("open DSM_OK"));
  const first = Number(childrenOf(child.pid)[0]);
  const arbiter = cluster.arbiter(session, "a");
  const [reaper, ...others] = childrenOf(first).map(Number);
  expect(others).toEqual([]);
  expect(status(reaper as number, "Name")).toBe("dsm-reaper");
  expect(status(arbiter, "PPid")).toBe(String(reaper));
  // It holds none of the program's memory and files.
  const mapped = readFileSync(`/proc/${reaper}/maps`, "utf8").trimEnd().split("\n");
  expect(mapped.length).toBeLessThanOrEqual(3);
  const open = readdirSync(`/proc/${reaper}/fd`).map((fd) => readlinkSync(`/proc/${reaper}/fd/${fd}`));
  expect(open.sort()).toEqual(["anon_inode:[pidfd]", "anon_inode:[signalfd]"]);
  child.stdin.write("\n");
  child.stdin.flush();
  await eventually("the arbiter has ended", () => cluster.processes("arbiter", session).length === 0);
  // The daemon stays, and is an orphan now.
  await eventually("the reaper has the daemon, and no zombie", () => {
    const left = childrenOf(reaper as number).map(commandOf);
    return left.length === 1 && left[0] === "daemon";
  });
  expect(childrenOf(first)).toEqual([String(reaper)]);
  child.stdin.write("\n");
  child.stdin.end();
  const [code, stderr] = await Promise.all([child.exited, child.stderr.text()]);
  expect(stderr.replace(/^dsm: started a session daemon [^\n]*\n/, "")).toBe("");
  expect({ code, said: await readSome(child) }).toEqual({ code: 0, said: "open DSM_OK \ndone\n" });
});

test("from a process that adopts orphans and ends before its arbiter: nothing of it stays", async () => {
  const { child, session } = start("adopts");
  await cluster.untilPresent(session, 1);
  const [reaper] = childrenOf(child.pid).map(Number) as [number];
  child.kill("SIGKILL");
  await child.exited;
  await eventually("the reaper has ended", () => !existsSync(`/proc/${reaper}`));
});

describe("a process without standard input, output and error joins, and prints nothing into the memory:", () => {
  for (const [what, environment] of Object.entries({
    sequential: { DSM_ORDER: "sequential", DSM_DIRECT: "0" },
    pipelined: { DSM_ORDER: "pipelined", DSM_DIRECT: "0" },
    release: { DSM_ORDER: "release", DSM_DIRECT: "0" },
    "direct mode": {},
    "elastic, in direct mode": { DSM_ELASTIC: "1" },
  })) {
    test(what, async () => {
      const report = join(cluster.folder, `report of ${what}`);
      const options = { session: cluster.session(), processes: 1, node: "a", size: "64KiB", environment };
      const { code } = await outcome(cluster.spawn([cluster.program("closed_stdio"), report], options));
      expect({ code, report: readFileSync(report, "utf8") }).toEqual({ code: 0, report: "ok\n" });
    });
  }
});

describe("a failure is reported in one line", () => {
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

  test("a file that is not a program, or has no loader", async () => {
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
