#!/usr/bin/env bun
/** `dsm`: every role and tool in one program. Called as dsm_daemon, dsm_server or dsm_arbiter it plays that role. */
import { basename } from "node:path";
import { type CommandDef, defineCommand, renderUsage, runCommand } from "citty";
import { DsmError } from "../core/errors.ts";
import { VERSION } from "../core/limits.ts";
import { messages, print } from "./messages.ts";
import { checkArguments, splitProgram, UsageError } from "./options.ts";

// Each is loaded only when it is asked for: an arbiter must not pay for what `dsm install` needs.
// biome-ignore lint/suspicious/noExplicitAny: citty's own type for commands of any arguments
const COMMANDS: Record<string, () => Promise<CommandDef<any>>> = {
  run: async () => (await import("./run.ts")).default,
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
  licenses: async () => (await import("./licenses.ts")).default,
  daemon: async () => (await import("./daemon.ts")).default,
  server: async () => (await import("./server.ts")).default,
  arbiter: async () => (await import("./arbiter.ts")).default,
};

const root = defineCommand({
  meta: { name: "dsm", version: VERSION, description: "Distributed shared memory" },
  subCommands: COMMANDS,
});

async function main(programName: string, rawArgs: string[]): Promise<number> {
  const role = /^dsm[-_](daemon|server|arbiter)$/.exec(programName)?.[1];
  // A role started under its own name starts the other roles by their subcommands.
  const args = role && !(rawArgs[0] !== undefined && rawArgs[0] in COMMANDS) ? [role, ...rawArgs] : rawArgs;
  const first = args[0];
  if (first === "--version" || first === "-v") {
    await print(VERSION);
    return 0;
  }
  if (first === undefined || first === "--help" || first === "-h" || first === "help") {
    await print(await renderUsage(root));
    return first === undefined ? 2 : 0;
  }
  const load = Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined;
  if (!load) throw new UsageError(`unknown command "${first}"; "dsm --help" lists them`);
  return runOne(await load(), args.slice(1), first);
}

// biome-ignore lint/suspicious/noExplicitAny: citty's own type for commands of any arguments
async function runOne(command: CommandDef<any>, rawArgs: string[], name: string): Promise<number> {
  const definitions = (await command.args) ?? {};
  const takesProgram = name === "run";
  const { own, program } = takesProgram ? splitProgram(rawArgs, definitions) : { own: rawArgs, program: [] };
  if (own.includes("--help") || own.includes("-h")) {
    await print(await renderUsage(command, root));
    return 0;
  }
  try {
    checkArguments(own, definitions);
    const { result } = await runCommand(command, { rawArgs: takesProgram ? [...own, "--", ...program] : own });
    return typeof result === "number" ? result : 0;
  } catch (error) {
    if (error instanceof UsageError || (error instanceof Error && error.name === "CLIError")) {
      throw new UsageError(`${error.message}; "dsm ${name} --help" shows what it takes`);
    }
    throw error;
  }
}

function report(error: unknown): number {
  if (error instanceof UsageError) {
    messages.error(error.message);
    return 2;
  }
  if (error instanceof DsmError) {
    messages.error(error.message);
    return 1;
  }
  const message = error instanceof Error ? error.message : String(error);
  messages.error(`${message} (unexpected; please report it)`);
  return 1;
}

let code: number;
try {
  code = await main(basename(process.argv0), process.argv.slice(2));
} catch (error) {
  code = report(error);
}
process.exit(code);
