#!/usr/bin/env bun
/** `dsm`: all roles and tools in one program. Called as dsm_daemon, dsm_server or dsm_arbiter it runs that role. */
import { basename } from "node:path";
import { runCommand } from "citty";
import { DsmError } from "../core/base/errors.ts";
import { VERSION } from "../core/base/limits.ts";
import { nearest } from "../core/base/nearest.ts";
import type { Command } from "./command.ts";
import { COMMANDS } from "./commands/commands.ts";
import { alignPositionals, checkArguments, splitProgram, UsageError } from "./settings/options.ts";
import { messages, print } from "./terminal/messages.ts";

async function main(programName: string, rawArgs: string[]): Promise<number> {
  const role = /^dsm[-_](daemon|server|arbiter)$/.exec(programName)?.[1];
  // A role started under its own name starts the other roles by their subcommands.
  const args = role && !(rawArgs[0] !== undefined && rawArgs[0] in COMMANDS) ? [role, ...rawArgs] : rawArgs;
  const first = args[0];
  if (first === "--version" || first === "-v") {
    await print(VERSION);
    return 0;
  }
  if (first === "help" && args[1] !== undefined && !args[1].startsWith("-")) {
    return main(programName, [args[1], "--help"]);
  }
  if (first === undefined || first === "--help" || first === "-h" || first === "help") {
    await print(await (await import("./help/help.ts")).generalHelp());
    return first === undefined ? 2 : 0;
  }
  // Internal: `dsm run` starts it on other hosts.
  if (first === "node") return (await import("./run/hosts/node.ts")).runNode();
  const load = Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined;
  if (!load) throw unknown(first);
  return runOne(await load(), args.slice(1), first);
}

/** Names that other programs have for these commands. */
const OTHER_NAMES: Record<string, keyof typeof COMMANDS> = {
  ...{ list: "sessions", ls: "sessions", ps: "sessions", show: "sessions", status: "sessions" },
  ...{ delete: "remove", end: "remove", kill: "remove", rm: "remove", stop: "remove" },
  ...{ check: "doctor", create: "init", exec: "run", new: "init", save: "snapshot", start: "run" },
};

function unknown(given: string): UsageError {
  if (given.startsWith("-")) {
    const meant = nearest(given.replace(/^-+/, ""), ["help", "version"]);
    const advice = meant === null ? 'options stand after the command; see "dsm --help"' : `did you mean --${meant}?`;
    return new UsageError(`unknown option ${given}; ${advice}`);
  }
  const meant =
    (Object.hasOwn(OTHER_NAMES, given) ? OTHER_NAMES[given] : null) ?? nearest(given, Object.keys(COMMANDS));
  return new UsageError(
    `unknown command "${given}"; ${meant === null ? '"dsm --help" lists them' : `did you mean "${meant}"?`}`,
  );
}

// biome-ignore lint/suspicious/noExplicitAny: a command of any arguments
async function runOne(command: Command<any>, rawArgs: string[], name: string): Promise<number> {
  const definitions = command.args;
  const takesProgram = command.takesProgram === true;
  const { own, program } = takesProgram ? splitProgram(rawArgs, definitions) : { own: rawArgs, program: [] };
  if (own.includes("--help") || own.includes("-h")) {
    await print(await (await import("./help/help.ts")).helpOf(name));
    return 0;
  }
  try {
    checkArguments(own, definitions);
    const aligned = alignPositionals(own, definitions);
    const { result } = await runCommand(command, { rawArgs: takesProgram ? [...aligned, "--", ...program] : aligned });
    return typeof result === "number" ? result : 0;
  } catch (error) {
    if (error instanceof UsageError && error.advised) throw error;
    if (error instanceof UsageError || (error instanceof Error && error.name === "CLIError")) {
      throw new UsageError(`${error.message}; see "dsm ${name} --help"`);
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
