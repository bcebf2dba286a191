/**
 * Machines, containers and shells that lack something: each program, in C, TypeScript and Python, says in one line what
 * is wrong and what to do, and `dsm doctor` finds it before.
 */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout } from "bun:test";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Finding } from "../../src/cli/doctor/finding.ts";
import { Cluster, DSM, eventually, ROOT } from "../support/e2e-cluster.ts";
import { MemoryGroup } from "../support/memory-group.ts";
import { needs } from "../support/needs.ts";
import { withoutPids } from "../support/without-pids.ts";

setDefaultTimeout(300_000);

const { test } = needs("namespaces");
const asRoot = needs("namespaces", "root");
const inGroup = needs("memory cgroup", "namespaces");

/** A user that has no processes. */
const STRANGER = 54_321;
/** The cluster's folder, in a mount namespace where /tmp is another. */
const HERE = "/mnt";

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
  cluster.program("joins");
  writeFileSync(
    join(cluster.folder, "joins.ts"),
    `import { join } from "dsm";
try {
  const session = await join();
  console.log("joined");
  await session.leave();
} catch (error) {
  console.log(error.code, error.message);
  process.exit(1);
}
`,
  );
  writeFileSync(
    join(cluster.folder, "joins.py"),
    `import sys
import dsm
try:
    with dsm.join():
        # Not print(): without a buffer that is two writes, and another process may write between them.
        sys.stdout.write("joined\\n")
except dsm.Error as error:
    sys.stdout.write(f"{error.code} {error}\\n")
    raise SystemExit(1)
`,
  );
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

interface Said {
  /** Output of each program. */
  c: string;
  ts: string;
  py: string;
  findings: Finding[];
}

interface Machine {
  /** Shell commands that make the machine what it is, in a mount namespace. */
  prepare?: string;
  /** Options of `dsm run`, and of `dsm doctor`. */
  run?: string;
  doctor?: string;
  environment?: Record<string, string>;
  /** Before the shell. */
  as?: string[];
}

/** The three programs, each by `dsm run`, and then `dsm doctor`, on such a machine. */
async function on({ prepare = "true", run = "-n 1", doctor = "", environment = {}, as = [] }: Machine): Promise<Said> {
  const script = `mount --bind ${cluster.folder} ${HERE} || exit 99
cd ${HERE}; ${prepare}
for program in ./joins joins.ts joins.py; do ${DSM} run ${run} -- $program 2>&1; echo ----; done
${DSM} doctor --json ${doctor}`;
  const { stdout } = await cluster.command([...as, "unshare", "--mount", "sh", "-c", script], environment);
  const [c = "", ts = "", py = "", report = ""] = stdout.split("----\n");
  return { c, ts, py, findings: (JSON.parse(report) as { findings: Finding[] }).findings };
}

/** Each program has said this, and nothing else. */
function expectAll({ c, ts, py }: Said, line: RegExp | string): void {
  for (const text of [c, ts, py]) {
    if (typeof line === "string") expect(text).toBe(line);
    else expect(text).toMatch(line);
  }
}

/** `dsm doctor` has found this, and no other fault but what follows from it. */
function expectFound(said: Said, wanted: { check: string; state: string; found?: RegExp; advice: RegExp }): void {
  const { check, state, found = /./, advice } = wanted;
  const matching = { check, state, found: expect.stringMatching(found), advice: expect.stringMatching(advice) };
  expect(said.findings).toContainEqual(expect.objectContaining(matching));
  const faults = said.findings.filter((finding) => finding.state === "failure").map((finding) => finding.check);
  expect(faults.filter((name) => name !== check && name !== "trapped store")).toEqual([]);
}

const line = (words: string): RegExp => new RegExp(`^${words}\n$`);
/** What a program has said that failed because of it, and then `dsm run`. */
const failure = (words: string): RegExp => line(`${words}\ndsm: process 0 \\(pid \\d+\\) ended with exit code 1`);

test("a read-only /tmp, without XDG_RUNTIME_DIR", async () => {
  const said = await on({
    prepare: "mount -t tmpfs -o ro none /tmp",
    environment: { XDG_RUNTIME_DIR: "", XDG_CACHE_HOME: `${HERE}/cache` },
  });
  const why = "cannot make the run-time directory /tmp/dsm-\\d+: Read-only file system";
  expectAll(said, failure(`DSM_SYSTEM ${why}; set XDG_RUNTIME_DIR to a directory of your own that can be written`));
  expectFound(said, {
    ...{ check: "run-time folder", state: "failure", found: /^\/tmp\/dsm-\d+ cannot be made: EROFS$/ },
    advice: /^set XDG_RUNTIME_DIR to a folder of your own that can be written$/,
  });
});

