/** `dsm run`: processes, environment, signals, output and exit codes. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { withoutPids } from "../support/without-pids.ts";
import { gone, MAIN, outcome, Place, processesWith, stateOf, until } from "./dsm.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(60_000);

let place: Place;
beforeEach(() => {
  place = new Place();
});
afterEach(() => place.close());

/** A number of seconds to sleep that no other process has. */
const marker = (): string => `4${Math.floor(Math.random() * 1e9)}.${process.pid}`;

const sorted = (text: string): string[] => text.trimEnd().split("\n").sort();

describe("environment", () => {
  test("every process knows the session and its rank", async () => {
    const script = 'echo "$DSM_RANK of $DSM_PROCESSES in $DSM_SESSION, $DSM_SIZE at $DSM_DAEMON by $DSM_BIN"';
    const { code, stdout } = await place.dsm(["run", "-n", "3", "--session", "s", "--", "sh", "-c", script]);
    const rest = `of 3 in s, 1MiB at ${place.daemonAddress} by ${MAIN}`;
    expect(sorted(stdout)).toEqual([`0 ${rest}`, `1 ${rest}`, `2 ${rest}`]);
    expect(code).toBe(0);
  });

  test("a session without a name gets a new one", async () => {
    const run = (): Promise<{ stdout: string }> => place.dsm(["run", "-n2", "--", "sh", "-c", "echo $DSM_SESSION"]);
    const [first, second] = (await Promise.all([run(), run()])).map(({ stdout }) => sorted(stdout));
    expect(first).toHaveLength(2);
    expect(first?.[0]).toMatch(/^run-[0-9a-z]{8}$/);
    expect(first?.[0]).toBe(first?.[1] as string);
    expect(second?.[0]).not.toBe(first?.[0] as string);
  });

  test("ranks are spread over nodes in blocks", async () => {
    const { stdout } = await place.dsm(["run", "-n5", "--nodes=2", "sh", "-c", "echo $DSM_RANK $DSM_NODE"]);
    const [a, b] = [`${hostname()}-0`, `${hostname()}-1`];
    expect(sorted(stdout)).toEqual([`0 ${a}`, `1 ${a}`, `2 ${a}`, `3 ${b}`, `4 ${b}`]);
  });

  test("options come from the environment where they are not given", async () => {
    const environment = { DSM_PROCESSES: "2", DSM_SESSION: "env", DSM_SIZE: "64KiB" };
    const script = "echo $DSM_RANK $DSM_SESSION $DSM_SIZE";
    const fromEnvironment = await place.dsm(["run", "sh", "-c", script], environment);
    expect(sorted(fromEnvironment.stdout)).toEqual(["0 env 64KiB", "1 env 64KiB"]);
    const given = await place.dsm(["run", "-n1", "--session=cli", "--size=4096", "sh", "-c", script], environment);
    expect(given.stdout).toBe("0 cli 4096\n");
  });

  test("the program's own options are its own", async () => {
    const { stdout, code } = await place.dsm(["run", "-n1", "echo", "--help", "-n", "--tag", "--", "--version"]);
    expect(stdout).toBe("--help -n --tag -- --version\n");
    expect(code).toBe(0);
  });
});

