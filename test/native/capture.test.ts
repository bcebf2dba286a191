/** Builds and runs the C tests of store capture, once as the library is built and once with the sanitizers. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { command, compiler, files, root } from "../../scripts/steps.ts";
import { xedKit } from "../../scripts/xed.ts";

const sources = await files("native/src/trap/*.c", "native/src/base/size.c");
const flags = "-std=gnu11 -D_GNU_SOURCE= -g -fPIC -fvisibility=hidden -Wall -Wextra -Werror".split(" ");
const builds = {
  plain: ["-O2"],
  // An instrumented handler needs more stack than the 8 KiB the plain build is tested with.
  sanitized: ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-DALT_STACK=262144u"],
};
const programs = ["capture_rows", "capture_cases"] as const;

const kit = await xedKit();
const folder = await mkdtemp(join(tmpdir(), "dsm-native-"));
afterAll(() => rm(folder, { recursive: true }));

/** Compiles the programs of one build and returns the folder they are in. */
async function build(name: keyof typeof builds): Promise<string> {
  const out = join(folder, name);
  const cc = [compiler(), ...flags, ...builds[name], `-I${kit}/include`, "-Inative/include", "-Inative/src"];
  const objects = [];
  for (const source of [...sources, "test/native/harness.c"]) {
    const object = `${out}-${source.replaceAll("/", "-")}.o`;
    await command([...cc, "-c", source, "-o", object]);
    objects.push(object);
  }
  for (const program of programs) {
    const libraries = [`${kit}/lib/libxed.a`, "-lpthread"];
    await command([...cc, `test/native/${program}.c`, ...objects, ...libraries, "-o", `${out}-${program}`]);
  }
  return out;
}

interface Run {
  stdout: string;
  stderr: string;
  signal: string | undefined;
  exitCode: number | null;
}

async function run(program: string, ...args: string[]): Promise<Run> {
  const child = Bun.spawn([program, ...args], { cwd: root, stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, signal: child.signalCode?.toString(), exitCode: child.exitCode };
}

/** How each case that is meant to end its process does so, and what it says before. */
const deaths: Record<string, { signal: string; says: RegExp }> = {
  "dies-wild": { signal: "SIGSEGV", says: /^$/ },
  "dies-sent": { signal: "SIGSEGV", says: /^$/ },
  "dies-breakpoint": { signal: "SIGTRAP", says: /^$/ },
  "dies-left": { signal: "SIGSEGV", says: /^dsm: store to the map of a session this process has left\n$/ },
  "dies-copyless": { signal: "SIGSEGV", says: /^dsm: store to the map of a session this process has left\n$/ },
  "dies-edge": {
    signal: "SIGSEGV",
    says: /^dsm: fault of the store to 0x\w+ by the instruction at 0x\w+ \(bytes( \w\w)+\): it goes on behind the end of the map; start the session with a larger --size \(DSM_SIZE\)\n$/,
  },
  "dies-sink": { signal: "SIGBUS", says: /^$/ },
  "dies-sink-step": { signal: "SIGBUS", says: /^$/ },
  "dies-unsupported": {
    signal: "SIGSEGV",
    says: /^dsm: cannot capture the store to 0x\w+ .*: enter with 16-bit operands\n$/,
  },
};

/** What cases say that go on. */
const notes: Record<string, string> = {
  "late-stores": "dsm: store to the map of a session this process has left: it changes the copy in this process only\n",
};

for (const name of Object.keys(builds) as (keyof typeof builds)[]) {
  const out = await build(name);
  const rows = await run(`${out}-capture_rows`);
  const lines = rows.stdout.split("\n").map((line) => line.split("\t"));
  const groups = new Set(lines.filter((line) => line.length > 2).map((line) => line[1]!));

  describe(`every store instruction, ${name} build`, () => {
    for (const group of groups) {
      test(group, () => {
        const ours = lines.filter((line) => line[1] === group);
        const failed = ours.filter((line) => line[0] === "not ok");
        const skipped = ours.filter((line) => line[0] === "skip");
        for (const line of skipped) console.log(`skipped: ${line[2]}: ${line[3]}`);
        expect(failed.map((line) => `${line[2]}: ${line[3]}`)).toEqual([]);
      });
    }

    test("the table was run to its end", () => {
      expect(rows.stderr).toBe("");
      expect(rows.signal).toBeUndefined();
      const total = lines.find((line) => line[0] === "total")?.[1] ?? "";
      expect(total).toMatch(/^\d+ ok, 0 not ok, \d+ skipped/);
      // A processor with nothing but SSE2 and XSAVE still runs this many.
      expect(Number.parseInt(total, 10)).toBeGreaterThan(500);
      expect(rows.exitCode).toBe(0);
    });
  });

  const names = (await run(`${out}-capture_cases`)).stdout.trim().split("\n");
  describe(`behaviour, ${name} build`, () => {
    for (const each of names) {
      const death = deaths[each];
      if (death === undefined) {
        test(each, async () => {
          expect(await run(`${out}-capture_cases`, each)).toEqual({
            stdout: "ok\n",
            stderr: notes[each] ?? "",
            signal: undefined,
            exitCode: 0,
          });
        });
      } else if (name === "plain") {
        // A sanitizer has its own handler in front of the default action.
        test(each, async () => {
          const { stderr, stdout, signal } = await run(`${out}-capture_cases`, each);
          expect({ stdout, signal }).toEqual({ stdout: "", signal: death.signal });
          expect(stderr).toMatch(death.says);
        });
      }
    }

    test("there are the cases this file knows", () => {
      expect(names.filter((each) => each.startsWith("dies-")).sort()).toEqual(Object.keys(deaths).sort());
    });
  });
}
