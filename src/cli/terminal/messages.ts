/**
 * Messages to the person at the terminal, and logs of roles: one line each, on stderr, marked with the program's name.
 */
import { writeSync } from "node:fs";
import { createConsola } from "consola/core";
import { DsmError } from "../../core/base/errors.ts";
import { CONTROLS } from "../../core/base/names.ts";
import { wrongValue } from "../settings/options.ts";
import { checkStdout, unwritable } from "./stdout.ts";
import { isColoured, styled } from "./style.ts";

/** Colours of the program's name before the line. */
const COLOURS: { [type: string]: "red" | "yellow" } = { error: "red", warn: "yellow" };

/** Fields of every line beside its message where logs are JSON; null: they are text. */
let fields: { role: string; session?: string } | null = null;

/** Whether lines of text begin with the time. Those of JSON always have it. */
let hasTimes = false;

/** The option of commands that run for long. */
export const logFormatOption = {
  "log-format": {
    type: "string",
    description: "Messages on stderr: text, or json: an object a line",
    valueHint: "FORMAT",
    default: "text",
  },
} as const;

/** useLogFormat sets the form of all further messages. `session`: the session that all of them are about. */
export function useLogFormat(format: string, role: string, session?: string): void {
  if (format !== "text" && format !== "json") {
    throw wrongValue(`log format "${format}" is not possible; use text or json`);
  }
  if (format === "json") fields = { role, ...(session === undefined ? {} : { session }) };
}

/**
 * beginLog makes each further line of text begin with its time, in UTC. A role that was started by hand calls it once
 * it runs: errors of the start come plain, as those of every command do.
 */
export function beginLog(): void {
  hasTimes = true;
}

export const logsJson = (): boolean => fields !== null;

/** sessionMessage writes a message about one of the sessions of a role. */
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
        const time = entry.date.toISOString();
        const colour = isColoured(process.stderr) ? COLOURS[entry.type] : undefined;
        const line =
          fields === null
            ? `${hasTimes ? `${time} ` : ""}${colour === undefined ? "dsm:" : styled(colour, "dsm:")} ${text}`
            : JSON.stringify({ time, level: entry.type, ...fields, ...about, message: text });
        try {
          writeSync(2, `${line}\n`);
        } catch {
          // The reader of stderr has closed it: there is no other place to report to.
        }
      },
    },
  ],
});

/**
 * print writes a report to stdout and returns once it is written. It removes colours if stdout has none. Throws
 * DSM_SYSTEM when it cannot be written.
 */
export async function print(text: string): Promise<void> {
  checkStdout();
  const shown = isColoured(process.stdout) ? text : Bun.stripANSI(text).replace(/ +$/gm, "");
  try {
    await Bun.write(Bun.stdout, shown.endsWith("\n") ? shown : `${shown}\n`);
  } catch (error) {
    throw unwritable((error as Error).message);
  }
}

/** announce prints that a role runs, which it does whether or not the line can be written. */
export async function announce(text: string): Promise<void> {
  await print(text).catch((error) => {
    if (!(error instanceof DsmError)) throw error;
  });
}

export async function printJson(value: unknown): Promise<void> {
  await print(JSON.stringify(value, null, 2));
}
