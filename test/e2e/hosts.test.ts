/** `dsm run --hosts`: three machines as network namespaces, with a real ssh and sshd between them. */
import { expect, setDefaultTimeout } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { makeCertificates } from "../../src/cli/commands/cert.ts";
import { UNSEEN } from "../../src/cli/run/crash-records.ts";
import { DSM, eventually, ROOT } from "../support/e2e-cluster.ts";
import { ADDRESS, HOME, Hosts, Said } from "../support/e2e-hosts.ts";
import { needs } from "../support/needs.ts";

setDefaultTimeout(120_000);

const { afterAll, afterEach, beforeAll, describe, test } = needs("sshd", "ip", "namespaces");

const BOTH = ["--hosts", `${ADDRESS.a}:2,${ADDRESS.b}:2`];
const PI = "pi is about 3.141592653590 (1000000 strips, 4 processes)\n";

let hosts: Hosts;
beforeAll(async () => {
  hosts = await Hosts.start();
});
afterEach(() => hosts.settled());
afterAll(() => hosts?.close());

const sorted = (text: string): string[] => text.trimEnd().split("\n").sort();

test("a program in TypeScript, and dsm is copied to the host that has none, once", async () => {
  const run = ["run", ...BOTH, "--", "examples/pi/pi.ts", "1000000"];
  const first = await hosts.dsm(run);
  expect(first).toMatchObject({ code: 0, stdout: PI });
  expect(first.stderr).toMatch(/^dsm: copying dsm \S+ \([^)]+\) to 10\.78\.2\.2\n$/);
  const folder = readdirSync(join(hosts.cache("b"), "dsm")).find((name) => name.includes("-")) as string;
  const copy = join(hosts.cache("b"), "dsm", folder, "dsm");
  expect(statSync(copy).mode & 0o777).toBe(0o700);
  expect(readFileSync(copy).equals(readFileSync(DSM))).toBe(true);
  expect(readdirSync(dirname(copy))).toEqual(["dsm"]);
  expect(readdirSync(join(hosts.cache("a"), "dsm")).filter((name) => name.includes("-"))).toEqual([]);
  expect(await hosts.dsm(run)).toMatchObject({ code: 0, stdout: PI, stderr: "" });
});

test("every rank is where it belongs, and gets the settings, the named variables and the folder, and no token", async () => {
  const script = 'echo "$DSM_RANK $DSM_NODE $DSM_PROCESSES $DSM_DIRECT $GIVEN $OWN $OTHER $DSM_TOKEN $PWD"';
  const { code, stdout, stderr } = await hosts.dsm(
    ["run", ...BOTH, "-n3", "--env", "GIVEN=g h", "--env", "OWN", "--", "sh", "-c", script],
    { OWN: "o", OTHER: "not this", DSM_DIRECT: "0", DSM_TOKEN: "a-token-of-somebody" },
  );
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(sorted(stdout)).toEqual([
    `0 ${ADDRESS.a} 3 0 g h o   ${ROOT}`,
    `1 ${ADDRESS.a} 3 0 g h o   ${ROOT}`,
    `2 ${ADDRESS.b} 3 0 g h o   ${ROOT}`,
  ]);
});

test("the token is on no command line and in no environment of the far side", async () => {
  const child = hosts.spawn(["run", ...BOTH, "--", "sh", "-c", "cat $DSM_TOKEN_FILE; echo; sleep 1000 & wait"]);
  await eventually("all sleep", () => {
    return (["a", "b"] as const).every(
      (host) => hosts.processes(host).filter(({ args }) => args[0] === "sleep").length === 2,
    );
  });
  const said = await new Said(child.stdout).until("\n");
  const token = said.split("\n")[0] as string;
  // With the authority of this run's daemon, by which the hosts know it and its server.
  expect(token).toMatch(/^[0-9a-f]{64}:[0-9a-f]{64}$/);
  for (const host of ["a", "b"] as const) {
    const all = hosts.processes(host);
    expect(all.length).toBeGreaterThanOrEqual(4);
    for (const { pid, args } of all) {
      expect(args.join(" ")).not.toContain(token.slice(0, 64));
      expect(readFileSync(`/proc/${pid}/environ`, "latin1")).not.toContain(token.slice(0, 64));
    }
  }
  for (const { args } of hosts.processes("home")) expect(args.join(" ")).not.toContain(token.slice(0, 64));
  child.kill("SIGTERM");
  expect(await child.exited).toBe(143);
});

