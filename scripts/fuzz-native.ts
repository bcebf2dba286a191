/**
 * Builds the C fuzz targets of native/fuzz: with gcc, the sanitizers and the driver there, or with clang's libFuzzer.
 * The targets run the library's own sources, instrumented; only XED is linked as it is.
 */
import { mkdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { command, compiler, nativeBuild, withBuildLock } from "./steps.ts";
import { xedKit } from "./xed.ts";

const CAPTURE = ["alu", "capture", "decode", "fault", "frame", "region", "step", "string"];

/** The library's sources each target needs. */
export const TARGETS: Readonly<Record<string, readonly string[]>> = {
  channel: ["channel"],
  decode: CAPTURE,
  capture: CAPTURE,
};

const FLAGS = "-std=gnu11 -D_GNU_SOURCE= -g -O1 -fPIC -fvisibility=hidden -Wall -Wextra -Werror".split(" ");
const SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];

export type Engine = "driver" | "libfuzzer";

/** Builds the targets; returns where each is. */
export async function buildTargets(engine: Engine, names: readonly string[]): Promise<Map<string, string>> {
  return withBuildLock(async () => {
    const kit = await xedKit();
    const folder = join(nativeBuild, "fuzz", engine);
    await mkdir(folder, { recursive: true });
    const cc = engine === "driver" ? compiler() : "clang";
    const cover = engine === "driver" ? [] : ["-fsanitize=fuzzer-no-link"];
    const all = [cc, ...FLAGS, ...SANITIZERS, ...cover, `-I${kit}/include`, "-Inative/include", "-Inative/src"];
    const sources = new Set(names.flatMap((name) => TARGETS[name]?.map((source) => `native/src/${source}.c`) ?? []));
    for (const name of names) sources.add(`native/fuzz/${name}.c`);
    if (engine === "driver") sources.add("native/fuzz/driver.c");
    const objectOf = (source: string): string => join(folder, `${source.replaceAll("/", "-")}.o`);
    const waiting = [...sources];
    const worker = async (): Promise<void> => {
      for (let source = waiting.shift(); source !== undefined; source = waiting.shift()) {
        await command([...all, "-c", source, "-o", objectOf(source)]);
      }
    };
    await Promise.all(Array.from({ length: availableParallelism() }, worker));
    const programs = new Map<string, string>();
    for (const name of names) {
      const own = [`native/fuzz/${name}.c`, ...(TARGETS[name] ?? []).map((source) => `native/src/${source}.c`)];
      if (engine === "driver") own.push("native/fuzz/driver.c");
      const path = join(folder, basename(name));
      const fuzzer = engine === "driver" ? [] : ["-fsanitize=fuzzer"];
      const libraries = [`${kit}/lib/libxed.a`, "-lpthread"];
      await command([cc, ...SANITIZERS, ...fuzzer, ...own.map(objectOf), ...libraries, "-o", path]);
      programs.set(name, path);
    }
    return programs;
  });
}
