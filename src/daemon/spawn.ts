/** Starts the server of a session as a separate process, which outlives the daemon. */
import type { Subprocess } from "bun";
import { inheritedEnvironment } from "../core/launch/environment.ts";

const STDERR_KEPT = 4096;

export interface SpawnedServer {
  pid: number;
  /** Resolves with the reason in one line once the process has ended. */
  ended: Promise<string>;
  kill(signal: "SIGTERM" | "SIGKILL"): void;
}

/** SpawnOptions: a program, and how it is started. */
export interface SpawnOptions {
  /** Its name and arguments. */
  command: string[];
  /** The file of the program; left out: that of its name. */
  file?: string | undefined;
  /** Variables, besides those that are inherited. */
  environment: Record<string, string>;
  /** Gets the lines that it writes to stderr. */
  log(line: string): void;
}

/**
 * spawnServer starts the program in a process session of its own, without the terminal and with a minimal environment:
 * its parameters are arguments, its secrets are variables.
 */
export function spawnServer({ command, file, environment, log }: SpawnOptions): SpawnedServer {
  const [name, ...words] = command as [string, ...string[]];
  const child = Bun.spawn({
    cmd: [file ?? name, ...words],
    argv0: name,
    cwd: "/",
    env: { ...inheritedEnvironment(process.env), ...environment },
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
  const lastLine = readLines(child, log);
  const ended = child.exited.then(async () => {
    const said = await lastLine;
    if (said !== "") return said;
    return child.signalCode ? `it was ended by ${child.signalCode}` : `it ended with exit code ${child.exitCode}`;
  });
  return { pid: child.pid, ended, kill: (signal) => child.kill(signal) };
}

async function readLines(child: Subprocess<"ignore", "ignore", "pipe">, log: (line: string) => void): Promise<string> {
  const decoder = new TextDecoder();
  let last = "";
  let rest = "";
  for await (const chunk of child.stderr) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split("\n");
    rest = (lines.pop() as string).slice(-STDERR_KEPT);
    for (const line of lines) {
      if (line.trim() === "") continue;
      last = withoutName(line.slice(0, STDERR_KEPT));
      log(last);
    }
  }
  if (rest.trim() !== "") last = withoutName(rest);
  return last.trim();
}

/** withoutName removes the program's name before the line: the daemon's log adds its own. */
const withoutName = (line: string): string => line.replace(/^dsm: /, "");
