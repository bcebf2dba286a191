/** Every command of dsm: its help, that it does what it is for, and what it says when it is used wrongly. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { COMMANDS } from "../../src/cli/commands/commands.ts";
import { optionLabel, usageOf } from "../../src/cli/help/usage.ts";
import { checkArguments, splitProgram } from "../../src/cli/settings/options.ts";
import { type Child, MAIN, type Outcome, outcome, Place, processesWith, until } from "./dsm.ts";

// Most of them start real processes, on machines that may be busy.
setDefaultTimeout(120_000);

interface Case {
  /** The command does what it is for. */
  works(): Promise<void>;
  /** A wrong use of it: what follows the command's name, what the one line on stderr has in it, the exit code. */
  misuse: { args: string[]; says: string; code: number };
}

let place: Place;
beforeAll(() => {
  place = new Place();
});
afterAll(async () => {
  // Not by SIGKILL: dsm run is to end the processes it has started.
  for (const child of children) child.kill();
  await Promise.all(children.map((child) => child.exited));
  await place.close();
  expect(processesWith(place.folder)).toEqual([]);
});

const children: Child[] = [];

async function good(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await place.dsm(args);
  expect({ args, code, stderr: stderr.replace(/^dsm: started a session daemon [^\n]+\n/, "") }).toEqual({
    ...{ args, code: 0, stderr: "" },
  });
  return stdout;
}

function start(...args: string[]): Child {
  const child = place.spawn(args);
  children.push(child);
  return child;
}

/** A session of one process that is there until the test ends. */
async function session(name: string): Promise<void> {
  const script = join(place.folder, "wait.ts");
  writeFileSync(
    script,
    `import { join } from "dsm";
const session = await join({ direct: false });
session.view(Int32Array)[5] = 7;
console.log("up");
await new Promise(() => setInterval(() => {}, 1e9));
`,
  );
  await until(start("run", "-n1", `--session=${name}`, "--", script).stdout, "up\n");
}

