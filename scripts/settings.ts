/**
 * What is generated from src/core/base/settings.ts: native/src/base/settings.h, names, limits and defaults for C, and the
 * table of variables in src/cli/README.md. Both are committed; `--check` fails when one is stale.
 */
import { join } from "node:path";
import { SETTINGS, type Setting, type SettingName, settingText } from "../src/core/base/settings.ts";
import { BuildError, replaceFile, root, runScript } from "./steps.ts";

const names = Object.keys(SETTINGS) as SettingName[];
const HEADER = join(root, "native/src/base/settings.h");
const CHAPTER = join(root, "src/cli/README.md");
const BEGIN = "<!-- Made by scripts/settings.ts from src/core/base/settings.ts: do not edit. -->";
const LINE_MAX = 118;
const END = "<!-- The end of what is made. -->";

/** DSM_ON_LOSS is SETTING_ON_LOSS: the name of the variable as a string, and SETTING_ON_LOSS_DEFAULT and so on. */
export function settingsHeader(): string {
  const lines = [
    "/* Settings: the variables' names, limits and defaults. Generated from src/core/base/settings.ts by scripts/settings.ts:",
    " * do not edit. */",
    "#ifndef DSM_SETTINGS_H",
    "#define DSM_SETTINGS_H",
  ];
  for (const name of names) {
    const { variable, kind, least, most, choices, fallback }: Setting = SETTINGS[name];
    const macro = variable.replace(/^DSM_/, "SETTING_");
    const number = (value: number): string => (value > 0xffffffff ? `${value}ull` : `${value}u`);
    lines.push("", `#define ${macro} "${variable}"`);
    if (least !== undefined) lines.push(`#define ${macro}_LEAST ${number(least)}`);
    if (most !== undefined) lines.push(`#define ${macro}_MOST ${number(most)}`);
    if (kind === "flag" || typeof fallback === "number") {
      lines.push(`#define ${macro}_DEFAULT ${number(Number(fallback))}`);
    } else if (fallback !== undefined) lines.push(`#define ${macro}_DEFAULT "${fallback}"`);
    if (choices !== undefined) lines.push(`#define ${macro}_CHOICES "${choices.join('", "')}"`);
  }
  lines.push("", "#endif", "");
  return lines.join("\n");
}

/** An entry for each setting that people may set: variable, option, meaning. Its lines are short enough for an editor. */
export function settingsTable(): string {
  const entries = names
    .filter((name) => (SETTINGS[name] as Setting).of !== "process")
    .map((name) => {
      const { variable, option, fallback }: Setting = SETTINGS[name];
      const form = option === undefined ? "" : `, \`--${fallback === true ? "no-" : ""}${option}\``;
      const lines = Bun.wrapAnsi(`\`${variable}\`${form}: ${settingText(name)}`, LINE_MAX, { wordWrap: true });
      return `- ${lines.replaceAll("\n", "\n  ")}`;
    });
  return entries.join("\n");
}

/** The chapter with its table as it must be. Throws BuildError when it has no place for one. */
export function withTable(chapter: string): string {
  const [before, , after] = chapter.split(new RegExp(`(?<=${BEGIN}\n)|(?=${END})`));
  if (before === undefined || after === undefined) throw new BuildError(`src/cli/README.md has no place for the table`);
  return `${before}\n${settingsTable()}\n\n${after}`;
}

const GENERATED: readonly { path: string; content: (now: string) => string }[] = [
  { path: HEADER, content: settingsHeader },
  { path: CHAPTER, content: withTable },
];

async function textOf(path: string): Promise<string> {
  const file = Bun.file(path);
  return (await file.exists()) ? await file.text() : "";
}

/** Whether what is generated is what the table says. */
export async function settingsAreFresh(): Promise<boolean> {
  for (const { path, content } of GENERATED) {
    const now = await textOf(path);
    if (now !== content(now)) return false;
  }
  return true;
}

/** Writes what is stale. */
export async function writeSettings(): Promise<void> {
  for (const { path, content } of GENERATED) {
    const now = await textOf(path);
    const fresh = content(now);
    if (now !== fresh) await replaceFile(path, fresh);
  }
}

if (import.meta.main) {
  await runScript(async () => {
    if (!process.argv.includes("--check")) return writeSettings();
    if (!(await settingsAreFresh())) {
      throw new BuildError(
        "native/src/base/settings.h or src/cli/README.md is stale: run `npm run build` and commit them.",
      );
    }
  });
}
