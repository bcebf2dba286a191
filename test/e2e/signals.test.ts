/**
 * Programs that block SIGSEGV, or have handlers of their own for it, store to the map all the same; their own faults are
 * theirs. And `dsm run` says so where that cannot be.
 */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { UNSEEN } from "../../src/cli/run/run-records.ts";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";
import { withoutPids } from "../support/without-pids.ts";

setDefaultTimeout(120_000);

const LIBRARY = join(ROOT, "native/build/libdsm.so");
const NODE = Bun.which("node") ?? "node";

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** Traps, by one process. */
const TRAPS = { DSM_DIRECT: "0" };

const CASES = {
  masks: "masks set in every way, and read back",
  threads: "threads that inherit a full mask, or are given one",
  "handler-mask": "a handler that runs with a full mask",
  waits: "handlers that run while sigsuspend and its like wait with a full mask",
  sent: "a SIGSEGV that is sent, with SIGSEGV open and blocked",
  "sent-to-waiter": "a SIGSEGV that is sent while one of many threads waits for it",
  ignored: "SIGSEGV ignored",
  recovers: "a handler that jumps out of each fault",
  "old-calls": "handlers set by the calls of BSD and System V",
  nested: "a fault in the handler of one that allows it",
  traps: "handlers of SIGTRAP and SIGBUS",
  contexts: "contexts with a mask of their own",
  children: "children by fork, vfork, posix_spawn, system and popen",
  timers: "functions called by timers and message queues",
  concurrent: "handlers and masks changed while other threads store and fork",
};

/** As if they were not dsm's, these end by SIGSEGV. */
const DEATHS = {
  "dies-blocked": "a fault while SIGSEGV is blocked",
  "dies-nested": "a fault in the handler of one that does not allow it",
  "dies-reset": "the second fault of a handler that is called once",
  "dies-ignored": "a fault while SIGSEGV is ignored",
  "dies-sent": "a SIGSEGV that is sent without a handler",
};

for (const [way, options] of Object.entries({ linked: ["--no-preload"], "linked and preloaded": [] })) {
  describe(`a program that is ${way}`, () => {
    const run = (name: string) =>
      cluster.dsm(["run", "-n1", ...options, "--", cluster.program("signals"), name], TRAPS);

    for (const [name, what] of Object.entries(CASES)) {
      test(what, async () => {
        expect(await run(name)).toEqual({ code: 0, signal: null, stdout: "ok\n", stderr: "" });
      });
    }

    for (const [name, what] of Object.entries(DEATHS)) {
      test(`${what} ends it as ever`, async () => {
        const { stderr, ...ended } = await run(name);
        expect(ended).toEqual({ code: 128 + 11, signal: null, stdout: "" });
        expect(withoutPids(stderr)).toBe("dsm: process 0 (pid N) was ended by SIGSEGV\n");
      });
    }

    test("dsm run says that a store could not be caught", async () => {
      const { stderr, ...ended } = await run("dies-unseen");
      expect(ended).toEqual({ code: 128 + 11, signal: null, stdout: "" });
      expect(withoutPids(stderr)).toBe(`dsm: process 0 (pid N) was ended by SIGSEGV; ${UNSEEN}\n`);
    });
  });
}

test.each([
  ["static program", ["-static", "-ldsm"]],
  ["dynamic program", ["-l:libdsm.a"]],
] as const)("a %s with libdsm.a blocks SIGSEGV and stores", async (kind, flags) => {
  const native = join(ROOT, "native");
  const program = join(cluster.folder, kind.split(" ")[0] as string);
  const made = await cluster.command([
    ...["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", `-I${native}/include`],
    ...[join(ROOT, "test/e2e/programs/signals.c"), "-o", program],
    ...[`-L${native}/build`, ...flags, "-lpthread", "-lrt", "-lxed"],
  ]);
  expect(made.code).toBe(0);
  for (const name of ["masks", "handler-mask", "waits", "sent", "sent-to-waiter", "recovers", "old-calls", "traps"]) {
    const { code, stdout, stderr } = await cluster.dsm(["run", "-n1", "--", program, name], TRAPS);
    expect({ name, code, stdout, stderr }).toEqual({ name, code: 0, stdout: "ok\n", stderr: "" });
  }
});