/** What must be there for each command. */
const CASES: Record<string, Case> = {
  run: {
    works: async () => {
      const said = await good("run", "-n", "2", "--tag", "--", "sh", "-c", "echo $DSM_RANK of $DSM_PROCESSES");
      expect(said.split("\n").sort()).toEqual(["", "[0] 0 of 2", "[1] 1 of 2"]);
    },
    misuse: { args: ["-n", "2"], says: "no program given", code: 2 },
  },
  init: {
    works: async () => {
      const folder = join(place.folder, "first");
      expect(await good("init", folder, "--language", "c")).toEndWith(`\n  cd ${folder}\n  make run\n`);
      expect(readdirSync(folder).sort()).toEqual(["Makefile", "README.md", "main.c"]);
    },
    misuse: { args: [], says: "the language is missing", code: 2 },
  },
  sessions: {
    works: async () => {
      await session("listed");
      expect(await good("sessions")).toMatch(/^listed +1 +1 MiB +sequential /m);
      expect(JSON.parse(await good("sessions", "listed", "--json"))).toMatchObject({ name: "listed", processes: 1 });
    },
    misuse: { args: ["a", "b"], says: 'unexpected argument "b"', code: 2 },
  },
  top: {
    works: async () => {
      await session("shown");
      expect(await good("top", "--once", "--interval", "0.1")).toMatch(/^.shown +1 of 1 +0 /m);
    },
    misuse: { args: [], says: "top needs a terminal; give --once or --json", code: 2 },
  },
  why: {
    works: async () => {
      await session("running");
      expect(await good("why", "running")).toStartWith("no process waits: 1 process runs");
    },
    misuse: { args: ["a", "b"], says: 'unexpected argument "b"', code: 2 },
  },
  trace: {
    works: async () => {
      await session("traced");
      const file = join(place.folder, "trace.json");
      expect(await good("trace", "traced", "--out", file, "--seconds", "0.1")).toContain(file);
      expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ displayTimeUnit: "ms" });
    },
    misuse: { args: ["traced"], says: "the file is missing; give --out FILE", code: 2 },
  },
  snapshot: {
    works: async () => {
      await session("saved");
      const file = join(place.folder, "saved.snap");
      expect(await good("snapshot", "saved", file)).toContain(file);
      expect(statSync(file).size).toBeGreaterThan(4096);
    },
    misuse: { args: [], says: "FILE is missing", code: 2 },
  },
  remove: {
    works: async () => {
      await session("removed");
      const { code, stderr } = await place.dsm(["remove", "removed"]);
      expect([code, stderr]).toEqual([0, 'dsm: session "removed" has been removed\n']);
      expect(await good("sessions")).not.toContain("removed");
    },
    misuse: { args: [], says: "SESSION is missing", code: 2 },
  },
  doctor: {
    works: async () => {
      const { code, stdout } = await place.dsm(["doctor", "--json"]);
      const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: { check: string; state: string }[] };
      // A machine that runs the tests can do this, whatever else it lacks.
      expect(findings.find(({ check }) => check === "trapped store")).toMatchObject({ state: "ok" });
      expect(code).toBe(ok ? 0 : 1);
    },
    misuse: { args: ["--jsn"], says: "unknown option --jsn; did you mean --json?", code: 2 },
  },
  header: {
    works: async () => {
      const module = join(place.folder, "state.ts");
      writeFileSync(module, `import { i32, struct } from "dsm";\nexport const state = struct({ turn: i32 });\n`);
      expect(await good("header", module)).toMatch(/struct state \{\s+int32_t turn;/);
    },
    misuse: { args: [], says: "FILE is missing", code: 2 },
  },
  cert: {
    works: async () => {
      const folder = join(place.folder, "certs");
      await good("cert", "--out", folder, "127.0.0.1");
      expect(readdirSync(folder).sort()).toEqual(["127.0.0.1-key.pem", "127.0.0.1.pem", "ca-key.pem", "ca.pem"]);
    },
    misuse: { args: [], says: "the hosts are missing", code: 2 },
  },
  install: {
    works: async () => {
      const prefix = join(place.folder, "installed");
      await good("install", "--prefix", prefix);
      expect(existsSync(join(prefix, "bin/dsm"))).toBe(true);
    },
    misuse: { args: ["--perfix", "x"], says: "unknown option --perfix; did you mean --prefix?", code: 2 },
  },
  uninstall: {
    works: async () => {
      const prefix = join(place.folder, "uninstalled");
      mkdirSync(join(prefix, "share/dsm"), { recursive: true });
      writeFileSync(join(prefix, "other"), "");
      writeFileSync(join(prefix, "share/dsm/manifest"), "file share/dsm/manifest\ndir share\ndir share/dsm\n");
      await good("uninstall", "--prefix", prefix);
      expect(readdirSync(prefix)).toEqual(["other"]);
    },
    misuse: { args: ["--prefix"], says: "--prefix", code: 2 },
  },
  completion: {
    works: async () => {
      const script = await good("completion", "bash");
      const bash = Bun.spawnSync(["bash", "-n"], { stdin: Buffer.from(script), stderr: "pipe" });
      expect([bash.exitCode, bash.stderr.toString()]).toEqual([0, ""]);
      expect(await good("completion", "bash", "--", "run", "--order", "s")).toBe("none\nsequential\t\n");
    },
    misuse: { args: ["tcsh"], says: 'no completion for shell "tcsh"; choose bash, zsh, fish', code: 2 },
  },
  man: {
    works: async () => expect(await good("man")).toMatch(/^\.TH DSM 1 /m),
    misuse: { args: ["run"], says: 'unexpected argument "run"', code: 2 },
  },
  licenses: {
    works: async () => expect(await good("licenses")).toContain("fastest-levenshtein"),
    misuse: { args: ["--jason"], says: "did you mean --json?", code: 2 },
  },
  daemon: {
    works: async () => {
      const other = new Place();
      const daemon = other.spawn(["daemon", "--host", other.host]);
      children.push(daemon);
      await until(daemon.stdout, `listening on ${other.daemonAddress}`);
      expect((await other.dsm(["sessions"])).stdout).toBe(`no sessions at ${other.daemonAddress}\n`);
      daemon.kill("SIGTERM");
      expect(await daemon.exited).toBe(0);
      await other.close();
    },
    misuse: { args: ["--port", "http"], says: 'port "http" is not a whole number', code: 2 },
  },
  server: {
    works: async () => {
      const server = start("server", "--session=served", "--processes=1", `--host=${place.host}`);
      await until(server.stdout, 'dsm server: session "served" is listening');
      expect(await good("sessions", "served")).toMatch(/^state +waiting for processes$/m);
      server.kill("SIGTERM");
      await server.exited;
      expect(await good("sessions")).not.toContain("served");
    },
    misuse: { args: ["--processes", "2"], says: "the session is missing; give --session NAME", code: 2 },
  },
  arbiter: {
    works: async () => {
      const arbiter = start("arbiter", "--session=arbitrated", "--processes=1", "--node=a");
      await until(arbiter.stdout, "ready\n");
      expect(await good("sessions")).toContain("arbitrated");
      arbiter.kill("SIGTERM");
      await arbiter.exited;
    },
    misuse: { args: [], says: "the session is missing", code: 2 },
  },
};

test("every command has its cases here, and no other", () => {
  expect(Object.keys(CASES).sort()).toEqual(Object.keys(COMMANDS).sort());
});

