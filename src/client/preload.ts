/** What `dsm run` loads before a script, so that the script can import "dsm" with nothing installed. */
import type * as WorkerThreads from "node:worker_threads";
import { plugin } from "bun";
import * as dsm from "./index.ts";

// This variable made the dsm program act as bun. Programs that the script starts with its process.env must not get it.
// (Bun.spawn() without `env` hands on the environment that the script began with, whatever is done here.)
delete process.env.BUN_BE_BUN;

plugin({
  name: "dsm",
  setup(build) {
    build.module("dsm", () => ({ loader: "object", exports: dsm }));
  },
});

// Bun does not preload in workers what it preloads in the program.
const preload = (options: { preload?: string | string[] | undefined } = {}): object => ({
  ...options,
  preload: [import.meta.path, ...[options.preload ?? []].flat()],
});
const { Worker } = globalThis;
globalThis.Worker = class extends Worker {
  constructor(url: string | URL, options?: WorkerOptions) {
    super(url, preload(options));
  }
};
// A module that was imported once no longer changes; this one is changed before.
const workerThreads = require("node:worker_threads") as { Worker: typeof WorkerThreads.Worker };
const { Worker: NodeWorker } = workerThreads;
workerThreads.Worker = class extends NodeWorker {
  constructor(url: string | URL, options?: WorkerThreads.WorkerOptions) {
    super(url, preload(options as object));
  }
};
for (const made of [globalThis.Worker, workerThreads.Worker]) Object.defineProperty(made, "name", { value: "Worker" });
