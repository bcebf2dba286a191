/** The project's documents. */
import { ROOT } from "./e2e-cluster.ts";

/** Those that match one of the patterns, as paths in the project, sorted. */
export const documents = (...patterns: string[]): string[] =>
  patterns
    .flatMap((pattern) => [...new Bun.Glob(pattern).scanSync({ cwd: ROOT })])
    .filter((path) => !path.includes("node_modules/"))
    .sort();
