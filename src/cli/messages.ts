/** Messages to the person at the terminal: one line each, on stderr, marked with the program's name. */
import { writeSync } from "node:fs";
import { createConsola } from "consola/core";
import { DsmError } from "../core/errors.ts";
import { CONTROLS } from "../core/names.ts";
import { isColoured, styled } from "./style.ts";

/** Of the program's name before the line. */
const COLOURS: { [type: string]: "red" | "yellow" } = { error: "red", warn: "yellow" };

/** What every line has beside its message where logs are JSON; null: they are text. */
let fields: { role: string; session?: string } | null = null;

/** Of the roles that run for long. */
export const logFormatOption = {
  "log-format": {
    type: "string",
    description: "Messages on stderr: text, or json, an object a line",
    valueHint: "FORMAT",
    default: "text",
  },
} as const;

/** From here on messages are of that form. `session`: the one that they are about, if it is always the same. */
export function useLogFormat(format: string, role: string, session?: string): void {
  if (format !== "text" && format !== "json") {
    throw new DsmError("DSM_INVALID", `log format "${format}" is not possible; use text or json`);
  }
  if (format === "json") fields = { role, ...(session === undefined ? {} : { session }) };
}

export const logsJson = (): boolean => fields !== null;

/** One session of several that the role is about. */
export function sessionMessage(session: string, message: string): void {
  messages.info({ message, session });
}

export const messages = createConsola({
  reporters: [
    {
      log(entry) {
        const text = entry.args.map(String).join(" ").replace(CONTROLS, " ");
        const { session } = entry as { session?: string };
        const about = session === undefined ? {} : { session };
        const colour = isColoured(process.stderr) ? COLOURS[entry.type] : undefined;
        const line =
          fields === null
            ? `${colour === undefined ? "dsm:" : styled(colour, "dsm:")} ${text}`
            : JSON.stringify({ time: entry.date.toISOString(), level: entry.type, ...fields, ...about, message: text });
        try {
          writeSync(2, `${line}\n`);
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
