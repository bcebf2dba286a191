/** Builds and runs the C tests of the advice that a program gets while it runs. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { command, compiler, root } from "../../scripts/steps.ts";

setDefaultTimeout(240_000);

const folder = await mkdtemp(join(tmpdir(), "dsm-native-"));
afterAll(() => rm(folder, { recursive: true }));

const program = join(folder, "advice");
await command([
  ...[compiler(), ..."-std=gnu11 -D_GNU_SOURCE= -O2 -g -Wall -Wextra -Werror".split(" ")],
  ...["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
  ...["-Inative/src", "native/src/session/advice.c", "test/native/advice_cases.c", "-lpthread", "-o", program],
]);
const cases = (await command([program])).trim().split("\n");

test("there are cases", () => expect(cases.length).toBeGreaterThan(5));

for (const each of cases) {
  test(each, async () => {
    const child = Bun.spawn([program, each], { cwd: root, stdout: "pipe", stderr: "pipe" });
    const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    expect({ stdout, stderr, code }).toEqual({ stdout: "ok\n", stderr: "", code: 0 });
  });
}
