/** `dsm man`: the manual page, made from the definitions of the commands, in the macros of man(7). */
import { VERSION } from "../../core/base/limits.ts";
import { command, EXITS } from "../command.ts";
import { COMMANDS } from "../commands/commands.ts";
import { messages, print } from "../terminal/messages.ts";
import { optionText } from "./help.ts";
import { type OptionUsage, type Usage, usageOf } from "./usage.ts";
import { FILES, VARIABLES } from "./variables.ts";

/** Date of the last change of the page. The date of the build would make builds irreproducible. */
const DATE = "2026-11-30";
/** Longer lines of roff are bad style. */
const LINE_MAX = 76;

export default command({
  meta: { name: "man", description: "Show the manual, or print it as a page for man" },
  args: {
    roff: { type: "boolean", description: "Print the source of the page even on a terminal" },
  },
  manual: {
    details: ["dsm install puts the page where man finds it: man dsm."],
    examples: [
      { does: "Read the manual, with nothing installed", line: "dsm man" },
      { does: "Keep it as a file for man -l", line: "dsm man > dsm.1" },
    ],
  },
  async run({ args }) {
    const page = await manualPage();
    if (process.stdout.isTTY && !args.roff) {
      const man = Bun.which("man");
      if (man !== null) {
        const shown = Bun.spawn([man, "-l", "-"], { stdio: [new Blob([page]), "inherit", "inherit"] });
        return (await shown.exited) ?? 1;
      }
      messages.info('man is not installed, so here is the source of the page; "dsm COMMAND --help" has the same text');
    }
    await print(page);
    return 0;
  },
});

/** manualPage returns the source of dsm(1). */
export async function manualPage(): Promise<string> {
  const usages: Usage[] = [];
  for (const [name, load] of Object.entries(COMMANDS)) usages.push(usageOf(name, await load()));
  return [
    '.\\" Made by "dsm man" from the definitions of the commands.',
    `.TH DSM 1 ${DATE} "dsm ${VERSION}" "User Commands"`,
    ".SH NAME",
    "dsm \\- distributed shared memory: processes share one memory space",
    ".SH SYNOPSIS",
    ...[".B dsm", ".I COMMAND", "[OPTIONS] [ARGUMENTS]", ".br", ".B dsm", ".I COMMAND", ".B \\-\\-help"],
    ".SH DESCRIPTION",
    ...text(
      "Processes on one machine or on many share one memory space, and simply writing to it is the whole interface. dsm starts programs as the processes of a session, keeps the directory of sessions, and carries the library that C, C++, TypeScript and Python programs use.",
    ),
    ".PP",
    ...text("All commands that report have --json. Options that are not given are read from variables, see below."),
    ".SH COMMANDS",
    ...usages.flatMap(commandSection),
    ".SH EXIT STATUS",
    ...Object.entries(EXITS).flatMap(([code, meaning]) => [".TP", `.B ${code}`, ...text(meaning)]),
    ".PP",
    ...text("Where a command has others, they are listed with it."),
    ".SH ENVIRONMENT",
    ...VARIABLES.flatMap(([name, meaning]) => [".TP", `.B ${roff(name)}`, ...text(meaning)]),
    ".SH FILES",
    ...FILES.flatMap(([path, meaning]) => [".TP", `.I ${roff(path)}`, ...text(meaning)]),
    "",
  ].join("\n");
}

function commandSection(usage: Usage): string[] {
  const { name, manual } = usage;
  const own = Object.entries(manual.exits ?? {});
  return [
    `.SS dsm ${name} ${roff(usage.synopsis)}`,
    ...text(`${usage.description}.`),
    ...(manual.details ?? []).flatMap((paragraph) => [".PP", ...text(paragraph)]),
    ...usage.arguments.flatMap((argument) => [".TP", `.I ${roff(argument.name)}`, ...text(argument.description)]),
    ...usage.options.flatMap((option) => [".TP", optionTag(option), ...text(optionText(option))]),
    ...(own.length === 0 ? [] : [".PP", "Exit status:"]),
    ...own.flatMap(([code, meaning]) => [".TP", `.B ${roff(code)}`, ...text(meaning)]),
    ...manual.examples.flatMap(({ does, line }) => [
      ...[".PP", ...text(`${does}:`), ".PP", ".RS 4", ".EX"],
      ...[roff(line, true), ".EE", ".RE"],
    ]),
  ];
}

function optionTag({ name, letter, hint }: OptionUsage): string {
  const flags = [...(letter === undefined ? [] : [`-${letter}`]), `--${name}`].map((flag) => roff(flag, true));
  const parts = flags.flatMap((flag, index) => (index === 0 ? [flag] : ['", "', flag]));
  return hint === undefined
    ? `.BR ${parts.join(" ")}`
    : `.BI ${flags.join(", ").replaceAll(" ", "\\ ")} " ${roff(hint)}"`;
}

/** text returns lines of running text, each sentence on a line of its own, as is usual in roff. */
function text(words: string): string[] {
  return words
    .split(/(?<=[.:;?!]) (?=[A-Z])/)
    .flatMap((sentence) => Bun.wrapAnsi(sentence, LINE_MAX, { wordWrap: true }).split("\n"))
    .map((line) => roff(line));
}

const ESCAPES: Record<string, string> = { "\\": "\\e", "~": "\\(ti", "^": "\\(ha", "`": "\\(ga" };

/** roff escapes characters with a meaning in roff. In a command (`literal`) hyphens and quotes stay plain ASCII. */
function roff(words: string, literal = false): string {
  const escaped = words.replace(/[\\~^`]/g, (character) => ESCAPES[character] as string);
  const hyphens = literal
    ? escaped.replaceAll("-", "\\-").replaceAll("'", "\\(aq")
    : escaped.replace(/(?<=^|[\s("[])-{1,2}(?=\w)/g, (dashes) => "\\-".repeat(dashes.length));
  return hyphens.replace(/^([.'])/, "\\&$1");
}
