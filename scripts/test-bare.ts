/**
 * `npm run test:bare -- [--user] [ARGUMENT ...]`: what a new user does, on a machine with only what the README asks for.
 * Clones the last commit, and there runs `npm install && npm run demo` and `npm test -- ARGUMENT ...`, in a mount
 * namespace in which all other programs that dsm's tests and benchmarks can use are hidden. Needs root, for the
 * namespace. `--user`: as an ordinary user. Fails if a hidden program is still found, or if a command fails.
 */
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { optionalPrograms } from "../test/support/requirements.ts";
import { BuildError, command, progress, root, runScript } from "./steps.ts";

/** Beside those of the tests: what the benchmarks compare with. */
const PROGRAMS = [...optionalPrograms, "redis-server", "redis-cli", "mpicc", "mpirun", "mpiexec", "clang", "curl"]
  // dpkg needs it to install anything: no machine with Debian's packages is without.
  .filter((name) => name !== "dpkg-deb")
  .sort();
/** A user without processes and files. */
const USER = 61_976;

/** The folders in which a shell or a test looks for programs, each once. */
const folders = new Set(
  [...(process.env.PATH ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    .filter((folder) => existsSync(folder))
    .map((folder) => realpathSync(folder)),
);

const places = (name: string): string[] => [...folders].map((folder) => join(folder, name)).filter(existsSync);

/** Shell commands that hide the program. A mount goes over what a link leads to, so links to `cargo` are removed. */
function hide(name: string, folder: string): string[] {
  const cargo = realpathSync(Bun.which("cargo") ?? "/");
  return places(name).flatMap((path) => {
    const real = realpathSync(path);
    if (real !== cargo) return [`mount --bind '${join(folder, "nothing")}' '${real}'`];
    const [shown, copy] = [dirname(path), join(folder, `without-${name}`)];
    return [`cp -a '${shown}' '${copy}'`, `rm '${join(copy, name)}'`, `mount --bind '${copy}' '${shown}'`];
  });
}

/** Mounts the caller's folders of cargo and rustup where the user can read them; a home of root's is closed to others. */
function lendCargo(home: string): { commands: string[]; environment: Record<string, string> } {
  const owned = process.env.HOME ?? "/root";
  const folders = [".cargo", ".rustup"].filter((name) => existsSync(join(owned, name)));
  return {
    commands: folders.flatMap((name) => [
      `mkdir '${join(home, name)}'`,
      `mount --bind '${join(owned, name)}' '${join(home, name)}'`,
    ]),
    environment: {
      HOME: home,
      PATH: (process.env.PATH ?? "").replaceAll(owned, home),
      CARGO_HOME: join(home, "cargo"),
      RUSTUP_HOME: join(home, ".rustup"),
    },
  };
}

await runScript(async () => {
  const given = process.argv.slice(2);
  const asUser = given[0] === "--user";
  if (process.getuid?.() !== 0) throw new BuildError("only root may hide programs in a mount namespace");
  const findModule = ["python3", "-c", "import ensurepip; print(ensurepip.__file__)"];
  const ensurepip = (await command(findModule).catch(() => "")).trim();

  const folder = mkdtempSync(join(tmpdir(), "bare-"));
  try {
    writeFileSync(join(folder, "nothing"), "", { mode: 0o644 });
    writeFileSync(join(folder, "no-module.py"), 'raise ImportError("hidden by scripts/test-bare.ts")\n');
    const [clone, home] = [join(folder, "dsm"), join(folder, "home")];
    await command(["git", "clone", "--quiet", `file://${root}`, clone]);
    mkdirSync(home);
    const lent = asUser ? lendCargo(home) : { commands: [], environment: {} };
    const mounts = [
      ...PROGRAMS.flatMap((name) => hide(name, folder)),
      ...(ensurepip === "" ? [] : [`mount --bind '${join(folder, "no-module.py")}' '${ensurepip}'`]),
      `chmod 755 '${folder}'`,
      ...(asUser ? [`chown -R ${USER}:${USER} '${clone}' '${home}'`] : []),
      ...lent.commands,
      `cd '${clone}'`,
      'exec "$@"',
    ].join("\n");
    const commands = [
      `for name in ${PROGRAMS.join(" ")}; do`,
      '  if command -v "$name"; then echo "$name is not hidden" >&2; exit 1; fi',
      "done",
      "npm install --no-audit --no-fund",
      "npm run demo",
      'npm test -- "$@"',
    ].join("\n");
    const drop = asUser ? ["setpriv", `--reuid=${USER}`, `--regid=${USER}`, "--clear-groups"] : [];
    progress.info(`Hidden: ${PROGRAMS.filter((name) => places(name).length > 0).join(", ")}, ensurepip`);
    const { CI: _, DSM_TEST_ALL: __, XDG_RUNTIME_DIR: ___, ...environment } = process.env;
    const child = Bun.spawn(
      [
        ...["unshare", "--mount", "sh", "-ec", mounts, "sh"],
        ...[...drop, "sh", "-ec", commands, "sh", ...given.slice(asUser ? 1 : 0)],
      ],
      { env: { ...environment, ...lent.environment }, stdio: ["ignore", "inherit", "inherit"] },
    );
    const code = await child.exited;
    if (code !== 0) throw new BuildError(`it ended with code ${code}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
