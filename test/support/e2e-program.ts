/** C programs of tests, compiled and linked with libdsm. */
import { basename, join } from "node:path";
import { type Cluster, ROOT } from "./e2e-cluster.ts";

/** Compiles a source (its path in the project) into the cluster's folder; returns the program's path. */
export async function compileProgram(cluster: Cluster, source: string, ...flags: string[]): Promise<string> {
  const path = join(cluster.folder, basename(source, ".c"));
  const native = join(ROOT, "native");
  const { code, stderr } = await cluster.command([
    ...["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", ...flags],
    ...[`-I${native}/include`, join(ROOT, source), "-o", path],
    ...[`-L${native}/build`, "-ldsm", "-lpthread", `-Wl,-rpath,${native}/build`],
  ]);
  if (code !== 0) throw new Error(`${source} does not compile:\n${stderr}`);
  return path;
}
