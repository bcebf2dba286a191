/**
 * What is generated from src/core/base/settings.ts: native/src/base/settings.h, names, limits and defaults for C, and the
 * lists of variables in src/cli/README.md and examples/reference/configuration.md. All are committed; `--check` fails
 * when one is stale.
 */
import { join } from "node:path";
import { SETTINGS, type Setting, type SettingName, settingText, TOPICS } from "../src/core/base/settings.ts";
import { BuildError, replaceFile, root, runScript } from "./steps.ts";

type Topic = keyof typeof TOPICS;

const names = Object.keys(SETTINGS) as SettingName[];
const HEADER = join(root, "native/src/base/settings.h");
const CHAPTER = join(root, "src/cli/README.md");
const REFERENCE = join(root, "examples/reference/configuration.md");
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

/** Settings that people may set. */
const settable = names.filter((name) => (SETTINGS[name] as Setting).of !== "process");

/** An entry for each of the settings: variable, option, meaning. Its lines are short enough for an editor. */
function settingsList(chosen: readonly SettingName[]): string {
  const entries = chosen.map((name) => {
    const { variable, option, fallback }: Setting = SETTINGS[name];
    const form = option === undefined ? "" : `, \`--${fallback === true ? "no-" : ""}${option}\``;
    const lines = Bun.wrapAnsi(`\`${variable}\`${form}: ${settingText(name)}`, LINE_MAX, { wordWrap: true });
    return `- ${lines.replaceAll("\n", "\n  ")}`;
  });
  return entries.join("\n");
}

/** The list of the command line's chapter: in the order of the table. */
const listOfAll = (): string => settingsList(settable);

/** The lists of the reference: one for each topic. */
function listsByTopic(): string {
  const topics = Object.keys(TOPICS) as Topic[];
  const lists = topics.map((topic) => settingsList(settable.filter((name) => SETTINGS[name].topic === topic)));
  return topics.map((topic, i) => `${TOPICS[topic]}\n\n${lists[i]}`).join("\n\n");
}

/** The document with what is made between its marks. Throws BuildError when it has none. */
function withMade(document: string, path: string, made: string): string {
  const [before, , after] = document.split(new RegExp(`(?<=${BEGIN}\n)|(?=${END})`));
  if (before === undefined || after === undefined) throw new BuildError(`${path} has no place for what is made`);
  return `${before}\n${made}\n\n${after}`;
}

export const chapterOf = (now: string): string => withMade(now, CHAPTER, listOfAll());
export const referenceOf = (now: string): string => withMade(now, REFERENCE, listsByTopic());

const GENERATED: readonly { path: string; content: (now: string) => string }[] = [
  { path: HEADER, content: settingsHeader },
  { path: CHAPTER, content: chapterOf },
  { path: REFERENCE, content: referenceOf },
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
        "settings.h, src/cli/README.md or configuration.md is stale: run `npm run build` and commit them.",
      );
    }
  });
}