describe("a handler for SIGSEGV, on two nodes", () => {
  test.each(["before", "after", "handing-on", "default"])("set %s joining gets no store", async (when) => {
    const options = { session: cluster.session(), nodes: ["a", "b"], size: "64KiB" };
    const said = await cluster.runWell([cluster.program("signals_handler"), when], options);
    expect(said).toEqual(["rank 0 stored 5\n", "rank 1 stored 5\n"]);
  });
});

test("a program that loads libdsm late, with masks and handlers set before it joins", async () => {
  const program = join(cluster.folder, "loaded");
  const made = await cluster.command([
    ...["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", `-I${ROOT}/native/include`],
    ...[join(ROOT, "test/e2e/programs/signals_loaded.c"), "-o", program, "-ldl"],
  ]);
  expect(made).toMatchObject({ code: 0, stderr: "" });
  const [said] = await cluster.runWell([program, LIBRARY], {
    ...{ session: cluster.session(), nodes: ["a"], size: "64KiB", environment: TRAPS },
  });
  expect(said).toBe("ok\n");
});

describe("an elastic session leaves direct mode", () => {
  test.each([
    ["", []],
    [LIBRARY, []],
    ["", ["unseen"]],
  ] as const)("and a handler set meanwhile does not get the stores, LD_PRELOAD=%s %s", async (preload, words) => {
    const session = cluster.session();
    const common = { session, size: "64KiB", environment: { DSM_ELASTIC: "1", LD_PRELOAD: preload } };
    const program = [cluster.program("signals_elastic"), ...words];
    const first = cluster.spawn(program, { ...common, node: "a", processes: 1 });
    await cluster.untilPresent(session, 1);
    const second = cluster.spawn(program, { ...common, node: "b" });
    const [a, b] = await Promise.all([first, second].map((child) => child.exited.then(() => child.stderr.text())));
    expect({ a, b, codes: [first.exitCode, second.exitCode] }).toEqual({ a: "", b: "", codes: [0, 0] });
  });
});

describe("Python", () => {
  const PROGRAM = join(import.meta.dir, "programs/signals.py");
  const PYTHON = { PYTHONPATH: join(ROOT, "native/bindings/python"), DSM_LIBRARY: LIBRARY };

  test.each(["mask", "mask-before", "thread", "child", "faulthandler-before", "faulthandler-after", "default"])(
    "under dsm run: %s",
    async (name) => {
      const { code, stdout, stderr } = await cluster.dsm(["run", "-n1", "--", PROGRAM, name], TRAPS);
      expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "stored 5\n", stderr: "" });
    },
  );

  test("its own fault has faulthandler's report", async () => {
    const { code, stdout, stderr } = await cluster.dsm(["run", "-n1", "--", PROGRAM, "crash"], TRAPS);
    expect({ code, stdout }).toEqual({ code: 128 + 11, stdout: "stored 5\n" });
    expect(stderr).toContain("Fatal Python error: Segmentation fault");
    expect(withoutPids(stderr)).toEndWith("dsm: process 0 (pid N) was ended by SIGSEGV\n");
  });

  /** As examples/reference/limits.md says. */
  test("without dsm run, what was done before joining is seen to, and what is done after is not", async () => {
    const run = async (name: string) => {
      const [outcome] = await cluster.run(["python3", PROGRAM, name], {
        ...{ session: cluster.session(), nodes: ["a"], size: "64KiB" },
        environment: { ...TRAPS, ...PYTHON },
      });
      return outcome;
    };
    for (const name of ["mask-before", "faulthandler-before", "plain"]) {
      expect(await run(name)).toEqual({ code: 0, signal: null, stdout: "stored 5\n", stderr: "" });
    }
    for (const name of ["mask", "thread", "faulthandler-after", "default"]) {
      expect(await run(name)).toMatchObject({ signal: "SIGSEGV", stdout: "" });
    }
  });
});

