/** Candidates that complete a command line, from the definitions of the commands and the sessions of the daemon. */

import { ORDERS } from "../../core/base/consistency.ts";
import { counted } from "../../core/base/count.ts";
import { ON_LOSS } from "../../core/base/loss-policy.ts";
import { COMMANDS } from "../commands/commands.ts";
import { LANGUAGES } from "../install/projects.ts";
import { MANY, readDaemon } from "../settings/options.ts";
import { daemonClient } from "../user-daemon-client.ts";
import { SHELLS, type Shell } from "./shell-scripts.ts";
import { type Usage, usageOf } from "./usage.ts";

/** The user waits at the keyboard: a daemon that takes longer offers no names. */
const SESSIONS_TIMEOUT_MS = 700;

type Candidate = [word: string, description: string];

interface Completion {
  candidates: Candidate[];
  /** What the shell itself offers in addition. "program": names of executables, and files. */
  rest: "files" | "folders" | "program" | "none";
}

/** complete returns the candidates for the last of the words after `dsm`. */
export async function complete(shell: Shell, typed: readonly string[]): Promise<Completion> {
  const { words, cut } = shell === "bash" ? joinWords(typed) : { words: typed, cut: 0 };
  const all = await candidatesFor(words);
  const current = words.at(-1) ?? "";
  // bash and zsh complete only the text after "--order=", fish the whole word.
  const [, option = "", value = current] = /^(--[^=]+=)(.*)$/s.exec(current) ?? [];
  const taken = shell === "fish" ? "" : option;
  const candidates = all.candidates
    .filter(([word]) => word.startsWith(option === "" ? current : value))
    .map(([word, description]): Candidate => {
      const whole = option + word;
      return [whole.slice(Math.max(cut, taken.length)), description];
    });
  return { rest: all.rest, candidates };
}

/**
 * joinWords joins words that bash has split at "=" and ":".
 * @returns the words as they were typed; `cut`: length of the part of the last word that bash does not replace.
 */
function joinWords(typed: readonly string[]): { words: string[]; cut: number } {
  const words: string[] = [];
  let glue = false;
  let cut = 0;
  for (const [index, part] of typed.entries()) {
    const breaks = /^[=:]+$/.test(part);
    if ((glue || breaks) && index > 0) {
      const before = words.pop() as string;
      words.push(before + part);
      cut = breaks ? (before + part).length : before.length;
    } else {
      words.push(part);
      cut = 0;
    }
    glue = breaks;
  }
  return { words, cut };
}

async function candidatesFor(words: readonly string[]): Promise<Completion> {
  const before = words.slice(0, -1);
  const current = words.at(-1) ?? "";
  const [name, ...given] = before;
  if (name === undefined || (name === "help" && given.length === 0)) return commandNames(current);
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (load === undefined) return { candidates: [], rest: "none" };
  const usage = usageOf(name, await load());
  const { waiting, positionals, own } = readWords(usage, given);
  const inline = own ? /^--([^=]+)=/.exec(current)?.[1] : undefined;
  const hint = waiting ?? usage.options.find((option) => option.name === inline)?.hint;
  if (hint !== undefined) return values(hint, given);
  if (own && current.startsWith("-")) return { candidates: optionNames(usage, given), rest: "none" };
  if (usage.takesProgram) return { candidates: [], rest: positionals === 0 ? "program" : "files" };
  const last = usage.arguments.at(-1);
  const argument = usage.arguments[positionals] ?? (last?.name.endsWith(MANY) ? last : undefined);
  if (argument !== undefined) {
    const offered = await values(argument.name, given);
    const next = usage.arguments[positionals + 1];
    if (argument.required || next?.required !== true) return offered;
    // If the argument may be left out, the next one may stand in its place.
    const others = await values(next.name, given);
    return { candidates: [...offered.candidates, ...others.candidates], rest: others.rest };
  }
  return { candidates: own ? optionNames(usage, given) : [], rest: "none" };
}

/**
 * readWords returns the state after the given words. `waiting`: hint of an option that needs a value; `own`: options of
 * dsm may follow.
 */
function readWords(usage: Usage, given: readonly string[]): { waiting?: string; positionals: number; own: boolean } {
  let positionals = 0;
  let own = true;
  let waiting: string | undefined;
  for (const word of given) {
    if (waiting !== undefined) {
      waiting = undefined;
    } else if (own && word === "--") {
      own = false;
    } else if (own && /^-./.test(word)) {
      const option = usage.options.find(({ name, letter }) => word === `--${name}` || word === `-${letter}`);
      waiting = option?.hint;
    } else {
      positionals++;
      if (usage.takesProgram) own = false;
    }
  }
  return { positionals, own, ...(waiting === undefined ? {} : { waiting }) };
}

async function commandNames(current: string): Promise<Completion> {
  const candidates: Candidate[] = [];
  for (const [name, load] of Object.entries(COMMANDS)) candidates.push([name, (await load()).meta.description]);
  if (current.startsWith("-")) candidates.push(["--help", "Show the commands"], ["--version", "Show the version"]);
  return { candidates, rest: "none" };
}

function optionNames(usage: Usage, given: readonly string[]): Candidate[] {
  return usage.options
    .filter(({ name }) => !given.some((word) => word === `--${name}` || word.startsWith(`--${name}=`)))
    .map(({ name, description }): Candidate => [`--${name}`, description]);
}

/** values returns the candidates for a value with that hint. */
async function values(hint: string, given: readonly string[]): Promise<Completion> {
  const some = (words: readonly string[]): Completion => ({
    candidates: words.map((word): Candidate => [word, ""]),
    rest: "none",
  });
  switch (hint.replace(MANY, "")) {
    case "FILE":
    case "PATH":
      return { candidates: [], rest: "files" };
    case "DIR":
      return { candidates: [], rest: "folders" };
    case "ORDER":
      return some(ORDERS);
    case "POLICY":
      return some(ON_LOSS);
    case "LANGUAGE":
      return some(LANGUAGES);
    case "SHELL":
      return some(SHELLS);
    case "SESSION":
      return { candidates: await sessionNames(given), rest: "none" };
    default:
      return { candidates: [], rest: "none" };
  }
}

/** sessionNames asks the daemon that the words name, or the default one. It starts none; a failure gives no names. */
async function sessionNames(given: readonly string[]): Promise<Candidate[]> {
  const at = given.lastIndexOf("--daemon");
  const inline = given.findLast((word) => word.startsWith("--daemon="));
  const daemon = at >= 0 ? given[at + 1] : inline?.slice("--daemon=".length);
  const asked = async (): Promise<Candidate[]> => {
    const { address } = readDaemon(daemon);
    const sessions = await daemonClient({ address, autostart: false }).list();
    return sessions.map(
      ({ name, processes, order }): Candidate => [name, `${counted(processes, "process", "processes")}, ${order}`],
    );
  };
  return Promise.race([asked().catch(() => []), Bun.sleep(SESSIONS_TIMEOUT_MS).then(() => [])]);
}
