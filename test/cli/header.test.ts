/** `dsm header`: the compiler agrees with every layout, and C and TypeScript work on one struct of one session. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { cHeader } from "../../src/core/layout/c-header.ts";
import {
  bool,
  dsmBarrier,
  dsmCond,
  dsmMutex,
  dsmRwlock,
  dsmSemaphore,
  type Field,
  f32,
  f64,
  i8,
  i16,
  i32,
  i64,
  mutex,
  struct,
  u8,
  u16,
  u32,
  u64,
  utf8,
} from "../../src/core/layout/struct.ts";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const NATIVE = join(ROOT, "native");
const STRICT = ["-O2", "-Wall", "-Wextra", "-Werror", `-I${NATIVE}/include`];

/** Compiles a C program that includes what lies in the cluster's folder. */
async function compile(source: string, name: string): Promise<string> {
  const program = join(cluster.folder, name);
  const { code, stderr } = await cluster.command([
    ...["gcc", ...STRICT, `-I${cluster.folder}`, source, "-o", program],
    ...[`-L${NATIVE}/build`, "-ldsm", "-lm", `-Wl,-rpath,${NATIVE}/build`],
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return program;
}

function write(name: string, text: string): string {
  const path = join(cluster.folder, name);
  writeFileSync(path, text);
  return path;
}

/** A header with the C structs of 200 definitions. */
function headerOfMany(): string {
  const scalars = [i8, i16, i32, i64, u8, u16, u32, u64, f32, f64, bool];
  const objects = [dsmMutex, dsmRwlock, dsmCond, dsmSemaphore, dsmBarrier];
  const { field } = fc.letrec<{ field: Field }>((tie) => {
    const fields = fc.array(tie("field"), { minLength: 1, maxLength: 5 }).map((list) => ({
      ...Object.fromEntries(list.map((one, i) => [`m${i}`, one])),
      end: u8,
    }));
    return {
      field: fc.oneof(
        { maxDepth: 3, depthIdentifier: "struct" },
        fc.constantFrom<Field>(...scalars, mutex, utf8(2), utf8(7)),
        fc.constantFrom<Field>(...objects, ...objects.map((one) => one.array(2))),
        fc.tuple(fc.constantFrom(...scalars), fc.integer({ min: 1, max: 9 })).map(([one, n]) => one.array(n)),
        fc.tuple(fc.constantFrom(...scalars), fc.integer({ min: 1, max: 3 })).map(([one, n]) => one.array(n, 3, 2)),
        fields,
        fields.map((inner) => struct(inner).array(3)),
      ),
    };
  });
  const made = fc.sample(fc.array(field, { minLength: 1, maxLength: 8 }), { numRuns: 200, seed: 20_261_123 });
  const structs = new Map(
    made.map((list, n) => [`s${n}`, struct({ ...Object.fromEntries(list.map((one, i) => [`f${i}`, one])), last: u8 })]),
  );
  const header = cHeader(structs, "ALL_H", "a test");
  expect(header.match(/static_assert/g)?.length).toBeGreaterThan(2000);
  return header;
}

const check = (...words: string[]) => cluster.command([...words, ...STRICT, "-fsyntax-only"]);

test("gcc finds every field of any struct where the definition says", async () => {
  const header = headerOfMany();
  expect(await check("gcc", "-std=gnu11", write("all.c", header))).toMatchObject({ code: 0, stderr: "" });
  // And it is the compiler that finds it: a byte elsewhere is seen.
  const wrong = header.replace(/(offsetof\(s7, last\) == )\d+/, "$199999");
  expect(wrong).not.toBe(header);
  const { code, stderr } = await check("gcc", write("wrong.c", wrong));
  expect({ code, said: stderr.includes("last of s7") }).toEqual({ code: 1, said: true });
});

needs("g++").test("g++ finds every field of any struct where the definition says", async () => {
  const source = write("all.cpp", headerOfMany());
  expect(await check("g++", "-std=c++17", source)).toMatchObject({ code: 0, stderr: "" });
});

const DEFINITION = `
import { bool, f32, f64, i16, i32, i64, mutex, struct, u8, u64, utf8 } from "dsm";
console.log("a module may print");
setInterval(() => {}, 1000);
export const point = struct({ x: f64, tag: u8 });
export const state = struct({
  tiny: u8, turn: i32, sum: f64, small: i16, big: i64, wide: u64, yes: bool, single: f32,
  grid: f32.array(3, 4), name: utf8(10), lock: mutex, at: point, points: point.array(2), deep: { a: u8, b: { c: i64 } },
});
export const other = 5;
`;

test("a C and a TypeScript program read what the other has written, in every order", async () => {
  const definition = write("state.ts", DEFINITION);
  const header = join(cluster.folder, "state.h");
  const said = await cluster.dsm(["header", definition, "--out", header]);
  expect(said).toEqual({ ...said, code: 0, stdout: "", stderr: "a module may print\n" });
  const peer = await compile(
    write(
      "peer.c",
      `#include <string.h>
#include "state.h"
#define MUST(what) do { int status = (what); if (status != DSM_OK) { fprintf(stderr, "%s: %d %s\\n", #what, status, dsm_last_error()); return 1; } } while (0)
int main(void) {
  dsm_session *session; state *s;
  MUST(dsm_open(NULL, &session));
  MUST(state_named(session, "state", &s));
  MUST(dsm_barrier_wait(session)); /* TypeScript has written */
  printf("%d %d %g %d %lld %llu %d %g %g %s %g/%d %g/%d %d %lld\\n", s->tiny, s->turn, s->sum, s->small, (long long)s->big,
         (unsigned long long)s->wide, s->yes, s->single, s->grid[2][3], s->name, s->at.x, s->at.tag, s->points[1].x,
         s->points[1].tag, s->deep.a, (long long)s->deep.b.c);
  MUST(dsm_barrier_wait(session));
  s->tiny = 9; s->turn = -10; s->sum = 11.5; s->small = -12; s->big = -13; s->wide = ~0ull; s->yes = false;
  s->single = 14.5; s->grid[1][2] = 15; strcpy(s->name, "C"); s->at.x = 16; s->at.tag = 17; s->points[0].x = 18;
  s->points[0].tag = 19; s->deep.a = 20; s->deep.b.c = 21;
  MUST(dsm_barrier_wait(session));
  for (int i = 0; i < 50; i++) {
    MUST(dsm_lock(session, state_lock("state")));
    s->sum += 1;
    MUST(dsm_unlock(session, state_lock("state")));
    __atomic_fetch_add(&s->turn, 1, __ATOMIC_SEQ_CST);
  }
  MUST(dsm_barrier_wait(session));
  MUST(dsm_close(session));
  return 0;
}
`,
    ),
    "peer",
  );
  const script = write(
    "peer.ts",
    `import { join } from "dsm";
import { state } from "./definition.ts";
await using session = await join();
const s = session.struct("state", state);
Object.assign(s, { tiny: 1, turn: 2, sum: 3.5, small: -4, big: -5n, wide: 2n ** 63n, yes: true, single: 0.25, name: "Grün" });
s.grid[11] = 6.5;
s.at.x = 7; s.at.tag = 8; s.points[1].x = 9; s.points[1].tag = 10; s.deep.a = 11; s.deep.b.c = -12n;
for (let i = 0; i < 3; i++) await session.barrier();
for (let i = 0; i < 50; i++) {
  await s.lock.use(() => { s.sum += 1; });
  s.$atomic.turn.add(1);
}
await session.barrier();
console.log(s.tiny, s.turn, s.sum, s.small, s.big, s.wide, s.yes, s.single, s.grid.row(1)[2], s.name, s.at.x, s.at.tag, s.points[0].x, s.points[0].tag, s.deep.a, s.deep.b.c);
`,
  );
  write("definition.ts", DEFINITION.replace(/console.*\n.*\n/, ""));
  for (const [order, nodes] of [
    ["sequential", ["a", "b"]],
    ["release", ["a", "b"]],
    ["pipelined", ["a", "b"]],
    ["sequential", ["a", "a"]],
  ] as const) {
    const session = cluster.session();
    const environment = { DSM_ORDER: order, DSM_LIBRARY: join(NATIVE, "build/libdsm.so") };
    const children = [
      [process.execPath, "--no-install", "--preload", join(ROOT, "src/client/preload.ts"), script],
      [peer],
    ].map((command, i) => cluster.spawn(command, { session, processes: 2, node: nodes[i] as string, environment }));
    const outcomes = await Promise.all(
      children.map(async (child) => {
        const code = await child.exited;
        if (code !== 0) for (const other of children) other.kill();
        return [code, await child.stderr.text(), await child.stdout.text()];
      }),
    );
    expect(outcomes).toEqual([
      [0, "", "9 90 111.5 -12 -13n 18446744073709551615n false 14.5 15 C 16 17 18 19 20 21n\n"],
      [0, "", "1 2 3.5 -4 -5 9223372036854775808 1 0.25 6.5 Grün 7/8 9/10 11 -12\n"],
    ]);
  }
});

test("a C program with another header gets an error", async () => {
  const definition = write(
    "other.ts",
    'import { i32, struct } from "dsm";\nexport const pair = struct({ a: i32, b: i32 });\n',
  );
  expect((await cluster.dsm(["header", definition, "--out", join(cluster.folder, "other.h")])).code).toBe(0);
  const text = readFileSync(join(cluster.folder, "other.h"), "utf8");
  write(
    "changed.h",
    text.replace(/pair_LAYOUT UINT64_C\(0x./, (found) => `${found.slice(0, -1)}${found.endsWith("1") ? 2 : 1}`),
  );
  const source = (header: string) => `#include "${header}"
int main(void) {
  dsm_session *session; pair *p;
  if (dsm_open(NULL, &session) != DSM_OK) return 99;
  if (dsm_rank(session) == 1) dsm_barrier_wait(session);
  int status = pair_named(session, "pair", &p);
  if (dsm_rank(session) == 0) dsm_barrier_wait(session);
  printf("%s\\n", dsm_status_name(status));
  return dsm_close(session);
}
`;
  const first = await compile(write("first.c", source("other.h")), "first");
  const second = await compile(write("second.c", source("changed.h")), "second");
  const session = cluster.session();
  const said = await Promise.all(
    [first, second].map((program, rank) => cluster.spawn([program], { session, processes: 2, rank }).stdout.text()),
  );
  expect(said).toEqual(["DSM_OK\n", "DSM_MISMATCH\n"]);
});

test("the example's processes, in TypeScript and in C", async () => {
  const example = join(ROOT, "examples/struct");
  const said = await cluster.dsm(["header", join(example, "state.ts"), "--out", join(cluster.folder, "state.h")]);
  expect(said).toMatchObject({ code: 0, stderr: "" });
  const program = await compile(join(example, "struct.c"), "struct");
  for (const [command, language] of [
    [[join(example, "struct.ts"), "20000"], "TypeScript"],
    [[program, "20000"], "C"],
  ] as const) {
    const { code, stdout, stderr } = await cluster.dsm(["run", "-n3", "--nodes=2", "--", ...command]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const lines = stdout.trimEnd().split("\n");
    expect(lines.slice(0, 3)).toEqual([0, 1, 2].map((rank) => `rank ${rank}, in ${language}: 20000 darts`));
    const [, all, closest] =
      /^pi is about (\d\.\d{6}); alone, rank [0-2] came closest: (\d\.\d{6})$/.exec(lines[3] as string) ?? [];
    // Eight standard deviations.
    expect(Math.abs(Number(all) - Math.PI)).toBeLessThan(0.055);
    expect(Math.abs(Number(closest) - Math.PI)).toBeLessThan(0.095);
  }
});

test("prints, takes one export with its dependencies, and names faults", async () => {
  const definition = write("both.ts", `${DEFINITION}export const alone = struct({ a: u8 });\nexport default alone;\n`);
  const all = await cluster.dsm(["header", definition]);
  expect(all.code).toBe(0);
  expect([...all.stdout.matchAll(/^typedef struct (\w+)/gm)].map((match) => match[1])).toEqual([
    "alone",
    "point",
    "state",
  ]);
  expect(all.stdout).toStartWith("/* Made from both.ts by `dsm header`.");
  const one = await cluster.dsm(["header", definition, "--export", "alone"]);
  expect([...one.stdout.matchAll(/^typedef struct (\w+)/gm)].map((match) => match[1])).toEqual(["alone"]);
  const inner = await cluster.dsm(["header", definition, "--export", "state"]);
  expect(inner.stdout).toContain("  struct {\n    double x;\n    uint8_t tag;\n  } points[2];\n");

  const keyword = 'import { struct, u8 } from "dsm";\nexport const wrong = struct({ a: { class: u8 } });\n';
  for (const [args, code, message] of [
    [[], 2, "FILE is missing"],
    [[join(cluster.folder, "missing.ts")], 1, "there is no module"],
    [[definition, "--export", "point2"], 1, 'both.ts exports no struct "point2"; it has alone, both, point, state'],
    [[write("none.ts", "export const a = 1;\n")], 1, "none.ts exports no struct; write: export const state"],
    [[write("keyword.ts", keyword)], 1, "field wrong.a.class cannot have that name in C and C++"],
    [[write("broken.ts", "export const = 1;\n")], 1, "broken.ts"],
    [
      [definition, "--out", join(cluster.folder, "no/such.h")],
      1,
      "no/such.h cannot be written: ENOENT: no such file or directory\n",
    ],
  ] as const) {
    const said = await cluster.dsm(["header", ...args]);
    expect({ code: said.code, stdout: said.stdout }).toEqual({ code, stdout: "" });
    expect(said.stderr).toContain(message);
  }
  expect(existsSync(join(cluster.folder, "no"))).toBe(false);
});
