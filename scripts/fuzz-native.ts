/**
 * Builds the C fuzz targets of native/fuzz: with gcc, the sanitizers and the driver there, or with clang's libFuzzer.
 * The targets run the library's own sources, instrumented; only XED is linked as it is.
 */
import { mkdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join, relative } from "node:path";
import { command, compiler, files, nativeBuild, replaceFile, root, withBuildLock } from "./steps.ts";
import { xedKit } from "./xed.ts";

/** The library's sources that each target needs, as patterns below native/src. */
export const TARGETS: Readonly<Record<string, readonly string[]>> = {
  channel: ["link/channel.c"],
  decode: ["trap/*.c", "base/size.c"],
  capture: ["trap/*.c", "base/size.c"],
  open: ["**/*.c"],
};

const FLAGS = "-std=gnu11 -D_GNU_SOURCE= -g -O1 -fPIC -fvisibility=hidden -Wall -Wextra -Werror".split(" ");
const SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];

export type Engine = "driver" | "libfuzzer";

/** Compiles the sources, as many at a time as there are processors; returns the objects. */
async function compile(cc: string[], folder: string, sources: readonly string[]): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const objectOf = (source: string): string => join(folder, `${source.replaceAll("/", "-")}.o`);
  const waiting = [...sources];
  const worker = async (): Promise<void> => {
    for (let source = waiting.shift(); source !== undefined; source = waiting.shift()) {
      await command([...cc, "-c", source, "-o", objectOf(source)]);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return sources.map(objectOf);
}

const include = (kit: string): string[] => [`-I${kit}/include`, "-Inative/include", "-Inative/src"];

/** Builds the targets; returns where each is. */
export async function buildTargets(engine: Engine, names: readonly string[]): Promise<Map<string, string>> {
  return withBuildLock(async () => {
    const kit = await xedKit();
    const folder = join(nativeBuild, "fuzz", engine);
    const cc = engine === "driver" ? compiler() : "clang";
    const [cover, fuzzer] = engine === "driver" ? [[], []] : [["-fsanitize=fuzzer-no-link"], ["-fsanitize=fuzzer"]];
    const lists = new Map<string, string[]>();
    for (const name of names) {
      lists.set(name, [
        `native/fuzz/${name}.c`,
        ...(await files(...(TARGETS[name] ?? []).map((pattern) => `native/src/${pattern}`))),
        // The whole library joins sessions: a scripted arbiter answers it.
        ...(name === "open" ? ["native/fuzz/arbiter.c"] : []),
        ...(engine === "driver" ? ["native/fuzz/driver.c"] : []),
      ]);
    }
    const sourcesOf = (name: string): string[] => lists.get(name) ?? [];
    const sources = [...new Set(names.flatMap(sourcesOf))];
    const objects = await compile([cc, ...FLAGS, ...SANITIZERS, ...cover, ...include(kit)], folder, sources);
    const programs = new Map<string, string>();
    for (const name of names) {
      const path = join(folder, name);
      const own = sourcesOf(name).map((source) => objects[sources.indexOf(source)] as string);
      const libraries = [`${kit}/lib/libxed.a`, "-lpthread", "-lrt"];
      await command([cc, ...SANITIZERS, ...fuzzer, ...own, ...libraries, "-o", path]);
      programs.set(name, path);
    }
    return programs;
  });
}

/** Builds native/fuzz/threads.c and the whole library under ThreadSanitizer; returns where it is. */
export async function buildThreads(): Promise<string> {
  return withBuildLock(async () => {
    const kit = await xedKit();
    const folder = join(nativeBuild, "fuzz", "threads-objects");
    // Maps are to lie where ThreadSanitizer lets programs have memory: in a copy of the sources they do.
    const copy = join(folder, "src");
    for (const source of await files("native/src/**/*.[ch]")) {
      const text = await Bun.file(join(root, source)).text();
      const moved = text.replace(/(#define WIRE_ADDRESS_FIRST) 0x[0-9a-f]+ull/, "$1 0x7ea000000000ull");
      const path = join(copy, relative("native/src", source));
      await mkdir(dirname(path), { recursive: true });
      await replaceFile(path, moved);
    }
    // It warns of fences, which it does not know: see threads.c.
    const options = [...FLAGS, "-fsanitize=thread", "-Wno-tsan", `-I${kit}/include`, "-Inative/include", `-I${copy}`];
    const cc = [compiler(), ...options];
    // ThreadSanitizer calls sigaltstack() before it can watch anything: that must be the C library's.
    const watched = (await files("native/src/**/*.c")).filter((source) => !source.endsWith("interpose/stacks.c"));
    const library = watched.map((source) => join(copy, relative("native/src", source)));
    const sources = [...library, "native/fuzz/arbiter.c", "native/fuzz/threads.c"];
    const objects = await compile(cc, folder, sources);
    const path = join(nativeBuild, "fuzz", "threads");
    await command([
      compiler(),
      "-fsanitize=thread",
      ...objects,
      `${kit}/lib/libxed.a`,
      "-lpthread",
      "-lrt",
      "-o",
      path,
    ]);
    return path;
  });
}