test("a read-only /tmp does no harm if XDG_RUNTIME_DIR is set", async () => {
  const said = await on({
    prepare: "mount -t tmpfs -o ro none /tmp",
    environment: { XDG_RUNTIME_DIR: `${HERE}/run`, XDG_CACHE_HOME: `${HERE}/cache` },
  });
  expectAll(said, "joined\n");
  expect(said.findings.filter(({ state }) => state !== "ok")).toEqual([]);
});

test("a full file system for sockets", async () => {
  const full = `${HERE}/full`;
  const said = await on({
    prepare: `mkdir -p ${full}; mount -t tmpfs -o nr_inodes=1,mode=700 none ${full}`,
    environment: { XDG_RUNTIME_DIR: full },
  });
  const why = `cannot make the run-time directory ${full}/dsm: No space left on device`;
  expectAll(said, failure(`DSM_SYSTEM ${why}; set XDG_RUNTIME_DIR to a directory of your own that can be written`));
  expectFound(said, { check: "run-time folder", state: "failure", found: /ENOSPC/, advice: /^set XDG_RUNTIME_DIR/ });
});

const noexec = (path: string): string => `mkdir -p ${path}; mount -t tmpfs -o noexec,mode=700 none ${path}`;

test("noexec wherever libraries could go: scripts do not start, programs of C do", async () => {
  const place = `${HERE}/noexec`;
  const environment = { XDG_CACHE_HOME: place, TMPDIR: place, XDG_RUNTIME_DIR: place };
  const { c, ts, py, findings } = await on({ prepare: noexec(place), environment });
  const why = `no folder for the libraries: (${place}/dsm(-\\d+)? is mounted noexec, so no library loads from it; ){3}`;
  const words = `${why}set XDG_CACHE_HOME to one with 20 MiB of room`;
  expect(c).toMatch(
    line(
      `dsm: libdsm is not preloaded into the processes: ${words}\n` +
        `dsm: if dsm run is killed, its processes go on: ${words}\njoined`,
    ),
  );
  expect(ts).toMatch(line(`dsm: ${words}`));
  expect(py).toMatch(line(`dsm: ${words}`));
  expectFound(
    { c, ts, py, findings },
    {
      ...{ check: "library", state: "failure", found: /is mounted noexec/ },
      advice: /^set XDG_CACHE_HOME to a folder of your own with 20 MiB of room, not mounted noexec$/,
    },
  );
});

test.each([
  ["noexec", noexec(`${HERE}/cache2`)],
  ["full", `mkdir -p ${HERE}/cache2; mount -t tmpfs -o size=1m,mode=700 none ${HERE}/cache2`],
  ["read-only", `mkdir -p ${HERE}/cache2; mount -t tmpfs -o ro,mode=700 none ${HERE}/cache2`],
])("a cache that is %s: the libraries go elsewhere", async (_, prepare) => {
  const said = await on({ prepare, environment: { XDG_CACHE_HOME: `${HERE}/cache2` } });
  expectAll(said, "joined\n");
  expectFound(said, {
    ...{ check: "library", state: "warning", found: /libdsm\.so, because the cache \/mnt\/cache2 cannot be used$/ },
    advice: /^set XDG_CACHE_HOME/,
  });
});

test.each([
  ["missing", `${HERE}/home/missing`],
  ["read-only", `${HERE}/home`],
])("a HOME that is %s does no harm", async (_, home) => {
  // Root could make a folder that is missing.
  const prepare = `mkdir -p ${HERE}/home; mount -t tmpfs -o ro none ${HERE}/home`;
  const said = await on({ prepare, environment: { HOME: home, XDG_CACHE_HOME: "", XDG_CONFIG_HOME: "" } });
  expectAll(said, "joined\n");
  expectFound(said, { check: "library", state: "warning", found: /cannot be used$/, advice: /^set XDG_CACHE_HOME/ });
});