describe("JavaScript", () => {
  /** WebAssembly checks bounds by SIGSEGV, with handlers that the runtime sets when it sees fit. */
  const script = (module: string): string => `
    const bytes = Uint8Array.from([0,97,115,109,1,0,0,0,1,6,1,96,1,127,1,127,3,2,1,0,5,3,1,0,1,7,5,1,1,102,0,0,10,9,1,7,0,32,0,45,0,0,11]);
    const { f } = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
    const trapped = (at) => { try { f(at); return false; } catch (error) { return error instanceof WebAssembly.RuntimeError; } };
    if (process.argv[2] === "before" && !trapped(1 << 20)) throw new Error("no trap");
    const { join } = await import(${JSON.stringify(module)});
    const session = await join();
    const view = session.view(Int32Array);
    for (let i = 0; i < 1000; i++) {
      if (!trapped(1 << 20) || f(5) !== 0) throw new Error("no trap");
      view[session.rank]++;
    }
    console.log("stored", view[session.rank]);
    await session.leave();
  `;

  test.each(["before", "after"])(
    "WebAssembly's own faults and stores, %s joining, under Bun and Node",
    async (when) => {
      const [onBun, onNode] = ["wasm.ts", "wasm.mjs"].map((name) => join(cluster.folder, name)) as [string, string];
      writeFileSync(onBun, script("dsm"));
      writeFileSync(onNode, script(join(ROOT, "dist/client/index.js")));
      for (const words of [[onBun], [NODE, onNode]]) {
        const { code, stdout, stderr } = await cluster.dsm(["run", "-n1", "--", ...words, when], TRAPS);
        expect({ words, code, stdout, stderr }).toEqual({ words, code: 0, stdout: "stored 1000\n", stderr: "" });
      }
    },
  );
});

describe("the preload of dsm run", () => {
  const variable = async (options: string[], environment: Record<string, string> = {}): Promise<string> => {
    const words = ["run", "-n1", ...options, "--", "sh", "-c", 'echo "$LD_PRELOAD"'];
    const { stdout, stderr } = await cluster.dsm(words, environment);
    expect(stderr).toBe("");
    return stdout.trimEnd();
  };

  test("comes behind what is preloaded already, once, and can be left out", async () => {
    const own = await variable([]);
    expect(own).toMatch(/^\/.*\/libdsm\.so$/);
    expect(await variable([], { LD_PRELOAD: own })).toBe(own);
    expect(await variable([], { LD_PRELOAD: `libm.so.6 ${own}` })).toBe(`libm.so.6 ${own}`);
    expect(await variable([], { LD_PRELOAD: "libm.so.6" })).toBe(`libm.so.6:${own}`);
    expect(await variable(["--no-preload"])).toBe("");
    expect(await variable([], { DSM_PRELOAD: "0", LD_PRELOAD: "libm.so.6" })).toBe("libm.so.6");
  });

  test("a library whose path the loader would split is not preloaded, with a warning", async () => {
    const { stdout, stderr } = await cluster.dsm(["run", "-n1", "--", "sh", "-c", 'echo "$LD_PRELOAD"'], {
      DSM_LIBRARY: "/a b/libdsm.so",
    });
    expect(stdout).toBe("\n");
    expect(stderr).toContain("its path has a space or a colon: /a b/libdsm.so");
  });

  test("scripts, static programs and programs with AddressSanitizer run", async () => {
    const [source, plain, sanitized, still] = ["p.c", "plain", "sanitized", "still"].map((name) =>
      join(cluster.folder, name),
    ) as [string, string, string, string];
    writeFileSync(source, '#include <stdio.h>\nint main(void) { puts("well"); return 0; }\n');
    const programs = { [plain]: [], [sanitized]: ["-fsanitize=address"], [still]: ["-static"] };
    for (const [program, flags] of Object.entries(programs)) {
      expect((await cluster.command(["gcc", source, "-o", program, ...flags])).code).toBe(0);
      for (const words of [[program], ["sh", "-c", program]]) {
        const outcome = await cluster.dsm(["run", "-n1", "--", ...words]);
        expect({ words, ...outcome }).toEqual({ words, code: 0, signal: null, stdout: "well\n", stderr: "" });
      }
    }
  });

  test("a program that is linked with libdsm has two then", async () => {
    const program = cluster.program("signals");
    const { stdout } = await cluster.dsm(["run", "-n1", "--", "sh", "-c", `ldd ${program}`]);
    expect(stdout.match(/libdsm\.so/g)?.length).toBeGreaterThan(1);
  });
});
