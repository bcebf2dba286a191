/**
 * The fenced code blocks of a README, by which a test can run what its readers would.
 *
 * - ```` ```ts title="sum.ts" ````: a file. If the README's folder has it, the block shows it, and a line of `...` in a
 *   comment stands for lines left out; else the block is the file.
 * - ```` ```sh ````: commands that must succeed.
 * - ```` ```console ````: commands, each after `$ ` and going on after a `\`, and between them what they print. What
 *   differs from run to run stands in ‹›: a number for any number, else any text in a line. A line of `…` is any lines.
 *   `title="terminal 2"` is a shell of its own; `until` repeats the block's commands until they print what is shown;
 *   `running` goes on as soon as that is printed, and the last command runs on. The shell's next block begins with what
 *   else that command prints until it ends, or with `^C` to interrupt it.
 */
export interface Block {
  /** Of the opening fence, from 1. */
  line: number;
  language: string;
  title: string | undefined;
  flags: string[];
  text: string;
}

export interface Step {
  /** "": the one that is running. */
  command: string;
  /** Undefined: not shown. */
  output: string | undefined;
}

export function readBlocks(markdown: string): Block[] {
  const blocks: Block[] = [];
  let open: Block | undefined;
  let fence = "";
  for (const [index, line] of markdown.split("\n").entries()) {
    if (open !== undefined) {
      if (line.trim() === fence) open = undefined;
      else open.text += `${line}\n`;
      continue;
    }
    const [, ticks, info = ""] = /^ *(`{3,}|~{3,}) *(.*)$/.exec(line) ?? [];
    if (ticks === undefined) continue;
    fence = ticks;
    const [, language = "", rest = ""] = /^(\S*) *(.*)$/.exec(info) as RegExpExecArray;
    const title = /(?:^| )title="([^"]*)"/.exec(rest)?.[1];
    const flags = rest.replace(/(?:^| )title="[^"]*"/, "").split(" ");
    open = { line: index + 1, language, title, flags: flags.filter((flag) => flag !== ""), text: "" };
    blocks.push(open);
  }
  if (open !== undefined) throw new Error(`the block in line ${open.line} has no end`);
  return blocks;
}

/** The commands of a shell block. Those of `sh` stand alone, those of `console` with their output. */
export function readSteps({ language, text }: Block): Step[] {
  if (language === "sh") {
    const commands = text.trimEnd().replaceAll("\\\n", "").split("\n");
    return commands.filter((command) => command !== "").map((command) => ({ command, output: undefined }));
  }
  const steps: Step[] = [];
  let goesOn = false;
  for (const line of text.trimEnd().split("\n")) {
    const last = steps.at(-1);
    if (goesOn && last !== undefined) last.command += `\n${line}`;
    else if (line.startsWith("$ ")) steps.push({ command: line.slice(2), output: "" });
    else if (line === "^C") steps.push({ command: line, output: "" });
    else if (last === undefined) steps.push({ command: "", output: `${line}\n` });
    else last.output += `${line}\n`;
    goesOn = line.endsWith("\\") && (goesOn || line.startsWith("$ "));
  }
  return steps;
}

/** Whether a command has printed what the README shows. Columns may be wider or narrower. */
export function isShown(shown: string, printed: string): boolean {
  const lines = tidy(shown).map((line) => {
    if (line === "…") return "(?:[^\\n]*\\n)*";
    const parts = line.split(/‹([^›]*)›/).map((part, index) => {
      if (index % 2 === 0) return part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
      return /^-?[\d,]+(\.\d+)?$/.test(part) ? "-?[\\d,]+(?:\\.\\d+)?" : "[^\\n]+?";
    });
    return `${parts.join("")}\\n`;
  });
  const text = tidy(printed).map((line) => `${line}\n`);
  return new RegExp(`^${lines.join("")}$`).test(text.join(""));
}

function tidy(text: string): string[] {
  const trimmed = text.trimEnd();
  return trimmed === "" ? [] : trimmed.split("\n").map((line) => line.trimEnd().replace(/ {2,}/g, " "));
}

/**
 * Whether a block shows a file: all of it, or, with a `...` in a comment for what is left out, parts of it in their order,
 * which may stand farther left than in the file.
 */
export function isExcerpt(shown: string, file: string): boolean {
  const parts = shown
    .trimEnd()
    .split(/^[ \t]*(?:\/\/|\/\*|#) ?\.\.\.(?: ?\*\/)?[ \t]*\n?/m)
    .map((part) => part.replace(/^\n+|\n+$/g, ""));
  if (parts.length === 1) return parts[0] === file.trimEnd();
  // With a line's end before and after each line, so that only whole lines are found.
  const text = `\n${withoutIndentation(file.trimEnd())}\n`;
  let from = 0;
  for (const [index, part] of parts.entries()) {
    if (part === "") continue;
    const lines = `\n${withoutIndentation(part)}\n`;
    const at = index === parts.length - 1 ? text.lastIndexOf(lines) : text.indexOf(lines, from);
    if (at < from || (index === 0 && at !== 0)) return false;
    from = at + lines.length - 1;
  }
  return parts.at(-1) === "" || from === text.length - 1;
}

const withoutIndentation = (text: string): string => text.replace(/^[ \t]+/gm, "");
