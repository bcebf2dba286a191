/** Programs under sanitizers, valgrind and gdb: they work, the tool finds the program's faults, and only those. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Outcome } from "../support/e2e-child.ts";
import { Cluster, DSM, ROOT, type SessionOptions } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";
import { readBlocks, readSteps } from "../support/readme-blocks.ts";

setDefaultTimeout(300_000);

const ORDERS = ["sequential", "release", "pipelined"];
const VALGRIND = ["valgrind", "-q", "--error-exitcode=9"];
const CAPTURING = ["--vex-iropt-register-updates=allregs-at-mem-access", "--vex-guest-chase=no"];
const ON_TWO_NODES = { nodes: ["a", "b"], environment: {} };
const DIRECT = { nodes: ["a", "a"], environment: {} };
const ON_ONE_NODE = { nodes: ["a", "a"], environment: { DSM_DIRECT: "0" } };

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const programs = new Map<string, Promise<string>>();

/** The program, compiled with these flags of the compiler. */
function program(...flags: string[]): Promise<string> {
  const name = flags.join();
  const known = programs.get(name);
  if (known !== undefined) return known;
  const made = compile("test/e2e/programs/sanitized.c", `sanitized-${programs.size}`, flags);
  programs.set(name, made);
  return made;
}

async function compile(source: string, name: string, flags: string[]): Promise<string> {
  const path = join(cluster.folder, name);
  const native = join(ROOT, "native");
  const isCpp = source.endsWith(".cpp");
  const { code, stderr } = await cluster.command([
    ...(isCpp ? ["g++", "-std=c++20"] : ["gcc", "-std=gnu11", "-D_GNU_SOURCE"]),
    ...["-g", "-O1", "-Wall", "-Wextra", "-Werror", ...flags],
    ...[`-I${native}/include`, `-I${native}/bindings/cpp`, join(ROOT, source), "-o", path],
    ...[`-L${native}/build`, "-ldsm", `-Wl,-rpath,${native}/build`],
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return path;
}

async function works(command: string[], options: Partial<SessionOptions> & { nodes: string[] }): Promise<void> {
  const said = await cluster.runWell(command, { session: cluster.session(), size: "1MiB", ...options });
  for (const each of said) expect(each).toBe(`${command.at(-1)}: done\n`);
}

/** One process, whose stores are captured, and how it ended. */
async function alone(command: string[], environment: Record<string, string> = {}): Promise<Outcome> {
  const [ended] = await cluster.run(command, {
    ...{ session: cluster.session(), nodes: ["a"], size: "1MiB" },
    environment: { DSM_DIRECT: "0", ...environment },
  });
  return ended as Outcome;
}

test("a program with AddressSanitizer starts the arbiter, and goes on", async () => {
  const path = await compile("examples/debugging/sum.c", "sum-address", ["-fsanitize=address"]);
  const { code, stdout, stderr } = await alone([path]);
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "499500\n", stderr: "" });
});

for (const sanitizer of ["address", "undefined", "leak", "address,undefined", "thread"]) {
  const flag = `-fsanitize=${sanitizer}`;
  describe(flag, () => {
    for (const order of ORDERS) {
      test(`every kind of store, order ${order}`, async () => {
        const path = await program(flag);
        for (const options of [ON_TWO_NODES, DIRECT, ON_ONE_NODE]) {
          const environment = { ...options.environment, DSM_ORDER: order };
          await works([path, "work"], { ...options, environment });
          await works([path, "widest"], { ...options, environment });
        }
      });
    }

    test("a program in C++", async () => {
      const path = await compile("test/bindings/programs/tour.cpp", `tour-${sanitizer}`, [flag]);
      const environment = { DSM_ORDER: "sequential" };
      const options = { session: cluster.session(), size: "1MiB", nodes: ["a", "b", "b"], environment };
      expect((await cluster.runWell([path], options)).join("")).toBe("ok\n");
    });
  });
}

describe("sanitizers find the program's own faults", () => {
  for (const [sanitizer, fault, says] of [
    ["address", "overflow", /heap-buffer-overflow[\s\S]* in overflow /],
    ["address", "wild", /SEGV on unknown address 0x0*10 [\s\S]* in wild /],
    ["address", "leak", /1234 byte\(s\) leaked in 1 allocation/],
    ["leak", "leak", /1234 byte\(s\) leaked in 1 allocation/],
    ["undefined", "undefined", /signed integer overflow/],
    ["thread", "races", /data race[\s\S]* race /],
    ["thread", "wild", /SEGV on unknown address 0x0*10 /],
  ] as const) {
    test(`${sanitizer}: ${fault}`, async () => {
      const { code, stderr } = await alone([await program(`-fsanitize=${sanitizer}`), fault]);
      expect(stderr).toMatch(says);
      if (sanitizer !== "undefined") expect(code).not.toBe(0);
    });
  }
});

