/** Builds and runs the C tests of memcpy() and its relatives, once as the library is built and once with the sanitizers. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { command, compiler, files, root } from "../../scripts/steps.ts";
import { xedKit } from "../../scripts/xed.ts";

setDefaultTimeout(240_000);

const sources = await files(
  "native/src/trap/*.c",
  "native/src/base/size.c",
  "native/src/interpose/{scratch,buffers,store_to_map,memory_calls}.c",
);
const flags = "-std=gnu11 -D_GNU_SOURCE= -g -fPIC -fvisibility=hidden -Wall -Wextra -Werror".split(" ");
const builds = {
  plain: ["-O2"],
  sanitized: ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
};

const kit = await xedKit();
const folder = await mkdtemp(join(tmpdir(), "dsm-native-"));
afterAll(() => rm(folder, { recursive: true }));

for (const [name, options] of Object.entries(builds)) {
  const program = join(folder, name);
  await command([
    ...[compiler(), ...flags, ...options, `-I${kit}/include`, "-Inative/include", "-Inative/src"],
    ...[...sources, "test/native/harness.c", "test/native/memory_calls_cases.c"],
    ...[`${kit}/lib/libxed.a`, "-lpthread", "-o", program],
  ]);
  const cases = (await command([program])).trim().split("\n");

  describe(`copying into the map, ${name} build`, () => {
    test("there are cases", () => expect(cases.length).toBeGreaterThan(3));

    for (const each of cases) {
      test(each, async () => {
        // Leaks are not what this is about; the tests' own memory is not freed.
        const env = { ...process.env, ASAN_OPTIONS: "detect_leaks=0" };
        const child = Bun.spawn([program, each], { cwd: root, env, stdout: "pipe", stderr: "pipe" });
        const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
        expect({ stdout, stderr, code }).toEqual({ stdout: "ok\n", stderr: "", code: 0 });
      });
    }
  });
}
