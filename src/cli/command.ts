/** Command: the definition of a subcommand, for citty and for help, manual page and completion. */
import type { ArgsDef, CommandContext } from "citty";

export interface Example {
  /** The effect of the line, in a few words. */
  does: string;
  /** A command line that works as written, except for names of hosts, sessions and files. */
  line: string;
}

export interface Manual {
  /** Paragraphs that complete the one-line description. */
  details?: readonly string[];
  examples: readonly [Example, Example, ...Example[]];
  /** Exit codes that differ from EXITS or are not in it. */
  exits?: Readonly<Record<string, string>>;
}

export interface Command<Args extends ArgsDef = ArgsDef> {
  meta: { name: string; description: string };
  args: Args;
  /** True if the first argument that is not an option, or "--", begins a program of the user: see splitProgram(). */
  takesProgram?: true;
  manual: Manual;
  /** Returns the exit code. */
  run(context: CommandContext<Args>): Promise<number>;
}

/** command returns the definition unchanged, with the types of its arguments. */
export function command<const Args extends ArgsDef>(definition: Command<Args>): Command<Args> {
  return definition;
}

/** Exit codes that all commands share. */
export const EXITS: Readonly<Record<string, string>> = {
  "0": "It worked.",
  "1": "It did not; a line on stderr says why and what to do.",
  "2": "The command line, or a DSM_ variable, is wrong; nothing was done.",
};
