/** dist/dsm, alone in an empty folder: its roles by name, and the files it carries inside. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { COMMANDS } from "../../src/cli/commands/commands.ts";
import { SOURCES } from "../../src/cli/install/asset-names.ts";
import { daemonClient } from "../../src/cli/user-daemon-client.ts";
import { gone, isRunning, Place, until } from "./dsm.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(60_000);

const BUILT = join(import.meta.dir, "../../dist/dsm");

let place: Place;
let folder: string;
let dsm: string;
beforeEach(() => {
  place = new Place();
  folder = join(place.folder, "alone");
  mkdirSync(folder);
  dsm = join(folder, "dsm");
  copyFileSync(BUILT, dsm);
});
afterEach(() => place.close());

function run(args: string[], environment: Record<string, string> = {}): { code: number; out: string; err: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync([dsm, ...args], {
    cwd: folder,
    env: { ...place.environment, TMPDIR: place.folder, ...environment },
  });
  return { code: exitCode, out: stdout.toString(), err: stderr.toString() };
}

const SCRIPT = 'import { join } from "dsm";\nconsole.log(typeof join, process.env.DSM_RANK, process.argv.slice(2));\n';

test("a script can import dsm with nothing installed", () => {
  const script = join(folder, "script.ts");
  writeFileSync(script, SCRIPT);
  const { code, out, err } = run(["run", "-n", "2", "script.ts", "a", "--b"]);
  expect(err).toBe("");
  expect(out.trimEnd().split("\n").sort()).toEqual(['function 0 [ "a", "--b" ]', 'function 1 [ "a", "--b" ]']);
  expect(code).toBe(0);
});

test("the files it carries go to a folder of the user's own, and are checked before each use", () => {
  writeFileSync(join(folder, "script.ts"), SCRIPT);
  expect(run(["run", "-n1", "script.ts"]).code).toBe(0);
  const cache = join(place.folder, "cache/dsm");
  const [version, ...others] = readdirSync(cache) as [string];
  expect(others).toEqual([]);
  // Named at build time by what they hold.
  const digests = (["libdsm.so", "koffi.node", "preload.js", "header.js", "dsm-guard"] as const).map((name) =>
    createHash("sha256")
      .update(readFileSync(join(import.meta.dir, "../..", SOURCES[name])))
      .digest(),
  );
  expect(version).toBe(createHash("sha256").update(Buffer.concat(digests)).digest("hex").slice(0, 32));
  expect(lstatSync(cache).mode & 0o777).toBe(0o700);
  const files = join(cache, version);
  expect(lstatSync(files).mode & 0o777).toBe(0o700);
  expect(readdirSync(files).sort()).toEqual(["dsm-guard", "header.js", "koffi.node", "libdsm.so", "preload.js"]);
  const library = join(files, "libdsm.so");
  const original = readFileSync(library);
  const changed = Buffer.from(original);
  changed[changed.length - 1] = (changed[changed.length - 1] as number) ^ 1;
  writeFileSync(library, changed);
  expect(run(["run", "-n1", "script.ts"]).code).toBe(0);
  expect(readFileSync(library).equals(original)).toBe(true);
});

test("a cache that is a link to elsewhere, or cannot be written, is not used", () => {
  writeFileSync(join(folder, "script.ts"), SCRIPT);
  const elsewhere = join(place.folder, "elsewhere");
  mkdirSync(elsewhere);
  mkdirSync(join(place.folder, "cache"));
  symlinkSync(elsewhere, join(place.folder, "cache/dsm"));
  expect(run(["run", "-n1", "script.ts"]).code).toBe(0);
  expect(readdirSync(elsewhere)).toEqual([]);
  const own = join(place.folder, `dsm-${process.getuid?.()}`);
  expect(readdirSync(own)).toHaveLength(1);
  expect(lstatSync(own).mode & 0o777).toBe(0o700);
  expect(run(["run", "-n1", "script.ts"], { XDG_CACHE_HOME: "/proc/nowhere" }).code).toBe(0);
});

test("every command is in it", () => {
  for (const name of Object.keys(COMMANDS)) {
    const { code, out, err } = run([name, "--help"]);
    expect({ name, code, err }).toEqual({ name, code: 0, err: "" });
    expect(out).toContain(`dsm ${name}`);
  }
});

test("what lies in the current folder does not change what dsm is", () => {
  writeFileSync(join(folder, "bunfig.toml"), 'preload = ["./missing.ts"]\n');
  writeFileSync(join(folder, ".env"), "DSM_PROCESSES=3\n");
  expect(run(["--version"])).toEqual({ code: 0, out: "0.1.0\n", err: "" });
  expect(run(["run", "true"]).err).toContain("-n N");
});

for (const [name, link] of [
  ["dsm_daemon", true],
  ["dsm-daemon", false],
] as const) {
  test(`called as ${name} it is the daemon, and starts servers`, async () => {
    const program = join(folder, name);
    if (link) symlinkSync("dsm", program);
    else copyFileSync(dsm, program);
    const daemon = Bun.spawn({
      cmd: [program, "--host", place.host],
      env: place.environment,
      stdio: ["ignore", "pipe", "pipe"],
    });
    await until(daemon.stdout, `listening on ${place.daemonAddress}`);
    const directory = daemonClient({ address: place.daemonAddress, autostart: false });
    await directory.find({ name: "s", processes: 1 });
    const { pid } = (await directory.get("s")) as { pid: number };
    expect(readlinkSync(`/proc/${pid}/exe`)).toBe(link ? dsm : program);
    await directory.remove("s");
    daemon.kill();
    expect(await daemon.exited).toBe(0);
    await gone(() => isRunning(pid));
  });
}

test("called as dsm_server or dsm_arbiter it plays these", () => {
  for (const [name, text] of [
    ["dsm_server", "dsm server"],
    ["dsm_arbiter", "dsm arbiter"],
  ] as const) {
    symlinkSync("dsm", join(folder, name));
    expect(Bun.spawnSync([join(folder, name), "--help"]).stdout.toString()).toContain(text);
  }
});