test("a program on a file system that is noexec", async () => {
  const place = `${HERE}/programs`;
  const prepare = `${noexec(place)}; cp joins ${place}; ${DSM} run -n 1 -- ${place}/joins 2>&1; echo "code $?"; exit`;
  const script = `mount --bind ${cluster.folder} ${HERE}; cd ${HERE}; ${prepare}`;
  const { stdout } = await cluster.command(["unshare", "--mount", "sh", "-c", script]);
  expect(stdout).toBe(
    `dsm: program "${place}/joins" may not be executed; check its permissions, and that its file system is not mounted noexec\ncode 126\n`,
  );
});

test("a dsm program that may not be executed", async () => {
  const path = join(cluster.folder, "no-dsm");
  writeFileSync(path, "", { mode: 0o600 });
  const { stdout } = await cluster.command([cluster.program("joins")], {
    ...{ DSM_BIN: path, DSM_SESSION: cluster.session(), DSM_PROCESSES: "1" },
  });
  expect(stdout).toBe(`DSM_SYSTEM ${path} may not be executed; make it executable, and its file system not noexec\n`);
});

const SMALL_SHM = "mount -t tmpfs -o size=64m none /dev/shm";

test("a /dev/shm of 64 MiB, as docker gives it, and two nodes", async () => {
  const options = "--size 40MiB --nodes 2";
  const said = await on({ prepare: SMALL_SHM, run: `-n 2 ${options}`, doctor: options });
  const words = `a map of 40\\.5 MiB does not fit in /dev/shm, where [\\d.]+ (MiB|KiB|B) of 64 MiB are free and each node needs a map of its own; choose a smaller --size, or give it more room \\(docker run --shm-size\\)`;
  // Both nodes, if they tried at once.
  expectAll(said, new RegExp(`^(DSM_NO_MEMORY ${words}\n){1,2}`));
  expectFound(said, {
    ...{ check: "/dev/shm", state: "failure", found: /^64 MiB of 64 MiB are free$/ },
    advice: /^the maps of 2 nodes, 40 MiB each, will not fit: give it more \(docker run --shm-size=1g/,
  });
});

test("a /dev/shm of 64 MiB and a session that fits in it", async () => {
  const said = await on({ prepare: SMALL_SHM, run: "-n 2 --size 8MiB --nodes 2", doctor: "--size 8MiB --nodes 2" });
  expectAll(said, "joined\njoined\n");
  expectFound(said, {
    check: "/dev/shm",
    state: "warning",
    advice: /^every node of a session needs the session's size/,
  });
});

test.each([
  [
    "read-only",
    "mount -t tmpfs -o ro none /dev/shm",
    "EROFS: [^;]*; mount it writable: mount -o remount,rw /dev/shm",
    /EROFS/,
  ],
  [
    "not in memory",
    "mount -t ramfs none /dev/shm",
    "it is not in memory; mount it: mount -t tmpfs [^\n]*",
    /not in memory/,
  ],
])("a /dev/shm that is %s", async (_, prepare, words, found) => {
  const said = await on({ prepare });
  expectAll(said, failure(`DSM_SYSTEM cannot make a map of 1.5 MiB in /dev/shm: ${words}`));
  expectFound(said, { check: "/dev/shm", state: "failure", found, advice: /^mount it/ });
});

inGroup.test("a limit of memory smaller than the map, as a container has it", async () => {
  const group = new MemoryGroup(700 << 20);
  try {
    const options = "--size 800MiB";
    const said = await on({ run: `-n 2 --nodes 2 ${options}`, doctor: options, as: group.inside() });
    const limit = `the memory of this container or service is limited to 700 MiB \\(${group.folder}\\); raise that limit \\(docker run --memory, MemoryMax=\\), or choose a smaller --size`;
    const words = `a map of 800\\.7 MiB does not fit in memory, of which [\\d.]+ MiB are free: ${limit}`;
    expectAll(said, new RegExp(`^(DSM_NO_MEMORY ${words}\n){1,2}`));
    expectFound(said, {
      ...{ check: "memory", state: "failure", found: /^[\d.]+ MiB of 700 MiB are free in \// },
      advice: new RegExp(`^the map, 800 MiB, will not fit: ${limit}$`),
    });
  } finally {
    await group.remove();
  }
});

inGroup.test("two maps that fit alone, but not together, in a limit of memory: no process is killed", async () => {
  const group = new MemoryGroup(700 << 20);
  try {
    const command = [DSM, "run", "-n", "2", "--nodes", "2", "--size", "350MiB", "--", cluster.program("joins")];
    const { code, stdout, stderr } = await cluster.command(group.inside(...command));
    expect(stdout).toMatch(/^(DSM_NO_MEMORY a map of 350\.6 MiB does not fit in memory, of which [^\n]*\n){1,2}$/);
    expect(code).toBe(1);
    expect(withoutPids(stderr)).toMatch(/^dsm: process [01] \(node \S+, pid N\) ended with exit code 1\n$/);
    // The other process may have been ended in the midst of starting an arbiter: the next one removes what it left.
    expect((await cluster.dsm(["run", "-n", "1", "--", cluster.program("joins")])).stdout).toBe("joined\n");
  } finally {
    await group.remove();
  }
});

inGroup.test("a process that is killed because memory ran out: dsm run says so", async () => {
  const group = new MemoryGroup(256 << 20);
  try {
    const greedy = ["python3", "-c", "bytearray(1 << 30)"];
    const { code, stderr } = await cluster.command(group.inside(DSM, "run", "-n", "1", "--", ...greedy));
    expect(withoutPids(stderr)).toBe(
      `dsm: process 0 (pid N) was ended by SIGKILL; memory ran out: the memory of this container or service is limited to 256 MiB (${group.folder}); raise that limit (docker run --memory, MemoryMax=), or choose a smaller --size\n`,
    );
    expect(code).toBe(137);
  } finally {
    await group.remove();
  }
});

test("few open files", async () => {
  const said = await on({ prepare: "ulimit -n 40" });
  expectAll(said, failure("DSM_LIMIT the arbiter may open 40 files; it needs 56 or more \\(ulimit -n\\)"));
  expectFound(said, { check: "open files", state: "failure", advice: /: raise the limit with ulimit -n$/ });
});

test("a limit of the size of files", async () => {
  const said = await on({ prepare: "ulimit -f 100" });
  const words =
    "cannot make a map of 1.5 MiB in /dev/shm: EFBIG: file too large, write; lift the limit of files with ulimit -f unlimited";
  expectAll(said, failure(`DSM_SYSTEM ${words}`));
  expectFound(said, {
    ...{ check: "size of files", state: "failure", found: /^limited to \d+ KiB \(ulimit -f\)$/ },
    advice: /ulimit -f unlimited$/,
  });
});

test("no /proc: an arbiter that cannot begin", async () => {
  const script = 'mount -t tmpfs none /proc && exec "$0"';
  const child = cluster.spawn(["unshare", "--mount", "sh", "-c", script, cluster.program("joins")], {
    session: cluster.session(),
    processes: 1,
  });
  expect(await child.exited).toBe(1);
  expect(await child.stdout.text()).toBe(
    `DSM_SYSTEM the arbiter (${DSM} arbiter) ended before it was ready: /proc is not mounted here; mount it with mount -t proc proc /proc\n`,
  );
});

test("a limit of the address space: an arbiter that cannot begin, a map that does not fit", async () => {
  const session = cluster.session();
  // dsm itself does not begin, so these are started without dsm run.
  const script = (program: string): string[] => ["sh", "-c", `ulimit -v 102400; exec ${program}`];
  const environment = {
    DSM_LIBRARY: join(ROOT, "native/build/libdsm.so"),
    PYTHONPATH: join(ROOT, "native/bindings/python"),
  };
  const common = { session, processes: 1, size: "128MiB", node: "a" };
  const words = `DSM_SYSTEM the arbiter (${DSM} arbiter) ended before it was ready: its address space is limited to 102400 KiB; lift that with ulimit -v unlimited; "dsm doctor" checks this machine\n`;
  for (const program of [cluster.program("joins"), `python3 ${join(cluster.folder, "joins.py")}`]) {
    const child = cluster.spawn(script(program), { ...common, environment });
    await child.exited;
    expect(await child.stdout.text()).toBe(words);
  }
  const first = cluster.actor({ ...common, processes: 2 });
  const opening = first.ask("open");
  await cluster.untilPresent(session, 1);
  const second = cluster.spawn(script(cluster.program("joins")), { ...common, processes: 2 });
  await second.exited;
  expect(await second.stdout.text()).toBe(
    "DSM_NO_MEMORY no room for the map of 128 MiB in an address space of 100 MiB; lift the limit with ulimit -v unlimited\n",
  );
  await opening;
  await first.end();
  const { findings } = await on({ prepare: "ulimit -v 8000000" });
  expect(findings).toContainEqual({
    ...{ check: "address space", state: "warning", found: "limited to 7.6 GiB (ulimit -v)" },
    advice: "dsm and scripts may not start with less than 8 GiB: lift it with ulimit -v unlimited",
  });
});

/** A command of another user. */
const asStranger = (...command: string[]): string[] => [
  ...["setpriv", `--reuid=${STRANGER}`, `--regid=${STRANGER}`, "--clear-groups", ...command],
];

/** Folders of the other user's own. */
function strangersFolders(): Record<string, string> {
  chmodSync(cluster.folder, 0o755);
  const home = join(cluster.folder, "stranger");
  mkdirSync(home, { recursive: true, mode: 0o700 });
  chownSync(home, STRANGER, STRANGER);
  return { HOME: home, XDG_RUNTIME_DIR: home, XDG_CACHE_HOME: home, XDG_CONFIG_HOME: home, TMPDIR: home };
}

asRoot.test("a limit of processes", async () => {
  const folders = strangersFolders();
  const limited = (processes: number, ...command: string[]): string[] =>
    asStranger("prlimit", `--nproc=${processes}`, ...command);
  const environment = { ...folders, DSM_SESSION: cluster.session(), DSM_PROCESSES: "1" };
  // The process itself is all there may be.
  const alone = await cluster.command(limited(1, cluster.program("joins")), environment);
  expect(alone.stdout).toBe(
    "DSM_LIMIT cannot start the arbiter: no further process is allowed; raise ulimit -u, or the pids limit of the container\n",
  );
  // The arbiter starts, but gets no threads.
  const few = await cluster.command(limited(3, cluster.program("joins")), environment);
  expect(few.stdout).toMatch(
    /^DSM_SYSTEM the arbiter \(\S+ arbiter\) ended before it was ready: this user may have 3 processes and threads; raise ulimit -u; "dsm doctor" checks this machine\n$/,
  );
  const doctor = await cluster.command(limited(24, DSM, "doctor", "--json"), environment);
  const { findings } = JSON.parse(doctor.stdout) as { findings: Finding[] };
  expect(findings).toContainEqual({
    ...{ check: "processes", state: "failure" },
    found: expect.stringMatching(/^this user may have 24 processes and threads \(ulimit -u\), and has \d+$/),
    advice: "a session of one script needs 32 more, and each further script 8: raise it with ulimit -u, or end some",
  });
  expect(findings).toContainEqual(expect.objectContaining({ check: "trapped store", state: "warning" }));
});

test("a runtime that aborts for want of threads: dsm run names the limit", async () => {
  const { stderr } = await cluster.command([
    ...["sh", "-c", `ulimit -n 60 && exec "$@"`, "sh", DSM, "run", "-n", "1", "--", "sh", "-c", "kill -ABRT $$"],
  ]);
  expect(withoutPids(stderr)).toBe(
    "dsm: process 0 (pid N) was ended by SIGABRT; open files: 60, enough for 12 connections of a node; each process and waiting thread of a node needs one or two: raise the limit with ulimit -n\n",
  );
});

/** Two processes of one session and node, with these environments, in a namespace where /tmp and /run are empty. */
async function pair(first: string, second: string, together: boolean): Promise<[string, string]> {
  const session = cluster.session();
  // The second begins when the first's arbiter listens, or at once.
  const wait = together
    ? "true"
    : `while ! ls ${HERE}/r/dsm /tmp/dsm-0 /run/user/0/dsm 2> /dev/null | grep -q 'sock$'; do sleep 0.05; done`;
  const script = `mount --bind ${cluster.folder} ${HERE}; mount -t tmpfs none /tmp; mount -t tmpfs none /run
mkdir -p -m 700 ${HERE}/r /run/user/0
env ${first} ${HERE}/joins > ${HERE}/first & ${wait}
env ${second} ${HERE}/joins > ${HERE}/second; status=$?
[ $status = 0 ] || kill $!
wait; cat ${HERE}/first; echo ----; cat ${HERE}/second; rm -rf ${HERE}/r`;
  const { stdout } = await cluster.command(["unshare", "--mount", "sh", "-c", script], {
    ...{ DSM_SESSION: session, DSM_PROCESSES: "2", DSM_SIZE: "64KiB", DSM_NODE: "a" },
  });
  return stdout.split("----\n") as [string, string];
}

const LOGIN = "XDG_RUNTIME_DIR=/run/user/0";
const OWN = `XDG_RUNTIME_DIR=${HERE}/r`;
const NONE = "-u XDG_RUNTIME_DIR";

asRoot.test.each([
  ["set by the login for the first alone", LOGIN, NONE],
  ["set by the login for the second alone", NONE, LOGIN],
  ["set to a folder of its own for the second alone", NONE, OWN],
])("XDG_RUNTIME_DIR, %s: the processes find one another", async (_, first, second) => {
  expect(await pair(first, second, false)).toEqual(["joined\n", "joined\n"]);
});

asRoot.test("XDG_RUNTIME_DIR set for one of two that begin at once: they find one another", async () => {
  for (let round = 0; round < 3; round += 1) {
    expect(await pair(LOGIN, NONE, true)).toEqual(["joined\n", "joined\n"]);
  }
});

asRoot.test("XDG_RUNTIME_DIR set to a folder that the other process cannot know: it is told what differs", async () => {
  const [, said] = await pair(OWN, NONE, false);
  expect(said).toMatch(
    /^DSM_(REFUSED|AGAIN) node "a" is in session "s\d+" already, and its arbiter does not listen in \/tmp\/dsm-0; give all processes the same XDG_RUNTIME_DIR \(containers share it, or \/tmp\), or set DSM_NODE to another name\n$/,
  );
});

test("dsm doctor finds arbiters in another run-time folder, and a XDG_RUNTIME_DIR that is not used", async () => {
  const session = cluster.session();
  const first = cluster.actor({ session, processes: 2, node: "a" });
  const opening = first.ask("open");
  await cluster.untilPresent(session, 1);
  const other = join(cluster.folder, "other");
  mkdirSync(other, { mode: 0o700 });
  const { stdout } = await cluster.dsm(["doctor", "--json"], { XDG_RUNTIME_DIR: other });
  expect((JSON.parse(stdout) as { findings: Finding[] }).findings).toContainEqual({
    ...{ check: "run-time folder", state: "warning" },
    found: `processes of yours have arbiters in ${cluster.runtime}/dsm, and programs started here look in ${other}/dsm`,
    advice: "give all processes of a session the same XDG_RUNTIME_DIR",
  });
  first.kill("SIGKILL");
  await opening.catch(() => "");
  chmodSync(other, 0o777);
  const open = await cluster.dsm(["doctor", "--json"], { XDG_RUNTIME_DIR: other });
  expect((JSON.parse(open.stdout) as { findings: Finding[] }).findings).toContainEqual({
    ...{ check: "run-time folder", state: "warning" },
    found: expect.stringMatching(
      new RegExp(`^XDG_RUNTIME_DIR is ${other}, which is not a folder that you alone can write to: /tmp/dsm-`),
    ),
    advice: "unset it, or let it name such a folder",
  });
});

asRoot.test("two users in one session: each needs a node, and is told so", async () => {
  const folders = strangersFolders();
  const session = cluster.session();
  const common = { session, processes: 2, size: "64KiB" };
  const first = cluster.spawn([cluster.program("joins")], { ...common, node: "a" });
  await eventually("the session is there", async () => (await cluster.sessions()).some(({ name }) => name === session));
  await cluster.untilPresent(session, 1);
  const other = (node: string) =>
    cluster.command(asStranger(cluster.program("joins")), {
      ...{ ...folders, DSM_SESSION: session, DSM_PROCESSES: "2", DSM_NODE: node },
    });
  expect((await other("a")).stdout).toMatch(
    new RegExp(
      `^DSM_(REFUSED|AGAIN) node "a" is in session "${session}" already, for user 0, and this is user ${STRANGER}; each user needs an arbiter, and so a node, of their own: set DSM_NODE to another name\n$`,
    ),
  );
  const { stdout } = await cluster.command(asStranger(DSM, "doctor", "--json"), folders);
  expect((JSON.parse(stdout) as { findings: Finding[] }).findings).toContainEqual({
    ...{ check: "daemon", state: "warning", found: expect.stringMatching(/ and user 0's$/) },
    advice: "give DSM_DAEMON an address of your own; in a session with that user, give DSM_NODE a name of your own",
  });
  expect((await other(`${hostname()}-1`)).stdout).toBe("joined\n");
  expect(await first.exited).toBe(0);
  expect(await first.stdout.text()).toBe("joined\n");
});
