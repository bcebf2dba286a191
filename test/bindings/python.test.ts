/** native/bindings/python: the package in an environment of its own, with NumPy. */
import { expect, setDefaultTimeout } from "bun:test";
import { cpSync, existsSync } from "node:fs";
import { join } from "node:path";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

// A package is installed, and real processes run, on machines that may be busy.
setDefaultTimeout(240_000);

const NUMPY = "numpy>=1.22,<3";
/** Kept between runs. */
const HOME = join(ROOT, "native/build/python");
const PYTHON = join(HOME, "bin/python3");

const { afterAll, beforeAll, test } = needs("python3-venv");

let cluster: Cluster;
const environment = (order: string): Record<string, string> => ({
  DSM_ORDER: order,
  DSM_LIBRARY: join(ROOT, "native/build/libdsm.so"),
  OPENBLAS_NUM_THREADS: "1",
});

beforeAll(async () => {
  cluster = await Cluster.start();
  const commands = [[PYTHON, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]];
  if (!existsSync(join(HOME, "ready"))) {
    commands.unshift(
      ["python3", "-m", "venv", "--clear", HOME],
      [PYTHON, "-m", "pip", "install", "--quiet", NUMPY, "setuptools>=70.1"],
    );
  }
  // A copy: building leaves files beside the sources.
  const copy = join(cluster.folder, "python");
  cpSync(join(ROOT, "native/bindings/python"), copy, { recursive: true });
  commands.at(-1)?.push(copy);
  for (const command of commands) {
    const { code, stderr } = await cluster.command(command, { TMPDIR: cluster.folder });
    if (code !== 0) throw new Error(`${command.join(" ")}:\n${stderr}`);
  }
  await Bun.write(join(HOME, "ready"), "");
});
afterAll(() => cluster.close());

test.each([
  ["sequential", ["a", "b", "b"]],
  ["release", ["a", "b", "b"]],
  ["pipelined", ["a", "b", "b"]],
  ["sequential", ["a", "a", "a"]],
])("a tour of the package, order %s, nodes %j", async (order, nodes) => {
  const said = await cluster.runWell([PYTHON, join(import.meta.dir, "programs/tour.py")], {
    session: cluster.session(),
    size: "1MiB",
    nodes,
    environment: environment(order),
  });
  expect(said.join("")).toBe("ok\n");
});

test("heat.py computes what one process computes", async () => {
  const said = await cluster.runWell(
    [PYTHON, join(ROOT, "examples/heat/heat.py"), "--size=130", "--steps=40", "--check"],
    {
      session: cluster.session(),
      nodes: ["a", "b", "b"],
      environment: environment("release"),
    },
  );
  expect(said.join("")).toContain("the same as the sequential result, byte for byte");
});
