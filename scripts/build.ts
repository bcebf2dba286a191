/**
 * `npm run build`: XED, wire.h, libdsm, the client for user programs, and dist/dsm, each step only when what it is made
 * of has changed. Safe to run twice at once: the second build waits for the first and finds everything done.
 */
import { link, mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { BunPlugin } from "bun";
import { SOURCES } from "../src/cli/install/asset-names.ts";
import { collectNotices, writeLicenses } from "./licenses.ts";
import { buildNative } from "./native.ts";
import { BuildError, command, files, progress, replaceFile, root, runScript, runStep, withBuildLock } from "./steps.ts";
import { typesStep } from "./types.ts";

const koffiModule = "node_modules/@koromix/koffi-linux-x64/linux_x64/koffi.node";
const executable = "dist/dsm";
const roles = ["dist/dsm-daemon", "dist/dsm-server", "dist/dsm-arbiter"];

/** Not minified: the runtime is a thousand times the size, and an error in a program shows lines of the bundle. */
const bundling = {
  target: "bun",
  define: { "process.env.NODE_ENV": '"production"' }, // whatever the shell that builds has
  throw: false,
} satisfies Partial<Bun.BuildConfig>;

/** Brings everything that `npm run build` makes up to date, in a process of its own. */
export async function ensureBuilt(): Promise<void> {
  // A process of its own: the caller may be the test runner, whose memory and module cache are not the build's.
  const child = Bun.spawn([process.execPath, import.meta.path, "--quiet"], {
    cwd: root,
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
  });
  if ((await child.exited) !== 0) throw new BuildError("the build failed; its message is above");
}

async function build(quiet: boolean): Promise<void> {
  await withBuildLock(async () => {
    // Loaded here so that a protocol.ts that does not compile is reported by this build.
    await (await import("./wire.ts")).writeWire();
    await (await import("./settings.ts")).writeSettings();
    await buildNative();
    const results = [
      await koffiStep(),
      await licensesStep(),
      await clientStep(),
      await nodeStep(),
      await typesStep(),
      await dashboardStep(),
      await executableStep(),
    ];
    if (!quiet && results.every((result) => result === "skipped")) progress.info(`${executable} is up to date`);
  });
}

/**
 * koffi's ESM entry looks its native module up at run time, which a bundle cannot; its CommonJS entry requires the
 * package named here by a constant, which the bundler follows.
 */
function koffiFrom(nativeModule: { path: string; external?: boolean }): BunPlugin {
  return {
    name: "koffi",
    setup(build) {
      build.onResolve({ filter: /^koffi$/ }, () => ({ path: join(root, "node_modules/koffi/index.cjs") }));
      build.onResolve({ filter: /^@koromix\/koffi-linux-x64$/ }, () => nativeModule);
      // It looks beside itself for what is embedded here. Where that was when this was built is nobody's business, and
      // would make two builds differ.
      build.onLoad({ filter: /\/koffi\/src\/koffi\/index\.cjs$/ }, async ({ path }) => ({
        loader: "js",
        contents: `var __dirname = "/koffi", __filename = "/koffi/index.cjs";\n${await Bun.file(path).text()}`,
      }));
    },
  };
}

const koffiStep = () =>
  runStep({
    name: "koffi",
    inputs: [koffiModule],
    outputs: ["native/build/koffi.node"],
    run: () => replaceFile(join(root, "native/build/koffi.node"), Bun.file(join(root, koffiModule))),
  });

async function licensesStep() {
  const notices = await collectNotices();
  return runStep({
    name: "licenses",
    inputs: [...notices.map((notice) => notice.file), "scripts/licenses.ts"],
    facts: notices.map((notice) => notice.name),
    outputs: ["dist/licenses.txt"],
    run: () => writeLicenses(notices),
  });
}

/** What runs from wherever libdsm.so and koffi.node lie beside it: "dsm" for scripts, and the part of `dsm header`. */
async function clientStep() {
  return runStep({
    name: "client",
    inputs: [...(await files("src/client/**/*.ts", "src/core/**/*.ts")), "package-lock.json", "scripts/build.ts"],
    facts: [Bun.version],
    outputs: ["dist/client/preload.js", "dist/client/header.js"],
    run: async () => {
      for (const name of ["preload", "header"]) {
        const entry = `src/client/${name}.ts`;
        const bundle = await Bun.build({
          entrypoints: [join(root, entry)],
          ...bundling,
          plugins: [koffiFrom({ path: "./koffi.node", external: true })],
        });
        const [output] = bundle.outputs;
        if (!bundle.success || output === undefined) throw bundleError(entry, bundle.logs);
        // Bun warns of a missing source map when a program prints an error of such a file. Any map will do, since our
        // frames are not shown. Without the "// @bun" at its head, Bun would put a copy of the file into ~/.bun.
        const map = Buffer.from(
          '{"version":3,"sources":["dsm"],"sourcesContent":[""],"names":[],"mappings":"AAAA"}',
        ).toString("base64");
        const text = `${await output.text()}\n//# sourceMappingURL=data:application/json;base64,${map}\n`;
        await replaceFile(join(root, `dist/client/${name}.js`), text);
      }
    },
  });
}

/** "dsm" for Node: one module, which finds koffi as an installed package, and the types of it. */
async function nodeStep() {
  return runStep({
    name: "client for Node",
    inputs: [...(await files("src/client/**/*.ts", "src/core/**/*.ts")), "package-lock.json", "scripts/build.ts"],
    facts: [Bun.version],
    outputs: ["dist/client/index.js", "dist/client/types/client/index.d.ts"],
    run: async () => {
      const entry = "src/client/index.ts";
      const bundle = await Bun.build({
        entrypoints: [join(root, entry)],
        ...bundling,
        target: "node",
        external: ["koffi"],
      });
      const [output] = bundle.outputs;
      if (!bundle.success || output === undefined) throw bundleError(entry, bundle.logs);
      const types = join(root, "dist/client/types");
      await rm(types, { recursive: true, force: true });
      await command([
        ...[process.execPath, join(root, "node_modules/typescript/bin/tsc"), "--ignoreConfig", entry],
        ...["--declaration", "--emitDeclarationOnly", "--stripInternal", "--rootDir", "src", "--outDir", types],
        ...["--target", "esnext", "--module", "preserve", "--moduleResolution", "bundler", "--types", "bun-types"],
        ...["--allowImportingTsExtensions", "--strict", "--exactOptionalPropertyTypes", "--skipLibCheck"],
      ]);
      await replaceFile(join(root, "dist/client/index.js"), output);
    },
  });
}

/** The files of the daemon's page; their names are constants, so that the executable can embed them. */
async function dashboardStep() {
  const source = "src/daemon/dashboard";
  const made = "dist/dashboard";
  return runStep({
    name: "dashboard",
    inputs: [...(await files(`${source}/*`, "src/core/**/*.ts")), "package-lock.json", "scripts/build.ts"],
    facts: [Bun.version],
    outputs: ["html", "js", "css", "svg"].map((ending) => `${made}/dashboard.${ending}`),
    run: async () => {
      const bundle = await Bun.build({
        entrypoints: ["main.ts", "dashboard.css"].map((name) => join(root, source, name)),
        ...{ target: "browser", minify: true, throw: false },
      });
      if (!bundle.success) throw bundleError(source, bundle.logs);
      for (const output of bundle.outputs) {
        const ending = output.path.endsWith(".css") ? "css" : "js";
        await replaceFile(join(root, `${made}/dashboard.${ending}`), output);
      }
      for (const name of ["dashboard.html", "dashboard.svg"]) {
        await replaceFile(join(root, made, name), Bun.file(join(root, source, name)));
      }
    },
  });
}

/**
 * The client as a program of its own can import it, in `folder`; koffi's compiled part is the module named.
 */
export async function bundleClient(folder: string, koffi: string): Promise<void> {
  const bundle = await Bun.build({
    entrypoints: [join(root, "src/client/index.ts")],
    ...bundling,
    target: "node", // which is what Bun takes as well
    outdir: folder,
    plugins: [koffiFrom({ path: koffi, external: true })],
  });
  if (!bundle.success) throw bundleError("src/client/index.ts", bundle.logs);
}

async function executableStep() {
  const embedded = ["libdsm.so", "libdsm-runs.so", "dsm-guard", "libdsm.a", "libxed.a", "koffi.node"].map(
    (name) => `native/build/${name}`,
  );
  return runStep({
    name: "dsm",
    inputs: [
      ...(await files(
        "src/**/*.ts",
        "native/include/**/*.h",
        "native/src/libdsm-gdb.py",
        "native/bindings/{cpp,python}/**/*.{hpp,py,toml}",
      )),
      ...embedded,
      "dist/client/preload.js",
      "dist/client/header.js",
      "dist/client/types.txt",
      "dist/licenses.txt",
      ...(await files("dist/dashboard/*")),
      "package.json",
      "package-lock.json",
      "scripts/build.ts",
    ],
    facts: [Bun.version],
    outputs: [executable, ...roles],
    run: compileExecutable,
  });
}

/** SHA-256 of each file that the executable carries: so it need not hash megabytes when it starts. */
async function assetDigests(): Promise<Record<string, string>> {
  const digests = Object.entries(SOURCES).map(async ([name, path]) => {
    const content = await Bun.file(join(root, path)).bytes();
    return [name, new Bun.CryptoHasher("sha256").update(content).digest("hex")];
  });
  return Object.fromEntries(await Promise.all(digests));
}

async function compileExecutable(): Promise<void> {
  const part = join(root, "dist/part");
  await rm(part, { recursive: true, force: true });
  await mkdir(part, { recursive: true });
  const bundle = await Bun.build({
    entrypoints: [join(root, "src/cli/main.ts")],
    ...bundling,
    define: { ...bundling.define, ASSET_DIGESTS: JSON.stringify(await assetDigests()) },
    // Chunks with bytecode: a command loads its own code only, and does not parse it first.
    ...{ format: "esm", splitting: true, bytecode: true },
    plugins: [koffiFrom({ path: join(root, koffiModule) })],
    // Files in the working directory of a user must not change dsm.
    compile: {
      outfile: join(part, "dsm"),
      autoloadBunfig: false,
      autoloadDotenv: false,
      autoloadPackageJson: false,
      autoloadTsconfig: false,
    },
  });
  if (!bundle.success) throw bundleError("src/cli/main.ts", bundle.logs);
  // The roles are the same file under other names, by which it knows its role: 100 MB once instead of four times, and
  // yet each is a whole executable that can be copied away alone.
  for (const name of [executable, ...roles].toReversed()) {
    const made = join(root, `${name}.part`);
    await rm(made, { force: true });
    await link(join(part, "dsm"), made);
    await rename(made, join(root, name));
  }
  await rm(part, { recursive: true });
}

function bundleError(entry: string, logs: Array<BuildMessage | ResolveMessage>): BuildError {
  return new BuildError(`${entry} cannot be bundled:\n${logs.map(String).join("\n")}`);
}

if (import.meta.main) await runScript(() => build(process.argv.includes("--quiet")));
