/** native/bindings/python: the package in an environment of its own, with NumPy. */
import { expect, setDefaultTimeout } from "bun:test";
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

// A package is installed, and real processes run, on machines that may be busy.
setDefaultTimeout(240_000);

const NUMPY = "numpy>=1.22,<3";
/** Kept between runs. */
const HOME = join(ROOT, "native/build/python");
const PYTHON = join(HOME, "bin/python3");
const SOURCES = join(ROOT, "native/bindings/python");

const { afterAll, beforeAll, describe, test } = needs("python3-venv");

let cluster: Cluster;
const environment = (order: string): Record<string, string> => ({
  DSM_ORDER: order,
  DSM_LIBRARY: join(ROOT, "native/build/libdsm.so"),
  OPENBLAS_NUM_THREADS: "1",
});

beforeAll(async () => {
  cluster = await Cluster.start();
  // From the checkout itself: installing leaves nothing there, and asks no network.
  const commands = [[PYTHON, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", SOURCES]];
  if (!existsSync(join(HOME, "ready"))) {
    commands.unshift(["python3", "-m", "venv", "--clear", HOME], [PYTHON, "-m", "pip", "install", "--quiet", NUMPY]);
  }
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

/** What libdsm says once, when a store comes after leaving. */
const LATE = "dsm: store to the map of a session this process has left: it changes the copy in this process only\n";

test.each([
  ["sequential", "0"],
  ["release", "0"],
  ["pipelined", "0"],
  ["sequential", "1"],
])("errors, timeouts, descriptions, reading, joining twice and leaving, order %s, direct %s", async (order, direct) => {
  const run = ["run", "-n1", `--order=${order}`, "--", PYTHON, join(import.meta.dir, "programs/behaviour.py")];
  const said = await cluster.dsm(run, { ...environment(order), DSM_DIRECT: direct });
  // A process that has been in several sessions may hear it of more than one.
  expect(said.stderr.replaceAll(LATE, "")).toBe("");
  expect(said.stderr).toContain(LATE);
  expect(said).toMatchObject({ code: 0, stdout: "ok\n" });
});

describe("installing", () => {
  /** Says which library the package takes, and joins a session with it. */
  const WHICH = `
import dsm, sys
print(dsm._library.load()._name)
dsm.join("which", processes=1, size=4096).leave()`;

  const run = (python: string, path: string, library = "", folders = "/usr/bin:/bin") =>
    cluster.command(["env", "-u", "DSM_BIN", `PATH=${folders}`, python, "-B", "-c", WHICH], {
      ...{ DSM_LIBRARY: library, PYTHONPATH: path },
    });

  test("leaves nothing in the sources", async () => {
    const tree = (): string[] =>
      (readdirSync(SOURCES, { recursive: true }) as string[])
        .filter((path) => !path.startsWith("dsm/__pycache__"))
        .sort();
    const before = tree();
    expect(before).toContain("dsm/py.typed");
    const target = join(cluster.folder, "target");
    for (const words of [
      ["--target", target],
      ["--target", join(cluster.folder, "editable"), "--editable"],
    ]) {
      const pip = [PYTHON, "-m", "pip", "install", "--quiet", "--no-index", ...words, SOURCES];
      expect(await cluster.command(pip)).toMatchObject({ code: 0, stdout: "", stderr: "" });
      expect(tree()).toEqual(before);
    }
    expect(readdirSync(join(target, "dsm"))).toEqual(expect.arrayContaining(["__init__.py", "py.typed"]));
    const sdist = `import wheel_backend as b; print(b.build_sdist(${JSON.stringify(cluster.folder)}))`;
    const made = await cluster.command([PYTHON, "-B", "-c", sdist], { PYTHONPATH: SOURCES });
    expect(made).toMatchObject({ code: 0, stdout: "dsm-0.1.0.tar.gz\n" });
    const again = [PYTHON, "-m", "pip", "install", "--quiet", "--no-index", "--target", join(cluster.folder, "again")];
    expect(await cluster.command([...again, join(cluster.folder, "dsm-0.1.0.tar.gz")])).toMatchObject({ code: 0 });
  });

  test("finds the library of the checkout, of a prefix, or beside the command", async () => {
    const build = join(ROOT, "native/build/libdsm.so");
    expect(await run(PYTHON, "")).toMatchObject({ code: 0, stdout: `${build}\n` });
    expect(await run("/usr/bin/python3", SOURCES)).toMatchObject({ code: 0, stdout: `${build}\n` });
    const prefix = join(cluster.folder, "prefix");
    expect(await cluster.dsm(["install", "--prefix", prefix])).toMatchObject({ code: 0 });
    const library = join(prefix, "lib/libdsm.so.0");
    const share = join(prefix, "share/dsm/python");
    expect(await run("/usr/bin/python3", share)).toMatchObject({ code: 0, stdout: `${library}\n` });
    const target = join(cluster.folder, "from prefix");
    const pip = [PYTHON, "-m", "pip", "install", "--quiet", "--no-index", "--target", target, share];
    expect(await cluster.command(pip)).toMatchObject({ code: 0, stderr: "" });
    expect(readdirSync(share).sort()).toEqual(["dsm", "pyproject.toml", "wheel_backend.py"]);
    expect(await run("/usr/bin/python3", target)).toMatchObject({ code: 0, stdout: `${library}\n` });
    // A package that lies alone has the command in the PATH.
    const alone = join(cluster.folder, "alone");
    mkdirSync(alone);
    cpSync(join(SOURCES, "dsm"), join(alone, "dsm"), { recursive: true });
    const said = await run("/usr/bin/python3", alone, "", `${join(prefix, "bin")}:/usr/bin:/bin`);
    expect(said).toMatchObject({ code: 0, stdout: `${library}\n` });
    rmSync(prefix, { recursive: true });
  });

  test("says what to do where there is none, or one of another version", async () => {
    const alone = join(cluster.folder, "lonely");
    mkdirSync(alone);
    cpSync(join(SOURCES, "dsm"), join(alone, "dsm"), { recursive: true });
    const none = await run("/usr/bin/python3", alone);
    expect(none.code).toBe(1);
    expect(none.stderr).toMatch(
      /dsm\.Error: cannot find libdsm: run `dsm install`, or build the checkout .*, or set DSM_LIBRARY/,
    );
    const other = await run("/usr/bin/python3", alone, "libm.so.6");
    expect(other.stderr).toContain(
      "dsm.Error: libm.so.6 has no dsm_config_init: it is of another version than the Python",
    );
    const missing = await run("/usr/bin/python3", alone, "/nowhere/libdsm.so");
    expect(missing.stderr).toMatch(
      /dsm\.Error: cannot load \/nowhere\/libdsm.so .*; set DSM_LIBRARY to the path of libdsm.so.0/,
    );
  });
});
