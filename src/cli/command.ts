/** What every subcommand is: citty's definition and, beside it, what help, manual page and completion say of it. */
import type { ArgsDef, CommandContext } from "citty";

export interface Example {
  /** What the line does, in a few words. */
  does: string;
  /** A command line that works as it stands, but for names of hosts, sessions and files. */
  line: string;
}

export interface Manual {
  /** What the one-line description leaves out; a paragraph each. */
  details?: readonly string[];
  examples: readonly [Example, Example, ...Example[]];
  /** Exit codes that mean something else here than EXITS says, or are not among them. */
  exits?: Readonly<Record<string, string>>;
}

export interface Command<Args extends ArgsDef = ArgsDef> {
  meta: { name: string; description: string };
  args: Args;
  /** Set where the first argument that is no option, or "--", begins a program of the user's: see splitProgram(). */
  takesProgram?: true;
  manual: Manual;
  /** Returns the exit code. */
  run(context: CommandContext<Args>): Promise<number>;
}

/** The definition as it is, with the types of its arguments. */
export function command<const Args extends ArgsDef>(definition: Command<Args>): Command<Args> {
  return definition;
}

/** Exit codes that all commands share. */
export const EXITS: Readonly<Record<string, string>> = {
  "0": "It worked.",
  "1": "It did not; a line on stderr says why and what to do.",
  "2": "The command line itself is wrong; nothing was done.",
};