describe("exit code", () => {
  test("0 when all end well", async () => {
    expect(await place.dsm(["run", "-n4", "true"])).toEqual({ code: 0, signal: null, stdout: "", stderr: "" });
  });

  test("of the first that fails, and the rest are ended with all they started", async () => {
    const mark = marker();
    const script = `if [ $DSM_RANK = 1 ]; then exit 7; fi; sleep ${mark} & sleep ${mark}`;
    const { code, stderr } = await place.dsm(["run", "-n3", "sh", "-c", script]);
    expect([code, withoutPids(stderr)]).toEqual([7, "dsm: process 1 (pid N) ended with exit code 7\n"]);
    expect(processesWith(mark)).toEqual([]);
  });

  test("the line that says which has failed names its node, if there are several, and its pid", async () => {
    const script = "if [ $DSM_RANK = 2 ]; then echo $DSM_NODE $$; exit 3; fi; exec sleep 60";
    const { code, stdout, stderr } = await place.dsm(["run", "-n4", "--nodes=2", "sh", "-c", script]);
    const [node, pid] = stdout.trim().split(" ");
    expect([code, stderr]).toEqual([3, `dsm: process 2 (node ${node}, pid ${pid}) ended with exit code 3\n`]);
  });

  test("of several that fail at the same time one is named", async () => {
    const { code, stderr } = await place.dsm(["run", "-n4", "sh", "-c", "exit 3"]);
    expect(code).toBe(3);
    expect(withoutPids(stderr)).toMatch(/^dsm: process [0-3] \(pid N\) ended with exit code 3\n$/);
    const killed = await place.dsm(["run", "-n4", "sh", "-c", "kill -KILL $$"]);
    expect(killed.code).toBe(137);
    expect(withoutPids(killed.stderr)).toMatch(/^dsm: process [0-3] \(pid N\) was ended by SIGKILL\n$/);
  });

  test("128 and the signal's number for one that was killed", async () => {
    const script = "if [ $DSM_RANK = 1 ]; then kill -SEGV $$; fi";
    const { code, stderr } = await place.dsm(["run", "-n2", "sh", "-c", script]);
    expect(code).toBe(139);
    expect(withoutPids(stderr)).toBe("dsm: process 1 (pid N) was ended by SIGSEGV\n");
  });

  test("--on-loss continue: the others go on after a failure, and the first one gives the code", async () => {
    const script = `case $DSM_RANK in 0) exec sleep 0.5;; 1) exit 7;; 2) sleep 0.2; kill -SEGV $$;; esac; sleep 1; echo on`;
    const some = await place.dsm(["run", "-n4", "--on-loss=continue", "sh", "-c", script]);
    expect(some).toMatchObject({ code: 7, stdout: "on\n" });
    expect(withoutPids(some.stderr)).toBe(
      "dsm: process 1 (pid N) ended with exit code 7; the others go on\n" +
        "dsm: process 2 (pid N) was ended by SIGSEGV; the others go on\n",
    );
    const all = await place.dsm(["run", "-n2", "sh", "-c", "exit 3"], { DSM_ON_LOSS: "continue" });
    expect(all).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(
        /^(dsm: process [01] \(pid \d+\) ended with exit code 3(; the others go on)?\n){1,2}$/,
      ),
    });
  });

  test("--on-loss continue: the end that is asked for is the end of all", async () => {
    const mark = marker();
    const script = `trap 'exit 9' TERM; echo up; sleep ${mark} & wait`;
    const child = place.spawn(["run", "-n2", "--on-loss=continue", "--tag", "sh", "-c", script]);
    await until(child.stdout, "[0] up", "[1] up");
    child.kill("SIGTERM");
    expect([await child.exited, await child.stderr.text()]).toEqual([9, ""]);
    expect(processesWith(mark)).toEqual([]);
  });

  test("those that do not listen are killed", async () => {
    const mark = marker();
    // The failure comes after the others have said that they are deaf to SIGTERM.
    const ready = join(place.folder, "ready");
    const script = `if [ $DSM_RANK = 0 ]; then while [ ! -e ${ready} ]; do sleep 0.01; done; exit 3; fi
      trap "" TERM; touch ${ready}; sleep ${mark}; sleep ${mark}`;
    expect((await place.dsm(["run", "-n2", "sh", "-c", script])).code).toBe(3);
    expect(processesWith(mark)).toEqual([]);
  });

  test("what a process leaves in the background is ended", async () => {
    const mark = marker();
    const script = `sleep ${mark} > /dev/null 2>&1 & set -m; sleep ${mark} > /dev/null 2>&1 & exit 0`;
    const { code } = await place.dsm(["run", "-n2", "bash", "-c", script]);
    expect(code).toBe(0);
    expect(processesWith(mark)).toEqual([]);
  });
});

describe("signals", () => {
  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    test(`${signal} reaches every process`, async () => {
      const mark = marker();
      const script = `trap 'echo got it; exit ${code}' ${signal.slice(3)}; echo up; sleep ${mark} & wait`;
      const child = place.spawn(["run", "-n2", "--tag", "sh", "-c", script]);
      await until(child.stdout, "[0] up", "[1] up");
      child.kill(signal);
      await child.exited;
      expect(child.exitCode).toBe(code);
      expect(processesWith(mark)).toEqual([]);
    });
  }

  test("stopping and continuing stops and continues every process", async () => {
    const mark = marker();
    const child = place.spawn(["run", "-n2", "--tag", "sh", "-c", `echo up $$; exec sleep ${mark}`]);
    const said = await until(child.stdout, "[0] up", "[1] up");
    const pids = [...said.matchAll(/up (\d+)/g)].map((match) => Number(match[1]));
    expect(pids).toHaveLength(2);
    child.kill("SIGTSTP");
    await gone(() => [...pids, child.pid].some((pid) => stateOf(pid) !== "T"));
    child.kill("SIGCONT");
    await gone(() => [...pids, child.pid].some((pid) => stateOf(pid) === "T"));
    child.kill("SIGTERM");
    expect(await child.exited).toBe(143);
  });

  test("processes that ignore SIGTERM are killed in the end", async () => {
    const mark = marker();
    const child = place.spawn(["run", "-n1", "sh", "-c", `trap "" TERM; echo up; sleep ${mark}; sleep ${mark}`]);
    await until(child.stdout, "up");
    child.kill("SIGTERM");
    await child.exited;
    expect(child.exitCode).toBe(137);
    expect(processesWith(mark)).toEqual([]);
  });
});

