/** Programs of C tests in test/native that list their cases: each is built as the library is, and with the sanitizers. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { command, compiler, files, root } from "../../scripts/steps.ts";
import { xedKit } from "../../scripts/xed.ts";

const flags = "-std=gnu11 -D_GNU_SOURCE= -g -fPIC -fvisibility=hidden -Wall -Wextra -Werror".split(" ");
const builds = {
  plain: ["-O2"],
  sanitized: ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
};

/** Declares a test for each case of `test/native/PROGRAM.c`. `sources`: patterns of the files of native/src that it needs. */
export async function testCases(what: string, program: string, ...sources: string[]): Promise<void> {
  const kit = await xedKit();
  const folder = await mkdtemp(join(tmpdir(), "dsm-native-"));
  afterAll(() => rm(folder, { recursive: true }));
  const inputs = [...(await files(...sources)), "test/native/harness.c", `test/native/${program}.c`];
  for (const [name, options] of Object.entries(builds)) {
    const path = join(folder, name);
    await command([
      ...[compiler(), ...flags, ...options, `-I${kit}/include`, "-Inative/include", "-Inative/src"],
      ...[...inputs, `${kit}/lib/libxed.a`, "-lpthread", "-o", path],
    ]);
    const cases = (await command([path])).trim().split("\n");

    describe(`${what}, ${name} build`, () => {
      test("there are cases", () => expect(cases.length).toBeGreaterThan(3));

      for (const each of cases) {
        test(each, async () => {
          // Leaks are not what this is about; the tests' own memory is not freed.
          const env = { ...process.env, ASAN_OPTIONS: "detect_leaks=0" };
          const child = Bun.spawn([path, each], { cwd: root, env, stdout: "pipe", stderr: "pipe" });
          const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
          expect({ stdout, stderr, code }).toEqual({ stdout: "ok\n", stderr: "", code: 0 });
        });
      }
    });
  }
}
