/** The npm packages, installed with Node alone: no network, no compiler, an empty cache. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../scripts/steps.ts";
import { Place } from "../cli/dsm.ts";

// They start real processes, and write and read 100 MB, on machines that may be busy.
setDefaultTimeout(120_000);

const HELLO = `import { join, type Session } from "dsm";

await using session: Session = await join();
const sum: Int32Array = session.view(Int32Array, 0, 1);
Atomics.add(sum, 0, session.rank + 1);
await session.barrier();
if (session.rank === 0) console.log("hello", sum[0], process.argv.slice(2).join());
`;

const place = new Place();
const project = join(place.folder, "project");
let packages: [main: string, platform: string];
let environment: Record<string, string>;

/** Runs a program in the project, with no other programs in reach than those of a machine with only Node. */
function run(words: string[], more: Record<string, string> = {}): { code: number; out: string; err: string } {
  const env = { ...environment, ...more };
  const { exitCode, stdout, stderr } = Bun.spawnSync(words, { cwd: project, env, stdin: "ignore" });
  return { code: exitCode, out: stdout.toString(), err: stderr.toString() };
}

beforeAll(async () => {
  const programs = join(place.folder, "bin");
  mkdirSync(programs);
  for (const name of ["node", "npm", "npx", "sh", "dirname", "readlink"]) {
    const path = Bun.which(name);
    if (path === null) throw new Error(`${name} is not installed`);
    symlinkSync(path, join(programs, name));
  }
  const { XDG_RUNTIME_DIR, XDG_CACHE_HOME, XDG_CONFIG_HOME, DSM_DAEMON, NO_COLOR } = place.environment;
  environment = {
    ...({ XDG_RUNTIME_DIR, XDG_CACHE_HOME, XDG_CONFIG_HOME, DSM_DAEMON, NO_COLOR } as Record<string, string>),
    PATH: programs,
    HOME: place.folder,
    npm_config_cache: join(place.folder, "npm-cache"),
    npm_config_offline: "true",
    npm_config_audit: "false",
    npm_config_update_notifier: "false",
  };
  mkdirSync(project);
  const folder = join(place.folder, "packages");
  mkdirSync(folder);
  const packed = Bun.spawnSync(["npm", "pack", "--pack-destination", folder], { cwd: root, stdin: "ignore" });
  if (packed.exitCode !== 0) throw new Error(`npm pack failed: ${packed.stderr}`);
  const { version } = manifest(root);
  packages = [join(folder, `dsm-${version}.tgz`), join(folder, `dsm-linux-x64-${version}.tgz`)];
  const installed = run(["npm", "install", ...packages]);
  if (installed.code !== 0) throw new Error(`npm install failed: ${installed.err}${installed.out}`);
  writeFileSync(join(project, "hello.ts"), HELLO);
});

afterAll(() => place.close());

