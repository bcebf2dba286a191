/** Bursts: their cases, and generated programs that run in bursts and on plain memory. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { command, compiler, files, root } from "../../scripts/steps.ts";
import { xedKit } from "../../scripts/xed.ts";
import { testCases } from "../support/native-cases.ts";
import { burstPrograms, type Extension } from "./burst-programs.ts";

setDefaultTimeout(240_000);

const SOURCES = ["native/src/trap/*.c", "native/src/burst/*.c", "native/src/base/size.c"];
/** DSM_BURST_SEED runs other programs than those of each run, DSM_BURST_PROGRAMS more of them. */
const SEED = Number(process.env.DSM_BURST_SEED ?? 1);
const PROGRAMS = Number(process.env.DSM_BURST_PROGRAMS ?? 60);
const ROUNDS = 4;

await testCases("bursts", "burst_cases", ...SOURCES);

const flags = "-std=gnu11 -D_GNU_SOURCE= -g -fPIC -fvisibility=hidden -Wall -Wextra -Werror -O2".split(" ");
const processor = await readFile("/proc/cpuinfo", "utf8");
const folder = await mkdtemp(join(tmpdir(), "dsm-burst-"));
afterAll(() => rm(folder, { recursive: true }));

const kit = await xedKit();
const cc = [compiler(), ...flags, `-I${kit}/include`, "-Inative/include", "-Inative/src"];
const runner = join(folder, "runner.o");
await command([
  ...[...cc, "-r", "-nostdlib", ...(await files(...SOURCES)), "test/native/harness.c", "test/native/burst_programs.c"],
  ...["-o", runner],
]);

/** Compiles the programs of a seed. */
async function build(seed: number, extensions: ReadonlySet<Extension>): Promise<string> {
  const path = join(folder, `programs-${seed}-${extensions.size}`);
  await Bun.write(`${path}.S`, burstPrograms(seed, PROGRAMS, extensions));
  await command([...cc, runner, `${path}.S`, `${kit}/lib/libxed.a`, "-lpthread", "-o", path]);
  return path;
}

const levels: [name: string, extensions: Extension[], has: boolean][] = [
  ["SSE2", [], true],
  ["AVX2", ["avx2"], /\bavx2\b.*\bbmi2\b|\bbmi2\b.*\bavx2\b/.test(processor)],
  ["AVX-512", ["avx2", "avx512"], /\bavx512vl\b/.test(processor)],
];

for (const [name, extensions, has] of levels) {
  describe.skipIf(!has)(`generated programs with ${name}`, () => {
    let path = "";
    test("are built", async () => {
      path = await build(SEED, new Set(extensions));
    });

    for (const [rule, strict] of [
      ["sequential", "1"],
      ["pipelined", "0"],
    ] as const) {
      test(`leave what plain memory has, registers, flags and vectors: ${rule}`, async () => {
        const child = Bun.spawn([path, strict, String(ROUNDS)], { cwd: root, stdout: "pipe", stderr: "pipe" });
        const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
        expect({ stderr: stderr && `seed ${SEED}: ${stderr}`, code }).toEqual({ stderr: "", code: 0 });
        const [said, bursts] = stdout.split("\t");
        expect(said).toBe("ok");
        expect(Number.parseInt(bursts as string, 10)).toBeGreaterThan(1000);
      });
    }
  });
}
