/** `npm run sizes`: the ten largest classes and files. test/structure.test.ts says how large they may be. */
import { join } from "node:path";
import { Glob } from "bun";
import { root } from "./steps.ts";

const SHOWN = 10;

export interface Class {
  name: string;
  lines: number;
  fields: string[];
}

/** The classes of a file that the formatter has formatted: a class ends with a brace at the indentation of its beginning. */
export function classesOf(text: string): Class[] {
  const lines = text.split("\n");
  return lines.flatMap((line, first) => {
    const [, indent, name] = /^(\s*)(?:export )?(?:default )?(?:abstract )?class (\w+)/.exec(line) ?? [];
    if (indent === undefined || name === undefined) return [];
    const count = lines.slice(first).indexOf(`${indent}}`) + 1;
    const member = new RegExp(
      `^${indent}  (?:(?:public|private|protected|static|readonly|override|declare) )*(#?\\w+)[!?]?(?:: | = |;)`,
    );
    const fields = lines.slice(first, first + count).flatMap((one) => member.exec(one)?.[1] ?? []);
    return [{ name, lines: count, fields }];
  });
}

/** Lines of a file. */
export const linesOf = (text: string): number => text.trimEnd().split("\n").length;

if (import.meta.main) {
  const files: [lines: number, words: string][] = [];
  const classes: [lines: number, words: string][] = [];
  const paths = ["src/**/*.ts", "native/src/**/*.[ch]"].flatMap((pattern) => [...new Glob(pattern).scanSync(root)]);
  for (const path of paths) {
    const text = await Bun.file(join(root, path)).text();
    files.push([linesOf(text), path]);
    if (!path.endsWith(".ts")) continue;
    for (const { name, lines, fields } of classesOf(text)) {
      classes.push([lines, `${name}, with ${fields.length} fields (${path})`]);
    }
  }
  for (const [title, all] of [
    ["classes", classes],
    ["files", files],
  ] as const) {
    console.log(`The largest ${title}, in lines:`);
    const largest = all.sort(([a], [b]) => b - a).slice(0, SHOWN);
    for (const [lines, words] of largest) console.log(`${String(lines).padStart(5)}  ${words}`);
  }
}
