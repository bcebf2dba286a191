/** Usage: a command as help, manual page and completion show it, derived from its definition. */
import type { ArgsDef } from "citty";
import { type Command, EXITS, type Manual } from "../command.ts";

export interface OptionUsage {
  /** The name as it is typed: "nodes" for --nodes, "no-autostart" for --no-autostart. */
  name: string;
  /** Its letter, if it has one. */
  letter?: string;
  /** Placeholder of its value; undefined for a flag. */
  hint?: string;
  description: string;
  /** Value that holds when it is left out. */
  fallback?: string;
}

export interface ArgumentUsage {
  /** In capitals; ends in "..." if any number may be given. */
  name: string;
  description: string;
  required: boolean;
}

export interface Usage {
  name: string;
  description: string;
  /** The text after "dsm NAME". */
  synopsis: string;
  arguments: ArgumentUsage[];
  options: OptionUsage[];
  takesProgram: boolean;
  manual: Manual;
  exits: [code: string, meaning: string][];
}

const HELP: OptionUsage = { name: "help", letter: "h", description: "Show this" };

export function usageOf(name: string, command: Command): Usage {
  const options: OptionUsage[] = [];
  const positionals: ArgumentUsage[] = [];
  for (const [key, definition] of Object.entries(command.args as ArgsDef)) {
    const description = definition.description ?? "";
    if (definition.type === "positional") {
      const required = definition.required !== false && definition.default === undefined;
      positionals.push({ name: definition.valueHint ?? key.toUpperCase(), description, required });
      continue;
    }
    if (definition.type === "boolean" && definition.default === true) {
      options.push({ name: `no-${key}`, description: definition.negativeDescription ?? `Not: ${description}` });
      continue;
    }
    const letter = ["alias" in definition ? (definition.alias ?? []) : []].flat().find((alias) => alias.length === 1);
    options.push({
      name: key,
      description,
      ...(letter === undefined ? {} : { letter }),
      ...(definition.type === "boolean" ? {} : { hint: definition.valueHint ?? key.toUpperCase() }),
      ...(definition.default === undefined ? {} : { fallback: String(definition.default) }),
    });
  }
  options.push(HELP);
  const takesProgram = command.takesProgram === true;
  const words = positionals.map((argument) => (argument.required ? argument.name : `[${argument.name}]`));
  return {
    ...{ name, takesProgram, options, arguments: positionals, manual: command.manual },
    description: command.meta.description,
    synopsis: ["[OPTIONS]", ...(takesProgram ? ["[--] PROGRAM [ARGS...]"] : words)].join(" "),
    exits: Object.entries({ ...EXITS, ...command.manual.exits }),
  };
}

/** optionLabel returns such as "-n, --processes <N>". */
export function optionLabel({ name, letter, hint }: OptionUsage): string {
  return `${letter === undefined ? "    " : `-${letter}, `}--${name}${hint === undefined ? "" : ` <${hint}>`}`;
}