describe("input and output", () => {
  test("rank 0 has the input, the others have none", async () => {
    const child = place.spawn(["run", "-n2", "--tag", "cat"], {}, "pipe");
    const stdin = child.stdin as Bun.FileSink;
    stdin.write("hello\nworld\n");
    await stdin.end();
    const { stdout, code } = await outcome(child);
    expect(stdout).toBe("[0] hello\n[0] world\n");
    expect(code).toBe(0);
  });

  test("--tag marks whole lines of both streams, also the last without an end", async () => {
    const script = 'printf "a\\nb"; printf "e\\n" >&2';
    const { stdout, stderr } = await place.dsm(["run", "-n2", "--tag", "sh", "-c", script]);
    expect(sorted(stdout)).toEqual(["[0] a", "[0] b", "[1] a", "[1] b"]);
    expect(sorted(stderr)).toEqual(["[0] e", "[1] e"]);
  });

  test("--tag breaks lines that never end, and loses nothing", async () => {
    const { stdout } = await place.dsm(["run", "-n1", "--tag", "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines.every((line) => line.startsWith("[0] "))).toBe(true);
    expect(lines.reduce((sum, line) => sum + line.length - 4, 0)).toBe(300_000);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(65_540);
  });

  test("a reader that goes away ends the run", async () => {
    const mark = marker();
    const script = `${process.execPath} ${MAIN} run -n 2 --tag sh -c 'yes ${mark}' | head -n 1`;
    const child = Bun.spawn({ cmd: ["sh", "-c", script], env: place.environment, stdout: "pipe", stderr: "pipe" });
    expect(await child.stdout.text()).toMatch(/^\[[01]\] /);
    await child.exited;
    expect(processesWith(`yes\0${mark}`)).toEqual([]);
  });
});

describe("programs", () => {
  test("scripts that are missing, and programs that cannot run, are one line", async () => {
    const file = join(place.folder, "plain");
    writeFileSync(file, "#!/bin/sh\n");
    chmodSync(file, 0o644);
    mkdirSync(join(place.folder, "dir"));
    const broken = join(place.folder, "broken");
    writeFileSync(broken, "\x7fELF nonsense");
    chmodSync(broken, 0o755);
    const source = join(place.folder, "sum.c");
    writeFileSync(source, "int main(void) {}\n");
    chmodSync(source, 0o644);
    for (const [program, code, text] of [
      [source, 126, "is the source of a program; compile it and give the program, such as ./sum"],
      ["./nothing-here.c", 127, "there is no program"],
      ["nothing-here.c", 127, "not found in the PATH"],
      ["./nothing-here", 127, "there is no program"],
      ["nothing-here-either", 127, "not found in the PATH"],
      ["nothing.ts", 127, "there is no program"],
      [file, 126, "may not be executed"],
      [join(place.folder, "dir"), 126, "not a file"],
      [broken, 126, "cannot be started"],
    ] as const) {
      const { code: got, stderr, stdout } = await place.dsm(["run", "-n2", "--", program]);
      expect([program, got]).toEqual([program, code]);
      expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
      expect(stderr).toContain(text);
      expect(stdout).toBe("");
    }
  });

  test("bad options are one line and say what is possible", async () => {
    for (const [args, text] of [
      [["-n", "0", "true"], "1 or more"],
      [["-n", "1025", "true"], "limit is 1024"],
      [["-n", "two", "true"], "not a whole number"],
      [["true"], "-n N"],
      [["-n", "2"], "no program"],
      [["-n2", "--nodes", "3", "true"], "1 to 2 nodes"],
      [["-n2", "--nodes", "0", "true"], "1 to 2 nodes"],
      [["-n2", "--size", "0", "true"], "1 byte or more"],
      [["-n2", "--size", "1TB", "true"], "64KiB"],
      [["-n2", "--size", "65GiB", "true"], "beyond the limit"],
      [["-n2", "--session", "a/b", "true"], "slash"],
      [["-n2", "--session", "", "true"], "empty"],
      [["-n2", "--daemon", "here:there", "true"], "HOST:PORT"],
      [["-n2", "--nonsense", "true"], "--nonsense"],
    ] as const) {
      const { code: got, stderr } = await place.dsm(["run", ...args]);
      expect([args, got]).toEqual([args, 2]);
      expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
      expect(stderr).toContain(text);
    }
  });
});
