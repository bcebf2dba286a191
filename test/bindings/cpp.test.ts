/** native/bindings/cpp: everything the C++ header offers, in every order and in direct mode. */
import { expect, setDefaultTimeout } from "bun:test";
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