describe("input and output", () => {
  test("lines of many processes do not mix, long ones neither, and the errors are apart", async () => {
    const script = `i=0; line=$(head -c 3000 /dev/zero | tr "\\0" $DSM_RANK)
      while [ $i -lt 50 ]; do echo $line; echo "e$DSM_RANK" >&2; i=$((i+1)); done`;
    const { code, stdout, stderr } = await hosts.dsm(["run", ...BOTH, "--tag", "--", "sh", "-c", script]);
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(200);
    for (const line of lines) expect(line).toMatch(/^\[(\d)\] \1{3000}$/);
    expect(sorted(stderr)).toEqual([0, 1, 2, 3].flatMap((rank) => Array<string>(50).fill(`[${rank}] e${rank}`)));
  });

  test("what was written comes byte for byte", async () => {
    const bytes = join(hosts.folder, "bytes");
    const content = crypto.getRandomValues(new Uint8Array(50_000));
    writeFileSync(bytes, Buffer.concat(Array.from({ length: 20 }, () => content)));
    const child = hosts.spawn(["run", "--hosts", ADDRESS.b, "--", "cat", bytes]);
    const [got] = await Promise.all([child.stdout.bytes(), child.exited]);
    expect(Buffer.from(got).equals(readFileSync(bytes))).toBe(true);
  });

  test("rank 0 has the input, the others none", async () => {
    const child = hosts.spawn(["run", ...BOTH, "--tag", "--", "sh", "-c", "wc -c"], {}, "pipe");
    child.stdin.write("x".repeat(1_000_000));
    await child.stdin.end();
    const [stdout, code] = await Promise.all([child.stdout.text(), child.exited]);
    expect(code).toBe(0);
    expect(sorted(stdout)).toEqual(["[0] 1000000", "[1] 0", "[2] 0", "[3] 0"]);
  });
});

