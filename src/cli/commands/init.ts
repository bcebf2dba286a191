/** `dsm init`: a program to begin with. What it writes is in ../install/projects.ts. */
import { existsSync, mkdirSync, rmdirSync, unlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { DsmError } from "../../core/base/errors.ts";
import { command } from "../command.ts";
import { LANGUAGE_NAMES, LANGUAGES, type Language, type Project, projectFor } from "../install/projects.ts";
import { jsonOption, UsageError, wrongValue } from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";

const CHOICES = `${LANGUAGES.slice(0, -1).join(", ")} or ${LANGUAGES.at(-1)}`;

export default command({
  meta: { name: "init", description: "Write a starter program: TypeScript, C or Python" },
  args: {
    folder: {
      type: "positional",
      required: false,
      description: "Folder for it; made if it does not exist (default: this one)",
      valueHint: "DIR",
    },
    language: {
      type: "string",
      alias: "l",
      description: `${CHOICES}; asked for on a terminal`,
      valueHint: "LANGUAGE",
    },
    ...jsonOption,
  },
  manual: {
    details: [
      "Writes a program that runs, its types or Makefile, and a README.md. It overwrites no file: if one of them exists, it writes nothing at all.",
    ],
    examples: [
      { does: "TypeScript, in a new folder", line: "dsm init first --language ts" },
      { does: "C, here", line: "dsm init --language c" },
      { does: "Python", line: "dsm init first --language python && cd first && dsm run -n 4 -- main.py" },
    ],
  },
  async run({ args }) {
    const language = await chooseLanguage(args.language);
    if (language === null) return 130;
    const given = args.folder ?? ".";
    const folder = resolve(given);
    const project = await projectFor(language);
    write(folder, project);
    const steps = [...(folder === process.cwd() ? [] : [`cd ${quoted(given)}`]), project.command];
    if (args.json) await printJson({ folder, language, files: Object.keys(project.files), next: steps });
    else {
      const listed = Object.keys(project.files).join(", ");
      await print(`a ${LANGUAGE_NAMES[language]} project in ${folder}: ${listed}\n\n${steps.map(indented).join("\n")}`);
    }
    return 0;
  },
});

const indented = (line: string): string => `  ${line}`;

const quoted = (word: string): string => (/^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** chooseLanguage returns the language; null if the user was asked and cancelled. */
async function chooseLanguage(given: string | undefined): Promise<Language | null> {
  if (given !== undefined) {
    const language = LANGUAGES.find((name) => name === given.toLowerCase());
    if (language !== undefined) return language;
    throw wrongValue(`there is no project for language "${given}"; choose ${CHOICES}`);
  }
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new UsageError(`the language is missing; give --language ${CHOICES}`);
  }
  const { consola } = await import("consola");
  const answer = await consola.prompt("Which language?", {
    type: "select",
    options: LANGUAGES.map((value) => ({ value, label: LANGUAGE_NAMES[value] })),
    cancel: "null",
  });
  return answer as Language | null;
}

/** write writes all files, or none. */
function write(folder: string, { files }: Project): void {
  const paths = Object.keys(files).map((name) => join(folder, name));
  const there = paths.find((path) => existsSync(path));
  if (there !== undefined) throw new DsmError("DSM_INVALID", `${there} already exists; choose another folder`);
  const written: string[] = [];
  let made: string | undefined;
  try {
    made = mkdirSync(folder, { recursive: true });
    for (const [name, text] of Object.entries(files)) {
      const path = join(folder, name);
      writeFileSync(path, text, { flag: "wx" });
      written.push(path);
    }
  } catch (error) {
    for (const path of written) unlinkSync(path);
    if (made !== undefined) removeEmptyDown(made, folder);
    const { code, path } = error as { code?: string; path?: string };
    throw new DsmError("DSM_SYSTEM", `${path ?? folder} cannot be written: ${code}; choose another folder`);
  }
}

/** removeEmptyDown removes `folder` and its parents up to `first`, all of which this command made. */
function removeEmptyDown(first: string, folder: string): void {
  try {
    for (let path = folder; path.startsWith(first); path = resolve(path, "..")) rmdirSync(path);
  } catch {
    // Another program has put something there meanwhile.
  }
}
