/** `dsm --help` and `dsm COMMAND --help`, as wide as the terminal. */
import { COMMANDS } from "../commands/commands.ts";
import { styled } from "../terminal/style.ts";
import { type OptionUsage, optionLabel, type Usage, usageOf } from "./usage.ts";

/** Limits of the width of lines: longer ones are hard to read, shorter ones leave no room for text. */
const WIDTH_MAX = 100;
const WIDTH_MIN = 40;
/** The description of a longer label begins on the next line. */
const LABEL_MAX = 28;

const width = (): number => Math.max(WIDTH_MIN, Math.min(WIDTH_MAX, process.stdout.columns || 80));

export async function generalHelp(): Promise<string> {
  const rows: [string, string][] = [];
  for (const [name, load] of Object.entries(COMMANDS)) rows.push([name, (await load()).meta.description]);
  return [
    ...paragraph("Distributed shared memory: processes on one machine or on many share one memory space."),
    ...heading("Usage"),
    `  ${styled("cyan", "dsm COMMAND [OPTIONS] [ARGUMENTS]")}`,
    ...heading("Commands"),
    ...columns(rows),
    ...heading("Options"),
    ...columns([
      ["-h, --help", "Show this; after a command, its options"],
      ["-v, --version", "Show the version"],
    ]),
    ...heading("Examples"),
    ...examples([
      { does: "Write a starter program, and run it as 4 processes on 2 simulated nodes", line: FIRST },
      { does: "Check whether this machine can run dsm", line: "dsm doctor" },
      { does: "Read the whole manual", line: "dsm man" },
    ]),
  ].join("\n");
}

const FIRST = "dsm init first --language ts && dsm run -n 4 --nodes 2 -- first/main.ts";

export function commandHelp(usage: Usage): string {
  const { name, manual } = usage;
  return [
    ...paragraph(`${usage.description}.`),
    ...(manual.details ?? []).flatMap((text) => ["", ...paragraph(text)]),
    ...heading("Usage"),
    `  ${styled("cyan", `dsm ${name} ${usage.synopsis}`)}`,
    ...(usage.arguments.length === 0 ? [] : heading("Arguments")),
    ...columns(usage.arguments.map((argument) => [argument.name, argument.description])),
    ...heading("Options"),
    ...columns(usage.options.map((option) => [optionLabel(option), optionText(option)])),
    ...heading("Examples"),
    ...examples(manual.examples),
    ...heading("Exit codes"),
    ...columns(usage.exits),
  ].join("\n");
}

export async function helpOf(name: string): Promise<string> {
  const load = COMMANDS[name] as (typeof COMMANDS)[string];
  return commandHelp(usageOf(name, await load()));
}

export function optionText({ description, fallback }: OptionUsage): string {
  return fallback === undefined ? description : `${description} (default: ${fallback})`;
}

const heading = (text: string): string[] => ["", styled(["bold", "underline"], text)];

function paragraph(text: string, columnsLeft = width()): string[] {
  return Bun.wrapAnsi(text, columnsLeft, { wordWrap: true, hard: false }).split("\n");
}

function columns(rows: [label: string, text: string][]): string[] {
  const widest = Math.max(0, ...rows.map(([label]) => label.length).filter((length) => length <= LABEL_MAX));
  const indent = " ".repeat(widest + 4);
  return rows.flatMap(([label, text]) => {
    const [first, ...rest] = paragraph(text, width() - indent.length) as [string, ...string[]];
    const shown = `  ${styled("cyan", label)}`;
    const below = rest.map((line) => indent + line);
    if (label.length > widest) return [shown, indent + first, ...below];
    return [`${shown}${" ".repeat(widest - label.length + 2)}${first}`, ...below];
  });
}

function examples(all: Usage["manual"]["examples"]): string[] {
  return all.flatMap(({ does, line }, index) => [
    ...(index === 0 ? [] : [""]),
    ...paragraph(does, width() - 4).map((text) => styled("dim", `  # ${text}`)),
    `  ${line}`,
  ]);
}