describe("the end", () => {
  test("when one is killed on another machine", async () => {
    const child = hosts.spawn(["run", ...BOTH, "--", "sh", "-c", "echo $DSM_RANK $$; sleep 1000"]);
    const said = await new Said(child.stdout).until("0 ", "1 ", "2 ", "3 ", "\n");
    process.kill(Number(/3 (\d+)\n/.exec(said)?.[1]), "SIGKILL");
    const [stderr, code] = await Promise.all([child.stderr.text(), child.exited]);
    expect({ code, stderr }).toEqual({ code: 137, stderr: `dsm: process 3 on ${ADDRESS.b} was ended by SIGKILL\n` });
  });

  test("when one is killed in a session, its death gives the exit code, not what the others make of it", async () => {
    const script = join(hosts.folder, "killed.ts");
    writeFileSync(
      script,
      `import { join } from "dsm";
      const session = await join();
      await session.barrier();
      if (session.rank === 3) process.kill(process.pid, "SIGKILL");
      await session.semaphore("never", 0).wait();`,
    );
    const { code, stderr } = await hosts.dsm(["run", ...BOTH, "--", script]);
    expect(code).toBe(137);
    expect(stderr).toContain(`process 3 on ${ADDRESS.b} was ended by SIGKILL`);
  });

  test("when one on another machine dies of a store that could not be caught, that is said", async () => {
    const program = join(hosts.folder, "unseen");
    const source = `${program}.c`;
    writeFileSync(
      source,
      `#include <dsm/dsm.h>
      #include <stdint.h>
      #include <sys/syscall.h>
      #include <unistd.h>
      int main(void) {
        dsm_session *session;
        uint64_t mask = 1ull << 10, *map;
        if (dsm_open(0, &session) != DSM_OK) return 1;
        map = dsm_address(session);
        if (dsm_rank(session) == 3) syscall(SYS_rt_sigprocmask, 0, &mask, 0, 8);
        if (dsm_barrier_wait(session) != DSM_OK) return 2;
        if (dsm_rank(session) == 3) map[0] = 1;
        dsm_sem_wait(session, "never", 0);
        return 3;
      }`,
    );
    const made = Bun.spawnSync([
      ...["gcc", `-I${ROOT}/native/include`, source, "-o", program, `-L${ROOT}/native/build`, "-ldsm"],
    ]);
    expect({ code: made.exitCode, stderr: made.stderr.toString() }).toEqual({ code: 0, stderr: "" });
    const { code, stderr } = await hosts.dsm(["run", ...BOTH, "--", program]);
    expect(stderr).toContain(`dsm: process 3 on ${ADDRESS.b} was ended by SIGSEGV; ${UNSEEN}\n`);
    expect(code).toBe(128 + 11);
  });

  test("^C reaches all, in the middle of a session, and nothing is left", async () => {
    const script = join(hosts.folder, "wait.ts");
    writeFileSync(
      script,
      `import { join } from "dsm";
      const session = await join();
      process.on("SIGINT", () => { console.log("interrupted", session.rank); process.exit(130); });
      console.log("joined", session.rank);
      await session.semaphore("never", 0).wait();`,
    );
    const child = hosts.spawn(["run", ...BOTH, "--", script]);
    const said = new Said(child.stdout);
    await said.until("joined 0", "joined 1", "joined 2", "joined 3");
    child.kill("SIGINT");
    const [rest, code] = await Promise.all([said.end, child.exited]);
    expect(code).toBe(130);
    expect(rest).toContain("interrupted");
    await hosts.settled();
  });

  test("the second ^C kills who does not mind the first", async () => {
    const script = "trap 'echo no' INT TERM; echo up $DSM_RANK; while :; do sleep 0.1; done";
    const child = hosts.spawn(["run", ...BOTH, "--", "sh", "-c", script]);
    const said = new Said(child.stdout);
    await said.until("up 0", "up 1", "up 2", "up 3");
    child.kill("SIGINT");
    await said.until("no\nno\nno\nno\n");
    child.kill("SIGINT");
    expect(await child.exited).toBe(137);
  });

  test("of ssh: all that it had started ends, and so do the others", async () => {
    const child = hosts.spawn([
      "run",
      ...BOTH,
      "--",
      "sh",
      "-c",
      "echo up $DSM_RANK; trap '' TERM; sleep 1000; sleep 1000",
    ]);
    await new Said(child.stdout).until("up 0", "up 1", "up 2", "up 3");
    const ssh = hosts.processes("home").find(({ args }) => args[0] === "ssh" && args.includes(ADDRESS.b));
    process.kill(ssh?.pid as number, "SIGKILL");
    const [stderr, code] = await Promise.all([child.stderr.text(), child.exited]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: `dsm: the connection to ${ADDRESS.b} was lost\n` });
  });

  test("of dsm run itself, by SIGKILL: nothing goes on", async () => {
    const child = hosts.spawn(["run", ...BOTH, "--", "sh", "-c", "echo up $DSM_RANK; sleep 1000"]);
    await new Said(child.stdout).until("up 0", "up 1", "up 2", "up 3");
    child.kill("SIGKILL");
    await child.exited;
    await eventually("the far sides are empty", () => {
      return (["a", "b"] as const).every((host) => hosts.processes(host).length === 0);
    });
    // Its daemon would end after a minute without a session.
    for (const { pid, args } of hosts.processes("home")) if (args.includes("--autostarted")) process.kill(pid);
  });
});

