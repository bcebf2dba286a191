/** All subcommands. Each is loaded on demand: an arbiter must not load what `dsm install` needs. */
import type { Command } from "../command.ts";

// biome-ignore lint/suspicious/noExplicitAny: commands of any arguments
export const COMMANDS: Readonly<Record<string, () => Promise<Command<any>>>> = {
  run: async () => (await import("./run.ts")).default,
  init: async () => (await import("./init.ts")).default,
  sessions: async () => (await import("./sessions.ts")).default,
  top: async () => (await import("./top.ts")).default,
  why: async () => (await import("./why.ts")).default,
  trace: async () => (await import("./trace.ts")).default,
  snapshot: async () => (await import("./snapshot.ts")).default,
  remove: async () => (await import("./remove.ts")).default,
  doctor: async () => (await import("./doctor.ts")).default,
  header: async () => (await import("./header.ts")).default,
  cert: async () => (await import("./cert.ts")).default,
  install: async () => (await import("./install.ts")).default,
  uninstall: async () => (await import("./uninstall.ts")).default,
  completion: async () => (await import("../help/completion.ts")).default,
  man: async () => (await import("../help/man.ts")).default,
  licenses: async () => (await import("./licenses.ts")).default,
  daemon: async () => (await import("./daemon.ts")).default,
  server: async () => (await import("./server.ts")).default,
  arbiter: async () => (await import("./arbiter.ts")).default,
};