describe("valgrind", () => {
  for (const order of ORDERS) {
    needs("valgrind").test(`every kind of store, order ${order}`, async () => {
      const path = await program();
      const environment = { DSM_ORDER: order };
      await works([...VALGRIND, path, "work"], { ...DIRECT, environment });
      await works([...VALGRIND, ...CAPTURING, path, "work"], { ...ON_TWO_NODES, environment });
    });
  }

  needs("valgrind").test("without the options for it, joining says which they are", async () => {
    const { code, stderr } = await alone([...VALGRIND, await program(), "work"]);
    expect(code).toBe(1);
    expect(stderr).toContain(`start valgrind with ${CAPTURING.join(" ")}`);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });

  needs("valgrind").test("a long double is refused, not stored wrong", async () => {
    const { stderr, code } = await alone([...VALGRIND, ...CAPTURING, await program(), "widest"]);
    expect(stderr).toContain("valgrind has changed the x87 unit before such a store (long double)\n");
    expect(code).not.toBe(0);
  });

  for (const [fault, says] of [
    ["overflow", /Invalid write[\s\S]*overflow \(sanitized\.c/],
    ["wild", /Invalid write of size 4[\s\S]*wild \(sanitized\.c/],
    ["leak", /1,234 bytes in 1 blocks are definitely lost/],
  ] as const) {
    needs("valgrind").test(`finds the program's own fault: ${fault}`, async () => {
      const { code, stderr } = await alone([...VALGRIND, "--leak-check=full", ...CAPTURING, await program(), fault]);
      expect(stderr).toMatch(says);
      expect(code).not.toBe(0);
    });
  }
});

describe("gdb", () => {
  let prefix = "";
  let path = "";
  beforeAll(async () => {
    prefix = join(cluster.folder, "prefix");
    expect((await cluster.command([DSM, "install", "--prefix", prefix])).code).toBe(0);
    path = join(cluster.folder, "installed");
    const source = join(ROOT, "test/e2e/programs/sanitized.c");
    const { code, stderr } = await cluster.command([
      ...["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", `-I${prefix}/include`, source, "-o", path],
      ...[`-L${prefix}/lib`, "-ldsm"],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });

  /** What gdb says to these commands. Its script is loaded by itself. */
  async function gdb(...commands: string[]): Promise<string> {
    const first = [`add-auto-load-safe-path ${prefix}/lib`, "set debuginfod enabled off", "set width 0"];
    const all = [...first, ...commands].flatMap((command) => ["-ex", command]);
    return (await alone(["gdb", "-nx", "-batch", ...all, path])).stdout;
  }

  needs("gdb").test("stores do not stop a program, breakpoints do, and steps go over them", async () => {
    const lines = readFileSync(join(ROOT, "test/e2e/programs/sanitized.c"), "utf8").split("\n");
    const first = lines.findIndex((line) => line.includes("mine->one = 11;")) + 1;
    const said = await gdb(`break sanitized.c:${first}`, "run work", "next 5", "delete", "continue");
    expect(said).toMatch(/Breakpoint 1(\.1)?, store \(\)/);
    expect(said).toContain(`\n${first}\t`);
    expect(said).toMatch(/\n\d+\t +mine->whole = /);
    expect(said).not.toContain("SIGSEGV");
    expect(said).not.toContain("SIGTRAP");
    expect(said).toContain("work: done");
    expect(said).toContain("exited normally");
  });

  needs("gdb").test("a store that runs aside does not either", async () => {
    const said = await gdb("break dsm_close", "run widest", "backtrace", "continue");
    expect(said).toMatch(/ in main \(/);
    expect(said).toContain("widest: done");
    expect(said).not.toMatch(/SIGSEGV|SIGTRAP/);
  });

  needs("gdb").test("a fault of the program's own stops it where it happened", async () => {
    const said = await gdb("run wild", "backtrace", "continue", "continue");
    expect(said).toContain("dsm: this fault is the program's own");
    expect(said).toMatch(/<signal handler called>\n#\d+ .* wild \(\) at /);
    expect(said).toContain("Program terminated with signal SIGSEGV");
  });
});

needs("valgrind").test("the commands of the guide's page", async () => {
  if (Bun.which("gdb") === null) throw new Error("gdb is not installed: apt-get install gdb");
  const prefix = join(cluster.folder, "page");
  expect((await cluster.command([DSM, "install", "--prefix", prefix])).code).toBe(0);
  const folder = join(cluster.folder, "debugging");
  cpSync(join(ROOT, "examples/debugging"), folder, { recursive: true });
  const blocks = readBlocks(readFileSync(join(folder, "README.md"), "utf8")).filter(
    ({ language }) => language === "sh",
  );
  const commands = blocks.flatMap(readSteps).map(({ command }) => command);
  expect(commands.length).toBeGreaterThan(8);
  const environment = {
    CPATH: `${prefix}/include`,
    LIBRARY_PATH: `${prefix}/lib`,
    PATH: `${prefix}/bin:${process.env.PATH}`,
  };
  mkdirSync(join(cluster.folder, "config/gdb"), { recursive: true });
  writeFileSync(join(cluster.folder, "config/gdb/gdbinit"), `add-auto-load-safe-path ${prefix}/lib\n`);
  for (const command of commands) {
    const { code, stdout, stderr } = await cluster.command(["sh", "-c", `cd ${folder} && ${command}`], environment);
    expect({ command, code, stderr: code === 0 ? "" : stderr }).toEqual({ command, code: 0, stderr: "" });
    // Of two processes: 499500 and 500500.
    if (command.startsWith("dsm run")) expect(stdout).toContain("1000000\n");
  }
});
