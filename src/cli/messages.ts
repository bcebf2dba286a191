/** Messages to the person at the terminal: one line each, on stderr, marked with the program's name. */
import { writeSync } from "node:fs";
import { createConsola } from "consola/core";
import { isColoured, styled } from "./style.ts";

/** Of the program's name before the line. */
const COLOURS: { [type: string]: "red" | "yellow" } = { error: "red", warn: "yellow" };

export const messages = createConsola({
  reporters: [
    {
      log(entry) {
        const text = entry.args.map(String).join(" ").replaceAll("\n", " ");
        try {
          const colour = isColoured(process.stderr) ? COLOURS[entry.type] : undefined;
          writeSync(2, `${colour === undefined ? "dsm:" : styled(colour, "dsm:")} ${text}\n`);
        } catch {
          // Nobody reads: there is no other place to say so.
        }
      },
    },
  ],
});

/** Writes a report to stdout and returns once it is out. Colours are taken out where none are wanted. */
export async function print(text: string): Promise<void> {
  const shown = isColoured(process.stdout) ? text : Bun.stripANSI(text).replace(/ +$/gm, "");
  await Bun.write(Bun.stdout, shown.endsWith("\n") ? shown : `${shown}\n`);
}

export async function printJson(value: unknown): Promise<void> {
  await print(JSON.stringify(value, null, 2));
}
