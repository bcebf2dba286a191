/** pool.c, against a picture of the map: no block overlaps another, all are aligned, and no byte is lost. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { command, compiler, root } from "../../scripts/steps.ts";

setDefaultTimeout(120_000);

const flags =
  "-std=gnu11 -D_GNU_SOURCE= -O1 -g -Wall -Wextra -Werror -Inative/include -Inative/src -fsanitize=address,undefined";
const folder = await mkdtemp(join(tmpdir(), "dsm-pool-"));
afterAll(() => rm(folder, { recursive: true }));

test("blocks taken and returned at random", async () => {
  const program = join(folder, "pool");
  const files = ["native/src/session/pool.c", "test/native/pool_cases.c", "-o", program];
  await command([compiler(), ...flags.split(" "), "-fno-sanitize-recover=undefined", ...files]);
  for (const seed of ["1", "2", "3"]) {
    const child = Bun.spawn([program, seed, "100000"], { cwd: root, stdout: "pipe", stderr: "pipe" });
    const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    expect({ seed, stdout, stderr }).toEqual({ seed, stdout: "ok\n", stderr: "" });
  }
});
