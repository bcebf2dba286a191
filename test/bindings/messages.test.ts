/** Errors of the map's size are worded once, in libdsm: every language says the same. */
import { expect, setDefaultTimeout } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

// Compilers and real processes, on machines that may be busy.
setDefaultTimeout(120_000);

const { afterAll, beforeAll, test } = needs("g++");

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterAll(() => cluster.close());

/** Each prints the messages of: another size of a named block, a block that is too large, and a map that is full. */
const PROGRAMS: Record<string, string> = {
  "said.c": `#include <dsm/dsm.h>
#include <stdio.h>
int main(void) {
  dsm_session *session;
  void *block;
  if (dsm_open(NULL, &session) != DSM_OK || dsm_named(session, "grid", 4096, &block) != DSM_OK) return 1;
  if (dsm_named(session, "grid", 8192, &block) == DSM_MISMATCH) puts(dsm_last_error());
  if (dsm_named(session, "large", 70000, &block) == DSM_NO_MEMORY) puts(dsm_last_error());
  if (dsm_alloc(session, 65536, 16, &block) == DSM_NO_MEMORY) puts(dsm_last_error());
  return dsm_close(session);
}
`,
  "said.cpp": `#include <dsm/dsm.hpp>
#include <cstdio>
int main() {
  dsm::session session;
  session.named<double>("grid", 512);
  auto say = [](int code, auto call) {
    try {
      call();
    } catch (const dsm::error &error) {
      if (error.code() == code) std::puts(dsm_last_error());
    }
  };
  say(DSM_MISMATCH, [&] { session.named<double>("grid", 1024); });
  say(DSM_NO_MEMORY, [&] { session.named<char>("large", 70000); });
  say(DSM_NO_MEMORY, [&] { session.alloc<char>(65536); });
}
`,
  "said.py": `import dsm
with dsm.join() as session:
    session.named("grid", 4096)
    for code, call in (
        ("DSM_MISMATCH", lambda: session.named("grid", 8192)),
        ("DSM_NO_MEMORY", lambda: session.named("large", 70000)),
        ("DSM_NO_MEMORY", lambda: session.alloc(65536)),
    ):
        try:
            call()
        except dsm.Error as error:
            if error.code == code:
                print(error)
`,
  "said.ts": `import { join } from "dsm";
const session = await join();
session.named("grid", 4096);
for (const [code, call] of [
  ["DSM_MISMATCH", () => session.named("grid", Float64Array, 1024)],
  ["DSM_NO_MEMORY", () => session.named("large", 70_000)],
  ["DSM_NO_MEMORY", () => session.alloc(65_536)],
]) {
  try {
    call();
  } catch (error) {
    if (error.code === code) console.log(error.message);
  }
}
await session.leave();
`,
};

/** The program as one process of a session of 64 KiB. */
async function run(path: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return cluster.dsm(["run", "-n", "1", "--size", "64KiB", "--session", "said", "--", path]);
}

test.each(Object.keys(PROGRAMS))("%s", async (name) => {
  const source = join(cluster.folder, name);
  writeFileSync(source, PROGRAMS[name] as string);
  let program = source;
  if (/\.c(pp)?$/.test(name)) {
    const native = join(ROOT, "native");
    const compiler = name.endsWith(".c") ? ["gcc"] : ["g++", "-std=c++20"];
    program = join(cluster.folder, name.replace(".", "_"));
    const made = await cluster.command([
      ...[...compiler, "-Wall", "-Wextra", `-I${native}/include`, `-I${native}/bindings/cpp`, source, "-o", program],
      ...[`-L${native}/build`, "-ldsm", `-Wl,-rpath,${native}/build`],
    ]);
    expect(made).toMatchObject({ code: 0, stderr: "" });
  }
  const { code, stdout, stderr } = await run(program);
  expect([code, stderr]).toEqual([0, ""]);
  const advice = (least: string, tried: string): string =>
    `give the map at least ${least}; try --size ${tried} (DSM_SIZE=${tried})`;
  expect(stdout.trim().split("\n")).toEqual([
    'block "grid" has 4096 bytes in session "said", not 8192; give all processes the same size',
    `a block of 70000 bytes does not fit in the map of 65536 bytes of session "said"; ${advice("69KiB", "128KiB")}`,
    `no gap of 65536 bytes is left in the map of 65536 bytes of session "said"; free blocks, or ${advice("68KiB", "256KiB")}`,
  ]);
});

test("TypeScript names types with the right article", async () => {
  const path = join(cluster.folder, "articles.ts");
  writeFileSync(
    path,
    `import { join } from "dsm";
const session = await join();
for (const type of [Int8Array, Int32Array, Uint16Array, Float64Array, BigInt64Array, BigUint64Array, DataView]) {
  for (const call of [() => session.view(type, 1), () => session.view(type, 0, -1), () => session.alloc(type, 1, { align: 1 })]) {
    try {
      call();
    } catch (error) {
      console.log(/\\ban? \\w+(?:Array|View)\\b/.exec(error.message)[0]);
    }
  }
}
await session.leave();
`,
  );
  const { stdout, stderr } = await run(path);
  expect(stderr).toBe("");
  expect([...new Set(stdout.trim().split("\n"))]).toEqual([
    ...["an Int8Array", "an Int32Array", "a Uint16Array", "a Float64Array"],
    ...["a BigInt64Array", "a BigUint64Array", "a DataView"],
  ]);
});
