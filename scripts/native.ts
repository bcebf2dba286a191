/**
 * libdsm from native/src: libdsm.so for koffi and for programs that link it dynamically, libdsm.a for
 * `gcc prog.c -ldsm -lpthread -lrt -lxed`, and libxed.a beside them, all in native/build/; and dsm-guard from
 * native/guard, a program that `dsm run` starts.
 *
 * Seen from outside is what is declared with default visibility: the public headers, what the TypeScript client needs
 * (api/attach.h), and read() and its relatives (interpose/). libdsm.so has XED inside; libdsm.a does not, because programs
 * written for libdsm name -lxed themselves. All run with glibc 2.28 and later, and their bytes do not depend on where
 * they were built.
 */
import { mkdir, rename, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { checkGlibc } from "./glibc.ts";
import {
  BuildError,
  command,
  compiler,
  files,
  fingerprint,
  nativeBuild,
  replaceFile,
  root,
  runScript,
  runStep,
  stepProgress,
  tool,
  withBuildLock,
} from "./steps.ts";
import { xedKit } from "./xed.ts";

const compileFlags = [
  ..."-std=gnu11 -D_GNU_SOURCE= -O2 -g -fPIC -fno-plt -fvisibility=hidden -Wall -Wextra -Werror".split(" "),
  "-Inative/include",
  "-Inative/src",
  ..."-include native/src/base/glibc.h".split(" "),
  `-ffile-prefix-map=${root}=.`,
];
// No soname: `dsm install` lets programs ask for the library by its full path, which a soname would replace.
// Bound to itself: where two libdsm.so are in a program, the calls of each that stand in front of the C library's stay
// with its own state, and reach the other's by their names only. Never unmapped: it has signal handlers, and threads that
// may still be at their last instructions when Node, as it ends, closes the libraries of its addons.
const linkFlags = "-shared -Wl,-Bsymbolic-functions -Wl,--exclude-libs,ALL -Wl,--gc-sections"
  .split(" ")
  .concat("-Wl,-z,noexecstack,-z,relro,-z,now,-z,defs,-z,nodelete".split(" "));

const GUARD_SOURCE = "native/guard/dsm_guard.c";

/** Builds what is out of date and returns the folder it is in, absolute. */
export async function buildNative(): Promise<string> {
  return withBuildLock(async () => {
    const kit = await xedKit();
    const cc = compiler();
    const sources = await files("native/src/**/*.c");
    if (sources.length === 0) throw new BuildError("native/src has no C files");
    await runStep({
      name: "libdsm",
      inputs: [
        ...sources,
        ...(await files("native/src/**/*.h", "native/include/**/*.h", "scripts/native.ts", "scripts/glibc.ts")),
        GUARD_SOURCE,
      ],
      facts: [await command([cc, "--version"]), await fingerprint([join(kit, "lib/libxed.a")])],
      outputs: ["libdsm.so", "libdsm.so.debug", "libdsm-runs.so", "dsm-guard", "libdsm.a", "libxed.a"].map(
        (name) => `native/build/${name}`,
      ),
      run: () => compile(cc, kit, sources),
    });
    return nativeBuild;
  });
}

async function compile(cc: string, kit: string, sources: string[]): Promise<void> {
  const part = join(nativeBuild, "part");
  await rm(part, { recursive: true, force: true });
  await mkdir(part, { recursive: true });
  const objectOf = (source: string) =>
    join(part, `${source.replace(/^native\/src\/|\.c$/g, "").replaceAll("/", "-")}.o`);

  const waiting = [...sources];
  const bar = stepProgress("libdsm", sources.length);
  let compiled = 0;
  const worker = async () => {
    for (let source = waiting.shift(); source !== undefined; source = waiting.shift()) {
      await command([cc, ...compileFlags, `-I${kit}/include`, "-c", source, "-o", objectOf(source)]);
      bar.at(++compiled);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker)).finally(bar.end);
  const objects = sources.map(objectOf);

  const [so, debug, whole, archive] = ["libdsm.so", "libdsm.so.debug", "dsm.o", "libdsm.a"].map((name) =>
    join(part, name),
  ) as [string, string, string, string];
  await command([cc, ...linkFlags, "-o", so, ...objects, `${kit}/lib/libxed.a`, "-lpthread", "-lrt"]);
  // Debuggers find the symbols through the link; the library that is carried about stays small.
  const objcopy = tool("objcopy");
  await command([objcopy, "--only-keep-debug", so, debug]);
  await command([tool("strip"), "--strip-debug", so]);
  await command([objcopy, `--add-gnu-debuglink=${debug}`, so]);

  // What arbiter and server use of it, which is little.
  const runs = join(part, "libdsm-runs.so");
  const applying = ["runs_apply", "word_masks"].map((name) => objectOf(`native/src/pages/${name}.c`));
  await command([cc, ...linkFlags, "-s", "-o", runs, ...applying]);

  const guard = join(part, "dsm-guard");
  await command([
    cc,
    ...compileFlags,
    "-fvisibility=default",
    "-pie",
    "-nostartfiles",
    "-Wl,-z,noexecstack,-z,relro,-z,now",
    "-s",
    "-o",
    guard,
    GUARD_SOURCE,
  ]);
  await checkGlibc([so, runs, guard]);

  // What stands in front of calls that a static program has once is in the shared library alone.
  const alone = /interpose\/(libc_outputs|memory_calls|notify_threads|posix_\w+)\.c$/;
  const once = sources.filter((source) => alone.test(source)).map(objectOf);
  const archived = objects.filter((object) => !once.includes(object));
  // One object in which hidden symbols are local, so that none of them can clash with a program's own names.
  await command([cc, "-r", "-nostdlib", "-o", whole, ...archived]);
  await command([objcopy, "--localize-hidden", "--strip-debug", whole]);
  await command([tool("ar"), "rcsD", archive, whole]);

  for (const path of [debug, so, runs, guard, archive]) await rename(path, join(nativeBuild, basename(path)));
  await replaceFile(join(nativeBuild, "libxed.a"), Bun.file(`${kit}/lib/libxed.a`));
  await rm(part, { recursive: true });
}

if (import.meta.main) await runScript(async () => void (await buildNative()));