describe("what goes wrong is said in one line", () => {
  const refused = async (args: string[], environment: Record<string, string> = {}) => {
    const { code, stdout, stderr } = await hosts.dsm(["run", ...args, "--", "true"], environment);
    expect(stdout).toBe("");
    expect(stderr).toMatch(/^dsm: [^\n]*\n$/);
    return { code, said: stderr.slice("dsm: ".length, -1) };
  };

  test("no such host", async () => {
    const { code, said } = await refused(["--hosts", "no-such-host.invalid"]);
    expect({ code, said }).toEqual({
      code: 1,
      said: expect.stringContaining('there is no host "no-such-host.invalid" ('),
    });
  });

  test("a host that is down", async () => {
    hosts.cable("b", "down");
    try {
      const { code, said } = await refused(BOTH);
      expect(code).toBe(1);
      expect(said).toMatch(/^10\.78\.2\.2 cannot be reached by ssh \(connect to host 10\.78\.2\.2 port 2222: .*\)$/);
    } finally {
      hosts.cable("b", "up");
    }
  });

  test("nobody listens, and a key that is not let in", async () => {
    const nobody = await refused(["--hosts", ADDRESS.a], { DSM_SSH: hosts.ssh.replace("-p 2222", "-p 2223") });
    expect(nobody).toEqual({
      code: 1,
      said: `${ADDRESS.a} cannot be reached by ssh (connect to host ${ADDRESS.a} port 2223: Connection refused)`,
    });
    const key = join(hosts.folder, "other");
    Bun.spawnSync(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]);
    const denied = await refused(["--hosts", ADDRESS.a, "--ssh", hosts.ssh.replace(/-i \S+/, `-i ${key}`)]);
    expect(denied.code).toBe(1);
    expect(denied.said).toMatch(
      /^10\.78\.1\.2: ssh is not let in \(.*Permission denied.*\); it must work without a password/,
    );
  });

  test("no ssh", async () => {
    const { code, said } = await refused(["--hosts", ADDRESS.a], { DSM_SSH: "/nonexistent/ssh" });
    expect({ code, said }).toEqual({
      code: 1,
      said: '"/nonexistent/ssh" cannot be started; install an ssh client, or name one by --ssh',
    });
  });

  test("no program there", async () => {
    const result = await hosts.dsm(["run", ...BOTH, "--", "./no-such-program"]);
    expect(result).toMatchObject({ code: 127, stdout: "" });
    expect(result.stderr).toMatch(
      /^dsm: 10\.78\.[12]\.2: there is no program ".*\/no-such-program"; --copy copies the program's file to all hosts\n$/,
    );
  });

  test("a far side that cannot reach us", async () => {
    hosts.drop("b", HOME, "add");
    try {
      const { code, said } = await refused(BOTH);
      expect(code).toBe(1);
      expect(said).toMatch(
        /^10\.78\.2\.2: the session daemon at 10\.78\.1\.1:\d+ cannot be reached: .*; give an address that all hosts reach with --interface/,
      );
    } finally {
      hosts.drop("b", HOME, "del");
    }
  });

  test("another kind of machine, and one to which nothing can be copied", async () => {
    const fake = join(hosts.folder, "fake");
    mkdirSync(fake, { recursive: true });
    writeFileSync(join(fake, "uname"), '#!/bin/sh\n[ "$1" = -m ] && echo aarch64 || echo Linux\n');
    chmodSync(join(fake, "uname"), 0o755);
    // Another program than ssh: it does what sshd would, with what we say of the far side.
    const shell = join(hosts.folder, "shell");
    const far = (setting: string): void => {
      writeFileSync(shell, `#!/bin/sh\nshift; ${setting}; exec sh -c "$*"\n`);
      chmodSync(shell, 0o755);
    };
    far(`PATH=${fake}:$PATH`);
    expect(await refused(["--hosts", "x"], { DSM_SSH: shell })).toEqual({
      code: 1,
      said: "x: it is a machine of the kind Linux aarch64; dsm runs on Linux x86_64",
    });
    writeFileSync(join(hosts.folder, "file"), "");
    far(`export PATH=/usr/bin:/bin XDG_CACHE_HOME=${hosts.folder}/file`);
    const { code, said } = await refused(["--hosts", "x"], { DSM_SSH: shell });
    expect(code).toBe(1);
    expect(said).toMatch(
      /^x: it has no dsm \S+ like this one, and none can be copied there: mkdir: .*Not a directory$/,
    );
    // And one that does not say by which address it was reached.
    far(`export PATH=${dirname(DSM)}:/usr/bin:/bin; unset SSH_CONNECTION`);
    const silent = await refused(["--hosts", "x"], { DSM_SSH: shell });
    expect(silent.said).toBe(
      "x does not say by which address it was reached; give the address of this machine that all hosts reach with --interface",
    );
    rmSync(shell);
  });

  test("more processes than slots, and options that do not go together", async () => {
    expect((await refused([...BOTH, "-n5"])).said).toStartWith("5 processes for 4 slots; ");
    expect((await refused([...BOTH, "--nodes=2"])).code).toBe(2);
    expect((await refused(["-n2", "--copy"])).said).toStartWith("--copy needs --hosts or --hostfile");
    expect((await refused([...BOTH, "--interface", "10.9.9.9"])).said).toMatch(
      /^"10\.9\.9\.9" is no address and no inter/,
    );
    expect((await refused([...BOTH, "--env", "MISSING"])).said).toStartWith("--env MISSING: there is no such variable");
  });
});