/** The arguments of every `dsm` in a line as one types it in a shell. */
function dsmCalls(line: string): string[][] {
  return line
    .split(/\s*(?:&&|[|]|[<>]\(?|\))\s*/)
    .map((part) => part.replace(/^(sudo|source) /, "").trim())
    .filter((part) => part.startsWith("dsm "))
    .map((part) => part.split(/\s+/).slice(1));
}

describe.each(Object.keys(COMMANDS))("dsm %s", (name) => {
  const load = COMMANDS[name] as (typeof COMMANDS)[string];

  test("--help shows usage, every option with its default, and examples", async () => {
    const usage = usageOf(name, await load());
    const help = await good(name, "--help");
    expect(await good("help", name)).toBe(help);
    expect(help).toContain(`  dsm ${name} ${usage.synopsis}\n`);
    const words = help.replace(/\s+/g, " ");
    expect(words).toStartWith(`${usage.description}. `);
    for (const option of usage.options) {
      expect(help).toContain(`  ${optionLabel(option)}`);
      expect(option.description).not.toBe("");
      expect(words).toContain(option.description);
      if (option.fallback !== undefined) expect(words).toContain(`${option.description} (default: ${option.fallback})`);
    }
    for (const argument of usage.arguments) expect(words).toContain(`${argument.name} ${argument.description}`);
    expect(usage.manual.examples.length).toBeGreaterThanOrEqual(2);
    for (const { does, line } of usage.manual.examples) {
      expect(help.replace(/^ {2}# /gm, "").replace(/\s+/g, " ")).toContain(does);
      expect(help).toContain(`\n  ${line}`);
    }
    const ownLines = new Set(usage.manual.examples.map(({ line }) => `  ${line}`));
    for (const line of help.split("\n")) if (!ownLines.has(line)) expect(line.length).toBeLessThanOrEqual(80);
  });

  test("its examples are command lines that dsm takes", async () => {
    for (const { line } of (await load()).manual.examples) {
      const calls = dsmCalls(line);
      expect({ line, calls: calls.length }).not.toEqual({ line, calls: 0 });
      for (const [first = "", ...rest] of calls) {
        const called = await COMMANDS[first]?.();
        expect({ line, known: called !== undefined }).toEqual({ line, known: true });
        if (called === undefined) continue;
        const { own, program } = called.takesProgram ? splitProgram(rest, called.args) : { own: rest, program: [] };
        expect(() => checkArguments(own, called.args)).not.toThrow();
        expect({ line, program: program.length > 0 }).toEqual({ line, program: called.takesProgram === true });
      }
    }
  });

  test("does what it is for", () => CASES[name]?.works());

  test("used wrongly, it says so in one line", async () => {
    const { args, says, code } = (CASES[name] as Case).misuse;
    const outcome = await place.dsm([name, ...args]);
    expect(outcome).toMatchObject({ code, stdout: "" });
    expect(outcome.stderr).toMatch(/^dsm: [^\n]+\n$/);
    expect(outcome.stderr).toContain(says);
  });
});

test("the name that a command has elsewhere leads to it", async () => {
  for (const [given, meant] of [
    ["status", "sessions"],
    ["kill", "remove"],
    ["start", "run"],
  ] as const) {
    const { code, stderr } = await place.dsm([given]);
    expect([code, stderr]).toEqual([2, `dsm: unknown command "${given}"; did you mean "${meant}"?\n`]);
  }
});

test("a command whose output cannot be written says so in one line, and fails", async () => {
  const run = (words: string, to: string): Promise<Outcome> => {
    const cmd = ["sh", "-c", `exec "$0" "$1" ${words} ${to}`, process.execPath, MAIN];
    return outcome(Bun.spawn({ cmd, env: place.environment, stdio: ["ignore", "pipe", "pipe"] }));
  };
  for (const words of ["--version", "--help", "help run", "licenses", "completion bash", "man", "doctor"]) {
    for (const [to, why] of [
      [">&-", "it is closed; send it to a file or a program"],
      [">/dev/full", "ENOSPC: no space left on device, write"],
    ] as const) {
      const { code, stderr } = await run(words, to);
      expect([words, code, stderr]).toEqual([words, 1, `dsm: standard output cannot be written: ${why}\n`]);
    }
    // Nothing is lost that was to be read.
    expect(await run(words, ">/dev/null")).toMatchObject({ stderr: "" });
  }
  const tagged = await run("run --tag -n 1 -- sh -c 'echo hello'", ">/dev/full");
  expect(tagged.code).toBe(1);
  expect(tagged.stderr).toMatch(/^dsm: standard output cannot be written: ENOSPC[^\n]+\n/);
});
