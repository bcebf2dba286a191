/** native/bindings/cpp: everything the C++ header offers, in every order and in direct mode. */
import { expect, setDefaultTimeout } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

// A compiler and real processes, on machines that may be busy.
setDefaultTimeout(120_000);

const { afterAll, beforeAll, test } = needs("g++");

let cluster: Cluster;
let program: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  program = join(cluster.folder, "tour");
  const native = join(ROOT, "native");
  const { code, stderr } = await cluster.command([
    ...["g++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", `-I${native}/include`, `-I${native}/bindings/cpp`],
    ...[join(import.meta.dir, "programs/tour.cpp"), "-o", program],
    ...[`-L${native}/build`, "-ldsm", `-Wl,-rpath,${native}/build`],
  ]);
  if (code !== 0) throw new Error(`tour.cpp does not compile:\n${stderr}`);
});
afterAll(() => cluster.close());

test.each([
  ["sequential", ["a", "b", "b"]],
  ["release", ["a", "b", "b"]],
  ["pipelined", ["a", "b", "b"]],
  ["sequential", ["a", "a", "a"]],
])("a tour of dsm.hpp, order %s, nodes %j", async (order, nodes) => {
  const said = await cluster.runWell([program], {
    session: cluster.session(),
    size: "1MiB",
    nodes,
    environment: { DSM_ORDER: order },
  });
  expect(said.join("")).toBe("ok\n");
});

const HEADERS = readdirSync(join(ROOT, "native/bindings/cpp/dsm")).filter((name) => name.endsWith(".hpp"));
const COMPILERS = ["g++", "clang++"].filter((name) => Bun.which(name) !== null);

test.each(COMPILERS)("%s says once what is missing before C++20, and stops", async (compiler) => {
  const native = join(ROOT, "native");
  const compile = (standard: string, path: string) =>
    cluster.command([
      ...[compiler, `-std=${standard}`, "-fsyntax-only", `-I${native}/include`, `-I${native}/bindings/cpp`, path],
    ]);
  expect(HEADERS).toContain("containers.hpp");
  for (const header of HEADERS) {
    const path = join(cluster.folder, "old.cpp");
    writeFileSync(path, `#include <dsm/${header}>\nint main() { dsm::none a; dsm::none b; return c; }\n`);
    for (const standard of ["c++11", "c++17"]) {
      const { code, stderr } = await compile(standard, path);
      const errors = stderr.split("\n").filter((line) => line.includes("error: "));
      expect(code).toBe(1);
      expect(errors).toEqual([
        expect.stringMatching(/error: (#error )?dsm for C\+\+ needs C\+\+20: compile with -std=c\+\+20$/),
        // The end, before what the program makes of it.
        expect.stringMatching(/fatal error: .*stop: compile with -std=c\+\+20/),
      ]);
    }
  }
  for (const standard of ["c++20", "gnu++20"]) {
    expect(await compile(standard, join(ROOT, "examples/words/words.cpp"))).toMatchObject({ code: 0, stderr: "" });
  }
});