test("npx dsm init says npx dsm run, and that works", () => {
  const { code, out, err } = run(["npx", "dsm", "init", "first", "--language", "ts"]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  expect(out).toEndWith("\n  cd first\n  npx dsm run -n 4 --nodes 2 -- main.ts\n");
  const first = run(["sh", "-ec", "cd first\nnpx dsm run -n 4 --nodes 2 -- main.ts"]);
  expect(first).toMatchObject({ code: 0, out: "4 processes added up to 500000500000\n" });
});

test("npx dsm run starts a program that imports dsm", () => {
  const { code, out, err } = run("npx dsm run -n 2 --nodes 2 -- hello.ts a b".split(" "));
  expect({ code, out, err: code === 0 ? "" : err }).toEqual({ code: 0, out: "hello 3 a,b\n", err: "" });
});

test("arguments and the exit code go through the launcher", () => {
  const dsm = "node_modules/.bin/dsm";
  expect(run([dsm, "--version"])).toEqual({ code: 0, out: `${manifest(root).version}\n`, err: "" });
  expect(run([dsm, "remove", "no such session", "--no-autostart"]).code).toBe(2);
});

test.each([["node"], [process.execPath]])("threads attach, and an error shows the program's line: %s", (runtime) => {
  const source = `import { Worker, isMainThread, workerData } from "node:worker_threads";
import { attach, join } from "dsm";
if (isMainThread) {
  const session = await join();
  const worker = new Worker(new URL(import.meta.url), { workerData: session.handle() });
  await new Promise((resolve) => worker.on("exit", resolve));
  console.log(session.view(Int32Array)[0]);
  await session.barrier({ timeoutMs: -1 }); // here
} else {
  const session = await attach(workerData);
  session.view(Int32Array)[0] = 5;
  await session.leave();
}
`;
  writeFileSync(join(project, "threads.mjs"), source);
  const { code, out, err } = run(["npx", "dsm", "run", "-n1", "--", runtime, "threads.mjs"]);
  expect({ code, out }).toEqual({ code: 1, out: "5\n" });
  const line = source.split("\n").findIndex((text) => text.endsWith("// here"));
  expect(err.split("\n").find((text) => /^ +at /.test(text))).toContain(`threads.mjs:${line + 1}:`);
  expect(err).not.toMatch(/node_modules|sourcemap/);
});

test("a program on a Bun of its own finds the library and the dsm program in the packages", () => {
  const settings = { DSM_SESSION: "own", DSM_PROCESSES: "1", DSM_SIZE: "4096" };
  const { code, out, err } = run([process.execPath, "--no-install", "hello.ts"], settings);
  expect({ code, out, err: code === 0 ? "" : err }).toEqual({ code: 0, out: "hello 1 \n", err: "" });
});

test("so does one on Node", () => {
  writeFileSync(
    join(project, "hello.mjs"),
    HELLO.replace(/, type \w+|: \w+(?= =)/g, "")
      .replace("await using", "const")
      .concat("await session.leave();\n"),
  );
  const { code, out, err } = run("npx dsm run -n 2 --nodes 2 -- node hello.mjs c".split(" "));
  expect({ code, out, err: code === 0 ? "" : err }).toEqual({ code: 0, out: "hello 3 c\n", err: "" });
});

test("the types are there, and need nothing else", () => {
  const options = "--noEmit --strict --pretty false --module nodenext --target esnext --skipLibCheck false".split(" ");
  const check = (text: string): string => {
    writeFileSync(join(project, "typed.mts"), text);
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    return run([process.execPath, tsc, "--ignoreConfig", ...options, "--types", "", "typed.mts"]).out;
  };
  const typed = HELLO.replace(/^.*console.*$/m, "");
  expect(check(typed)).toBe("");
  expect(check(typed.replace("Int32Array = ", "Float64Array = "))).toMatch(/^typed\.mts\(4,\d+\): error TS2322/);
  // Also for a program that is compiled for Node 20.
  options[options.indexOf("esnext")] = "es2022";
  expect(check(typed.replace("await using", "const"))).toBe("");
  // Only "dsm" is a module, for the compiler as at run time.
  expect(check('import { Session } from "dsm/client/session";')).toMatch(/^typed\.mts\(1,\d+\): error TS2307/);
  expect(check('import { Status } from "dsm";')).toMatch(/^typed\.mts\(1,\d+\): error TS2459/);
});

test("without the package for the platform it says what to do", () => {
  const other = join(place.folder, "other");
  mkdirSync(other);
  const [main] = packages;
  expect(run(["npm", "install", "--omit=optional", "--prefix", other, main]).code).toBe(0);
  expect(run([join(other, "node_modules/.bin/dsm"), "--version"])).toEqual({
    code: 1,
    out: "",
    err: "dsm: the package @dsm/linux-x64 is not installed; install dsm without leaving out optional dependencies\n",
  });
});

test("the manifests name each other and want nothing of a registry", () => {
  const main = manifest(join(project, "node_modules/dsm"));
  const platform = manifest(join(project, "node_modules/@dsm/linux-x64"));
  expect(main.optionalDependencies).toEqual({ [platform.name]: platform.version });
  for (const { dependencies, scripts, os, cpu } of [main, platform]) {
    expect({ dependencies, scripts, os, cpu }).toEqual({
      ...{ dependencies: undefined, scripts: undefined },
      ...{ os: ["linux"], cpu: ["x64"] },
    });
  }
});

function manifest(folder: string) {
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
}
