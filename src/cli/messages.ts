/** Messages to the person at the terminal: one line each, on stderr, marked with the program's name. */
import { writeSync } from "node:fs";
import { createConsola } from "consola/core";

export const messages = createConsola({
  reporters: [
    {
      log(entry) {
        const text = entry.args.map(String).join(" ").replaceAll("\n", " ");
        try {
          writeSync(2, `dsm: ${text}\n`);
        } catch {
          // Nobody reads: there is no other place to say so.
        }
      },
    },
  ],
});

/** Writes a report to stdout and returns once it is out. Colours are for terminals only. */
export async function print(text: string): Promise<void> {
  const shown = process.stdout.isTTY ? text : Bun.stripANSI(text).replace(/ +$/gm, "");
  await Bun.write(Bun.stdout, shown.endsWith("\n") ? shown : `${shown}\n`);
}

export async function printJson(value: unknown): Promise<void> {
  await print(JSON.stringify(value, null, 2));
}