test("this machine without ssh, and beside another one", async () => {
  const none = { DSM_SSH: "/nonexistent" };
  const local = await hosts.dsm(["run", "--hosts", "localhost:2", "--", "examples/pi/pi.ts", "1000"], none);
  expect(local).toMatchObject({ code: 0, stdout: expect.stringContaining("2 processes"), stderr: "" });
  const mixed = await hosts.dsm(["run", "--hosts", `${HOME}:1,${ADDRESS.b}:1`, "--", "examples/pi/pi.ts", "1000"]);
  expect(mixed).toMatchObject({ code: 0, stdout: expect.stringContaining("2 processes"), stderr: "" });
});

test("without TLS where the user says so, which is told what that gives up", async () => {
  const run = ["run", ...BOTH, "--tls-off", "--", "sh", "-c", "cat $DSM_TOKEN_FILE; echo"];
  const { code, stdout, stderr } = await hosts.dsm(run);
  expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^([0-9a-f]{64}\n)+$/) });
  expect(stderr).toMatch(/^dsm: without TLS others on the way can read and change the memory of all sessions[^\n]*\n$/);
  const pi = await hosts.dsm(["run", ...BOTH, "--tls-off", "--", "examples/pi/pi.ts", "1000000"]);
  expect(pi).toMatchObject({ code: 0, stdout: PI });
});

test("over TLS, with a daemon that is there already", async () => {
  const folder = join(hosts.folder, "tls");
  mkdirSync(folder);
  await makeCertificates(folder, [HOME], 1);
  const security = {
    DSM_TLS_CA: join(folder, "ca.pem"),
    DSM_TLS_CERT: join(folder, `${HOME}.pem`),
    DSM_TLS_KEY: join(folder, `${HOME}-key.pem`),
    DSM_TOKEN: "a-token-of-many-letters",
  };
  const daemon = hosts.spawn(["daemon", "--host", HOME, "--port", "0"], security);
  const address = (await new Said(daemon.stdout).until("\n")).trim().split(" ").at(-1) as string;
  const run = ["run", ...BOTH, "--daemon", address, "--", "examples/pi/pi.ts", "1000000"];
  expect(await hosts.dsm(run, security)).toMatchObject({ code: 0, stdout: PI });
  // And with one for this run alone.
  const own = ["run", ...BOTH, "--", "examples/pi/pi.ts", "1000000"];
  expect(await hosts.dsm(own, security)).toMatchObject({ code: 0, stdout: PI });
  daemon.kill("SIGTERM");
  expect(await daemon.exited).toBe(0);
});

test("examples/cluster/README.md, block by block", async () => {
  const folder = join(hosts.folder, "walk");
  mkdirSync(folder);
  const slurm = { SLURM_JOB_ID: "9", SLURM_JOB_NODELIST: "n[1-2]", SLURM_TASKS_PER_NODE: "2(x2)", SLURM_NTASKS: "4" };
  const text = readFileSync(join(ROOT, "examples/cluster/README.md"), "utf8");
  const blocks = [...text.matchAll(/^```(\w+)(?: (\S+))?\n(.*?)^```$/gms)].map((match) => match.slice(1, 4));
  let said: string[] | null = null;
  let compared = 0;
  for (const [language, name, content = ""] of blocks) {
    if (language === "sh") {
      const { stdout, stderr, code } = await hosts.shell(content, folder, name === "slurm" ? slurm : {});
      expect({ content, stderr: stderr.replace(/^dsm: copying dsm .*\n/gm, ""), code }).toEqual({
        ...{ content, stderr: "", code: 0 },
      });
      said = sorted(stdout);
    } else if (name === undefined) {
      expect(said).toEqual(sorted(content));
      said = null;
      compared += 1;
    } else {
      writeFileSync(join(folder, name), content);
    }
  }
  expect(said).toBeNull();
  expect(compared).toBe(7);
});
