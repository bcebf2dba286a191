/** native/bindings/cpp: everything the C++ header offers, in every order and in direct mode. */
import { expect, setDefaultTimeout } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { outcome } from "../support/e2e-child.ts";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

// A compiler and real processes, on machines that may be busy.
setDefaultTimeout(120_000);

const { afterAll, beforeAll, test } = needs("g++");

let cluster: Cluster;
let program: string;
let objects: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  program = await compile("tour");
  objects = await compile("objects");
});
afterAll(() => cluster.close());

/** Compiles a program of this folder; returns its path. */
async function compile(name: string): Promise<string> {
  const path = join(cluster.folder, name);
  const native = join(ROOT, "native");
  const { code, stderr } = await cluster.command([
    ...["g++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", `-I${native}/include`, `-I${native}/bindings/cpp`],
    ...[join(import.meta.dir, `programs/${name}.cpp`), "-o", path],
    ...[`-L${native}/build`, "-ldsm", "-lpthread", `-Wl,-rpath,${native}/build`],
  ]);
  if (code !== 0) throw new Error(`${name}.cpp does not compile:\n${stderr}`);
  return path;
}

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

test.each([
  ["sequential", ["a", "b", "b"]],
  ["release", ["a", "b"]],
  ["sequential", ["a", "a"]],
])("objects in the map, order %s, nodes %j", async (order, nodes) => {
  const said = await cluster.runWell([objects], {
    ...{ session: cluster.session(), size: "1MiB", nodes },
    environment: { DSM_ORDER: order },
  });
  expect(said.join("")).toBe("ok\n");
});

test("the death of a mutex's owner is an exception, until one thread has restored the data", async () => {
  const session = cluster.session();
  const children = ["a", "b"].map((node, rank) =>
    cluster.spawn([objects, "dies"], {
      ...{ session, rank, processes: 2, node, size: "1MiB" },
      environment: { DSM_ON_LOSS: "continue" },
    }),
  );
  const [survivor, owner] = await Promise.all(children.map(outcome));
  expect(owner).toMatchObject({ signal: "SIGKILL" });
  expect(survivor).toMatchObject({ stdout: "ok\n", stderr: "" });
});

const HEADERS = readdirSync(join(ROOT, "native/bindings/cpp/dsm")).filter((name) => name.endsWith(".hpp"));
const COMPILERS = ["g++", "clang++"].filter((name) => Bun.which(name) !== null);

test.each(COMPILERS)("%s says once what is missing before C++20, and stops", async (compiler) => {
  const native = join(ROOT, "native");
  const check = (standard: string, path: string) =>
    cluster.command([
      ...[compiler, `-std=${standard}`, "-fsyntax-only", `-I${native}/include`, `-I${native}/bindings/cpp`, path],
    ]);
  expect(HEADERS).toContain("containers.hpp");
  for (const header of HEADERS) {
    const path = join(cluster.folder, "old.cpp");
    writeFileSync(path, `#include <dsm/${header}>\nint main() { dsm::none a; dsm::none b; return c; }\n`);
    for (const standard of ["c++11", "c++17"]) {
      const { code, stderr } = await check(standard, path);
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
    expect(await check(standard, join(ROOT, "examples/words/words.cpp"))).toMatchObject({ code: 0, stderr: "" });
  }
});
